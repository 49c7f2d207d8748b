"""The steps of a plan: each node at the length of the longest path from the start."""

from typing import Any

import pytest

from engine.graph.plan import make_plan
from engine.spec.parser import parse
from tests.executor_worker import edges, node

CASES: dict[str, tuple[str, list[list[str]]]] = {
    "a chain": ("a>b b>c", [["a"], ["b"], ["c"]]),
    "branches of different lengths that join": ("a>b b>c a>d c>d", [["a"], ["b"], ["c"], ["d"]]),
    "an edge over a longer path, listed first": ("a>d a>b b>c c>d", [["a"], ["b"], ["c"], ["d"]]),
    "a back edge before the edge that leaves the loop": ("a>b b>a b>c", [["a"], ["b"], ["c"]]),
    "a back edge between two edges": ("s>a a>c a>a a>b b>c", [["s"], ["a"], ["b"], ["c"]]),
    "ids that sort before that of the start": ("A>b b>0 0>c c>d", [["A"], ["b"], ["0"], ["c"], ["d"]]),
    "nested loops": ("a>b b>b b>a b>c c>d", [["a"], ["b"], ["c"], ["d"]]),
    "two starts": ("__start__>a __start__>b a>c b>c", [["a", "b"], ["c"]]),
    "a start that another edge enters as well": ("__start__>a __start__>b a>b", [["a"], ["b"]]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_node_is_at_the_length_of_its_longest_path(name: str) -> None:
    text, steps = CASES[name]
    arrows: list[dict[str, Any]] = edges(text)
    names = sorted({end for edge in arrows for end in (edge["source"], edge["target"])} - {"__start__"})
    conditions = [{**edge, "condition": "true"} if edge["target"] <= edge["source"] else edge for edge in arrows]
    plan = make_plan(parse({"nodes": [node(one) for one in names], "edges": conditions}))
    assert [sorted(step) for step in plan.steps] == steps
