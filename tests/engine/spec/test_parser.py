"""Tests of parsing specs: their accepted forms, their problems, and their hash."""

from typing import Any

import pytest

from engine.spec.desugar import PASSES
from engine.spec.identity import normalise, spec_hash
from engine.spec.model import END, Concurrency, EdgeSpec, Join, OnError, Retry, SpecError
from engine.spec.parser import parse
from engine.spec.raw import concurrency_of
from engine.states import OnLimit

NODES = [{"id": "a", "type": "start"}, {"id": "b", "type": "end"}]


def edges_of(raw: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(edge.source, edge.target, edge.port) for edge in parse(raw).edges]


def test_every_field_of_a_node_is_parsed() -> None:
    node = {
        "id": "a",
        "type": "transform",
        "label": "A",
        "config": {"output": 1},
        "position": {"x": 1, "y": 2},
        "retry": {"maxAttempts": 5, "backoffS": 0.5, "multiplier": 3, "maxS": 9, "on": ["CODE"]},
        "timeoutS": 30,
        "onError": "branch",
        "join": "any",
        "maxVisits": 7,
    }
    parsed = parse({"nodes": [node], "edges": [], "outputs": {"x": "{{ a.output }}"}}).nodes[0]
    assert parsed.retry == Retry(5, 0.5, 3, 9, frozenset({"CODE"}))
    assert (parsed.timeout_s, parsed.on_error, parsed.join, parsed.max_visits) == (30, OnError.BRANCH, Join.ANY, 7)
    assert (parsed.label, parsed.position) == ("A", {"x": 1, "y": 2})


def test_the_short_forms_of_position_and_names_are_parsed() -> None:
    raw = {
        "nodes": [
            {"id": "a", "type": "transform", "label": "A", "x": 10, "y": 20.5, "on_error": "continue", "config": {}},
        ],
        "edges": [{"source": "__start__", "target": "a"}, {"source": "a", "target": "__end__", "condition": "1 > 0"}],
    }
    spec = parse(raw)
    assert spec.nodes[0].position == {"x": 10, "y": 20.5}
    assert spec.nodes[0].on_error is OnError.CONTINUE
    assert spec.edges[1] == EdgeSpec("a->__end__", "a", END, None, "1 > 0")


def conditional(**config: Any) -> list[dict[str, Any]]:
    return [{"id": "c", "type": "conditional", "config": {"condition": "true", **config}}, *NODES]


@pytest.mark.parametrize(
    ("nodes", "edges", "expected"),
    [
        (conditional(true_edge="a", false_edge="b"), [], [("c", "a", "true"), ("c", "b", "false")]),
        (conditional(true_edge="a"), [{"source": "c", "target": "a"}], [("c", "a", "true")]),
        (conditional(true_edge="e9"), [{"id": "e9", "source": "c", "target": "b"}], [("c", "b", "true")]),
        (conditional(true_edge="a"), [{"source": "c", "target": "a", "port": "true"}], [("c", "a", "true")]),
        (conditional(true_edge="a", false_edge="a"), [{"source": "c", "target": "a"}], [("c", "a", None)]),
        (conditional(true_edge="__end__"), [], [("c", "__end__", "true")]),
        (conditional(true_edge="a", false_edge=[]), [], [("c", "a", "true")]),
    ],
)
def test_true_edge_and_false_edge_become_edges(nodes: Any, edges: Any, expected: Any) -> None:
    assert edges_of({"nodes": nodes, "edges": edges}) == expected


