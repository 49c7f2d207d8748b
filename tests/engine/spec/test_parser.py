"""The shapes a spec may have, and when two specs are the same."""

from typing import Any

import pytest

from engine.spec.desugar import PASSES
from engine.spec.identity import normalise, spec_hash
from engine.spec.model import END, Concurrency, EdgeSpec, Join, OnError, Retry, SpecError
from engine.spec.parser import parse
from engine.spec.raw import concurrency_of
from engine.states import OnLimit

NODES = [{"id": "a", "type": "start"}, {"id": "b", "type": "end"}]


def ends(raw: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(edge.source, edge.target, edge.port) for edge in parse(raw).edges]


def test_the_full_shape_is_read() -> None:
    node = {
        "id": "a",
        "type": "transform",
        "label": "A",
        "config": {"output": 1},
        "position": {"x": 1, "y": 2},
        "retry": {"maxAttempts": 5, "backoffS": 0.5, "multiplier": 3, "maxS": 9},
        "timeoutS": 30,
        "onError": "branch",
        "join": "any",
        "maxVisits": 7,
    }
    read = parse({"nodes": [node], "edges": [], "outputs": {"x": "{{ a.output }}"}}).nodes[0]
    assert read.retry == Retry(5, 0.5, 3, 9)
    assert (read.timeout_s, read.on_error, read.join, read.max_visits) == (30, OnError.BRANCH, Join.ANY, 7)
    assert (read.label, read.position) == ("A", {"x": 1, "y": 2})


def test_the_common_shape_is_read() -> None:
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
    ],
)
def test_true_edge_and_false_edge_mean_edges(nodes: Any, edges: Any, expected: Any) -> None:
    assert ends({"nodes": nodes, "edges": edges}) == expected


def test_a_conditional_may_carry_its_fields_itself() -> None:
    raw = {"nodes": [{"id": "c", "type": "conditional", "condition": "true", "true_edge": "a"}, *NODES]}
    assert parse(raw).nodes[0].config == {"condition": "true", "true_edge": "a"}
    assert ends(raw) == [("c", "a", "true")]


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
def test_an_impossible_shape_is_refused_with_its_place(raw: Any, field: str) -> None:
    with pytest.raises(SpecError) as wrong:
        parse(raw)
    assert [problem.field for problem in wrong.value.problems] == [field]


def test_every_problem_of_shape_is_said_at_once() -> None:
    with pytest.raises(SpecError) as wrong:
        parse({"nodes": [{"id": "a"}, {"type": "start"}], "edges": [{"target": "a"}, 3]})
    assert {problem.field for problem in wrong.value.problems} == {
        "nodes[0].type",
        "nodes[1].id",
        "edges[0].source",
        "edges[1]",
    }


def test_the_hash_is_over_what_runs() -> None:
    plain = {"nodes": [{"id": "a", "type": "start", "config": {"k": 1, "l": 2}}], "edges": []}
    drawn = {
        "edges": [],
        "viewport": {"zoom": 2},
        "nodes": [{"config": {"l": 2, "k": 1}, "label": "L", "x": 4, "position": {"x": 1}, "type": "start", "id": "a"}],
    }
    other = {"nodes": [{"id": "a", "type": "start", "config": {"k": 1, "l": 3}}], "edges": []}
    assert spec_hash(plain) == spec_hash(drawn) != spec_hash(other)
    assert len(spec_hash(plain)) == 64


def test_edges_get_ids_that_are_stable_and_unique() -> None:
    edge = {"source": "a", "target": "b"}
    raw = {"nodes": NODES, "edges": [edge, edge, {**edge, "id": "a->b"}, {**edge, "port": "p"}]}
    named = normalise(raw)
    assert [edge["id"] for edge in named["edges"]] == ["a->b#2", "a->b#3", "a->b", "a:p->b"]
    assert normalise(named) is named
    assert spec_hash(raw) == spec_hash(named)
    assert [edge.id for edge in parse(raw).edges] == [edge["id"] for edge in named["edges"]]


@pytest.mark.parametrize("raw", [None, 3, [], {}, {"edges": 5}, {"edges": [1, None]}, {"nodes": [1], "edges": [{}]}])
def test_hash_and_normalise_take_any_json(raw: Any) -> None:
    normalise(raw)
    assert len(spec_hash(raw)) == 64


def limited(concurrency: Any) -> dict[str, Any]:
    return {"nodes": NODES, "edges": [], "concurrency": concurrency}


def test_a_limit_on_runs_is_read_and_part_of_what_runs() -> None:
    assert parse(limited({"limit": 3})).concurrency == Concurrency(3, OnLimit.QUEUE)
    assert parse(limited({"limit": 1, "onLimit": "cancelOldest"})).concurrency == Concurrency(1, OnLimit.CANCEL_OLDEST)
    assert parse(limited(None)).concurrency is None
    assert concurrency_of(limited({"limit": 1, "on_limit": "reject"})) == Concurrency(1, OnLimit.REJECT)
    assert concurrency_of({"nodes": NODES}) is None
    assert spec_hash(limited({"limit": 3})) != spec_hash(limited({"limit": 4})) != spec_hash(limited(None))


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
def test_a_limit_that_is_none_says_where(concurrency: Any, field: str) -> None:
    with pytest.raises(SpecError) as wrong:
        parse(limited(concurrency))
    assert [problem.field for problem in wrong.value.problems] == [field]


def test_an_end_knows_what_leads_to_it_unless_it_has_an_output() -> None:
    nodes = [
        {"id": "a", "type": "start"},
        {"id": "x", "type": "end"},
        {"id": "y", "type": "end", "config": {"output": 1}},
    ]
    edges = [{"source": "a", "target": "x", "condition": "1"}, {"source": "a", "target": "y"}]
    _, silent, outspoken = parse({"nodes": nodes, "edges": edges}).nodes
    assert silent.config == {PASSES: [{"id": "a", "is_choice": True, "seen": 'nodes["a"]'}]}
    assert outspoken.config == {"output": 1}
