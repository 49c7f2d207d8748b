"""The forms of the field `join`."""

from typing import Any

import pytest

from engine.spec.model import Join
from engine.spec.parser import parse, parse_with_problems

FORMS: dict[str, tuple[Any, tuple[Join, bool]]] = {
    "all": ("all", (Join.ALL, False)),
    "any": ("any", (Join.ANY, False)),
    "an object": ({"mode": "any"}, (Join.ANY, False)),
    "an object of the default mode": ({"mode": "all", "cancelOthers": False}, (Join.ALL, False)),
    "cancelOthers": ({"mode": "any", "cancelOthers": True}, (Join.ANY, True)),
    "cancel_others": ({"mode": "any", "cancel_others": True}, (Join.ANY, True)),
}
WRONG: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "an unknown mode": ("some", [("nodes[0].join", "'all' or 'any'")]),
    "an unknown mode in an object": (
        {"mode": "some"},
        [("nodes[0].join.mode", "'all' or 'any'")],
    ),
    "no mode": ({"cancelOthers": True}, [("nodes[0].join.mode", "is required")]),
    "a typo": ({"mode": "any", "cancelOther": True}, [("nodes[0].join.cancelOther", "is not a known field")]),
    "cancelOthers with `all`": (
        {"mode": "all", "cancelOthers": True},
        [
            (
                "nodes[0].join",
                "`cancelOthers` needs the mode `any`: a join of all branches waits for each of them",
            )
        ],
    ),
    "a number": (3, [("nodes[0].join", "must be an object")]),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_join_is_a_text_or_an_object(name: str) -> None:
    join, expected = FORMS[name]
    [node] = parse({"nodes": [{"id": "a", "type": "transform", "join": join}]}).nodes
    assert (node.join, node.cancels_others) == expected


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_join_is_a_problem_at_its_place(name: str) -> None:
    join, expected = WRONG[name]
    result = parse_with_problems({"nodes": [{"id": "a", "type": "transform", "join": join}]})
    assert [problem.field for problem in result.problems] == [place for place, _ in expected]
    assert all(text in problem.message for problem, (_, text) in zip(result.problems, expected, strict=True))