def test_a_conditional_may_have_its_fields_outside_of_its_config() -> None:
    raw = {"nodes": [{"id": "c", "type": "conditional", "condition": "true", "true_edge": "a"}, *NODES]}
    assert parse(raw).nodes[0].config == {"condition": "true", "true_edge": "a"}
    assert edges_of(raw) == [("c", "a", "true")]


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (None, ""),
        ([], ""),
        ({}, "nodes"),
        ({"nodes": 5}, "nodes"),
        ({"nodes": [], "edges": {}}, "edges"),
        ({"nodes": [7]}, "nodes[0]"),
        ({"nodes": [{"id": "a"}]}, "nodes[0].type"),
        ({"nodes": [{"id": 1, "type": "start"}]}, "nodes[0].id"),
        ({"nodes": [{"id": "a", "type": "start", "onError": "explode"}]}, "nodes[0].onError"),
        ({"nodes": [{"id": "a", "type": "start", "retry": {"maxAttempts": "5"}}]}, "nodes[0].retry.maxAttempts"),
        ({"nodes": [{"id": "a", "type": "start", "timeoutS": -1}]}, "nodes[0].timeoutS"),
        ({"nodes": NODES, "edges": [{"source": "a"}]}, "edges[0].target"),
        ({"nodes": NODES, "inputs": "x"}, "inputs"),
    ],
)
def test_a_value_of_the_wrong_form_is_a_problem_with_its_path(raw: Any, field: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(raw)
    assert [problem.field for problem in error.value.problems] == [field]


def test_all_problems_of_form_are_reported_at_once() -> None:
    with pytest.raises(SpecError) as error:
        parse({"nodes": [{"id": "a"}, {"type": "start"}], "edges": [{"target": "a"}, 3]})
    assert {problem.field for problem in error.value.problems} == {
        "nodes[0].type",
        "nodes[1].id",
        "edges[0].source",
        "edges[1]",
    }


def test_the_hash_ignores_fields_for_display_and_the_order_of_keys() -> None:
    plain = {"nodes": [{"id": "a", "type": "start", "config": {"k": 1, "l": 2}}], "edges": []}
    with_display_fields = {
        "edges": [],
        "viewport": {"zoom": 2},
        "nodes": [{"config": {"l": 2, "k": 1}, "label": "L", "x": 4, "position": {"x": 1}, "type": "start", "id": "a"}],
    }
    other = {"nodes": [{"id": "a", "type": "start", "config": {"k": 1, "l": 3}}], "edges": []}
    assert spec_hash(plain) == spec_hash(with_display_fields) != spec_hash(other)
    assert len(spec_hash(plain)) == 64


def test_edges_without_ids_get_stable_and_unique_ids() -> None:
    edge = {"source": "a", "target": "b"}
    raw = {"nodes": NODES, "edges": [edge, edge, {**edge, "id": "a->b"}, {**edge, "port": "p"}]}
    normal = normalise(raw)
    assert [edge["id"] for edge in normal["edges"]] == ["a->b#2", "a->b#3", "a->b", "a:p->b"]
    assert normalise(normal) is normal
    assert spec_hash(raw) == spec_hash(normal)
    assert [edge.id for edge in parse(raw).edges] == [edge["id"] for edge in normal["edges"]]


@pytest.mark.parametrize("raw", [None, 3, [], {}, {"edges": 5}, {"edges": [1, None]}, {"nodes": [1], "edges": [{}]}])
def test_any_json_can_be_hashed_and_normalised(raw: Any) -> None:
    normalise(raw)
    assert len(spec_hash(raw)) == 64


def spec_with_limit(concurrency: Any) -> dict[str, Any]:
    return {"nodes": NODES, "edges": [], "concurrency": concurrency}


def test_a_concurrency_limit_is_parsed_and_part_of_the_hash() -> None:
    assert parse(spec_with_limit({"limit": 3})).concurrency == Concurrency(3, OnLimit.QUEUE)
    assert parse(spec_with_limit({"limit": 1, "onLimit": "cancelOldest"})).concurrency == Concurrency(
        1, OnLimit.CANCEL_OLDEST
    )
    assert parse(spec_with_limit(None)).concurrency is None
    assert concurrency_of(spec_with_limit({"limit": 1, "on_limit": "reject"})) == Concurrency(1, OnLimit.REJECT)
    assert concurrency_of({"nodes": NODES}) is None
    assert (
        spec_hash(spec_with_limit({"limit": 3}))
        != spec_hash(spec_with_limit({"limit": 4}))
        != spec_hash(spec_with_limit(None))
    )


@pytest.mark.parametrize(
    ("concurrency", "field"),
    [
        ({"limit": 0}, "concurrency.limit"),
        ({"limit": "3"}, "concurrency.limit"),
        ({"limit": True}, "concurrency.limit"),
        ({}, "concurrency.limit"),
        ({"limit": 1, "onLimit": "explode"}, "concurrency.onLimit"),
        ({"limit": 1, "onlimit": "queue"}, "concurrency.onlimit"),
        (3, "concurrency"),
    ],
)
def test_an_invalid_concurrency_limit_is_a_problem_with_its_path(concurrency: Any, field: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(spec_with_limit(concurrency))
    assert [problem.field for problem in error.value.problems] == [field]


def test_an_end_without_an_output_gets_the_nodes_before_it() -> None:
    nodes = [
        {"id": "a", "type": "start"},
        {"id": "x", "type": "end"},
        {"id": "y", "type": "end", "config": {"output": 1}},
    ]
    edges = [{"source": "a", "target": "x", "condition": "1"}, {"source": "a", "target": "y"}]
    _, without_output, with_output = parse({"nodes": nodes, "edges": edges}).nodes
    assert without_output.config == {PASSES: [{"id": "a", "is_choice": True, "seen": 'nodes["a"]'}]}
    assert with_output.config == {"output": 1}
