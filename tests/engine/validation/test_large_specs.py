"""Validation time of the largest and the most expensive specs, and the limits of their size."""

import time
from itertools import pairwise
from typing import Any

import pytest

from engine.validation.validator import ValidationReport, validate
from tests.engine.node_runner import TYPES
from tests.engine.spec_builders import edge, node, problems_of, spec


def test_a_thousand_nodes_validate_in_a_fraction_of_a_second() -> None:
    nodes = [node("n0"), *(node(f"n{i}", f"{{{{ n{i - 1}.output + 1 }}}}") for i in range(1, 1000))]
    raw = spec(nodes, [edge(f"{a['id']}>{b['id']}") for a, b in pairwise(nodes)])
    took = []
    for _ in range(3):  # the best of three, since other programs may run on the machine
        started = time.process_time()
        assert validate(raw, TYPES).ok
        took.append(time.process_time() - started)
    assert min(took) < 0.2


def large_graph() -> dict[str, Any]:
    """Return 1,000 nodes and 10,000 edges, the maximum; every third edge has a condition."""
    pairs = [(i, i + 1) for i in range(999)] + [(i % 990, i % 990 + 2 + i % 8) for i in range(9_001)]
    condition = {"condition": "n{}.output.v > {}"}
    edges = [
        edge(f"n{a}>n{b}", **({"condition": condition["condition"].format(a, at)} if at % 3 == 0 else {}))
        for at, (a, b) in enumerate(pairs)
    ]
    nodes = [node(f"n{i}", {"v": f"{{{{ n{i - 1}.output.v + 1 }}}}"} if i else {"v": 1}) for i in range(1000)]
    return spec(nodes, edges)


LARGEST = 1024 * 1024 - 1000
LARGE: dict[str, Any] = {
    "graph": large_graph(),
    "prose": spec([node("a", "{{ run.id }} " + "lorem ipsum " * (LARGEST // 12))]),
    "code": spec([node("a", "{{ input.x }}, " * (LARGEST // 16))]),
    "lines": spec([node("a", "{% if input %}x{% endif %}\n" * (LARGEST // 30))]),
}


@pytest.mark.parametrize("raw", LARGE.values(), ids=LARGE.keys())
def test_the_largest_spec_validates_quickly(raw: Any) -> None:
    began = time.process_time()
    report = validate(raw, TYPES)
    # About 150 ms on an idle machine; the rest is for a busy one.
    assert time.process_time() - began < 1.2
    assert report.errors == []


@pytest.mark.parametrize(
    "condition",
    ["1" + " + 1" * 100_000, "{{" * 100_000, "{{" + "'\\" * 100_000, "(" * 200_000, "not " * 100_000 + "1"],
    ids=["sum", "braces", "quotes", "parentheses", "not"],
)
def test_endless_code_is_a_problem_and_neither_a_crash_nor_a_wait(condition: str) -> None:
    raw = spec([{"id": "c", "type": "conditional", "config": {"condition": condition}}])
    began = time.process_time()
    assert problems_of(raw) == {("nodes[0].config.condition", "TEMPLATE")}
    assert time.process_time() - began < 0.6


def chain(*more: dict[str, Any]) -> dict[str, Any]:
    edges = [edge("s>n0"), *(edge(f"n{i}>n{i + 1}") for i in range(998)), *more]
    return spec([{"id": "s", "type": "start"}, *(node(f"n{i}") for i in range(999))], edges)


SLOW_GRAPHS: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "loops in loops": (
        chain(*(edge(f"n998>n{i}", condition="1") for i in range(998))),
        {("edges", "LOOP_DEPTH"), ("nodes[0]", "NO_OUTPUT")},
    ),
    "many ports": (
        spec(
            [
                {
                    "id": "s",
                    "type": "switch",
                    "config": {"cases": [{"port": f"p{i}", "condition": "1"} for i in range(9_000)]},
                },
                {"id": "t", "type": "end"},
            ],
            [edge("s>t", port=f"p{i}") for i in range(9_000)],
        ),
        {("nodes[0].config.default", "NO_DEFAULT")},
    ),
    "many conditionals": (
        spec(
            [
                {"id": f"c{i}", "type": "conditional", "config": {"condition": "1", "true_edge": f"c{i + 1}"}}
                for i in range(999)
            ]
            + [{"id": "c999", "type": "end"}],
            [edge("c0>c999", condition="1") for _ in range(8_000)],
        ),
        set(),
    ),
}


@pytest.mark.parametrize(("raw", "expected"), SLOW_GRAPHS.values(), ids=SLOW_GRAPHS.keys())
def test_no_graph_takes_long_to_validate(raw: Any, expected: set[tuple[str, str]]) -> None:
    began = time.process_time()
    assert problems_of(raw) == expected
    assert time.process_time() - began < 0.8


def test_the_number_of_templates_is_limited() -> None:
    def with_texts(count: int) -> ValidationReport:
        return validate({"nodes": [{"id": "a", "type": "transform", "config": {"output": ["{{1}}"] * count}}]}, TYPES)

    assert with_texts(20_000).ok
    [problem] = with_texts(20_001).errors
    assert problem.code == "LIMIT" and "20,000 templates" in problem.message
