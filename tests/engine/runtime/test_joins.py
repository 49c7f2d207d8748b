"""Joins, dead branches and loops: each node runs or is skipped in each round, and no run hangs."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.states import NodeStatus, RunStatus
from tests.engine.memory_ports import RecordedJournal, play

RAN, SKIPPED = NodeStatus.COMPLETED, NodeStatus.SKIPPED


def graph(edges: str, choices: dict[str, str] | None = None, **node_fields: dict[str, Any]) -> dict[str, Any]:
    """Return a spec with the edges `a>b b>c`.

    Args:
        edges: The edges.
        choices: Conditions by edge. `v` in them is the visit of the edge's source.
        node_fields: More fields of a node, by its id.
    """
    pairs = [tuple(pair.split(">")) for pair in edges.split()]
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    nodes = [
        {
            "id": name,
            "type": "transform",
            "config": {"output": f"{{{{ ({name}.output or 0) + 1 }}}}"},
            **node_fields.get(name, {}),
        }
        for name in names
    ]
    conditions = {
        pair: condition.replace("v", f"{pair.split('>')[0]}.output") for pair, condition in (choices or {}).items()
    }
    return {
        "nodes": nodes,
        "edges": [
            {"id": f"{s}>{t}", "source": s, "target": t, "condition": conditions.get(f"{s}>{t}")} for s, t in pairs
        ],
    }


LOOP = "s>h h>b h>c b>j c>j j>h j>x x>y s>y"
CASES = {
    "a diamond of unequal branches joins once": ("a>b b>c c>d a>e e>d", {}, "a b c d e"),
    "a join of exclusive branches runs": ("a>b a>c b>d c>d", {"a>c": "false"}, "a b c- d"),
    "a dead branch is skipped to its end": ("a>b a>c c>c2 c2>c3 b>d c3>d", {"a>c": "false"}, "a b c- c2- c3- d"),
    "a join with one dead edge runs": ("a>x a>b x>c b>d c>d", {"x>c": "false"}, "a b c- d x"),
    "a join of dead branches is skipped": (
        "a>b b>c b>d c>e d>e e>f",
        {"b>c": "false", "b>d": "false"},
        "a b c- d- e- f-",
    ),
    "a loop with a join inside starts it afresh each round": (
        LOOP,
        {"j>h": "v < 3", "j>x": "v >= 3", "h>b": "v % 2 == 1", "h>c": "v % 2 == 0"},
        "b b- b c- c c- h h h j j j s x y",
    ),
    "an exit that is never taken is dead when the loop is over": (
        "s>h h>j j>h j>x x>y s>y h>z",
        {"j>h": "v < 3", "j>x": "false", "h>z": "false"},
        "h h h j j j s x- y z-",
    ),
    "two parallel back edges end a round together": (
        "s>h h>a h>b b>b2 a>h b2>h a>x",
        {"a>h": "v < 2", "b2>h": "v < 2", "a>x": "v >= 2"},
        "a a b b b2 b2 h h s x",
    ),
    "nested loops count their rounds separately": (
        "s>o o>i i>k k>i k>e e>o e>x",
        {"k>i": "v % 3 != 0", "k>e": "v % 3 == 0", "e>o": "v < 2", "e>x": "v >= 2"},
        "e e i i i i i i k k k k k k o o s x",
    ),
    "a loop that is never entered is skipped": ("s>h h>j j>h j>x x>y s>y", {"s>h": "false"}, "h- j- s x- y"),
    "a node can loop to itself": ("s>h h>h h>x", {"h>h": "v < 4", "h>x": "v >= 4"}, "h h h h s x"),
}


@pytest.mark.parametrize(("edges", "choices", "expected"), CASES.values(), ids=CASES.keys())
async def test_a_graph_runs_along_its_taken_edges(edges: str, choices: dict[str, str], expected: str) -> None:
    executor, visited = await asyncio.wait_for(play(graph(edges, choices)), 60)
    assert executor.final_status is RunStatus.COMPLETED
    visits = sorted(name + ("" if status is RAN else "-") for name, status in visited)
    assert visits == sorted(expected.split())


async def test_join_any_runs_once_on_the_first_edge_taken() -> None:
    _, visited = await play(graph("a>b b>c c>d a>e e>d", d={"join": "any"}))
    order = [name for name, _ in visited]
    assert order.count("d") == 1
    assert order.index("d") < order.index("c") + 2


async def test_a_join_of_all_branches_runs_after_the_last_of_them() -> None:
    _, visited = await play(graph("a>b b>c c>d a>e e>d"))
    assert [name for name, _ in visited][-2:] == ["c", "d"]


async def test_the_header_of_an_inner_loop_may_join_by_any() -> None:
    """A round of the outer loop waits for the join and for the inner loop, which are the same node."""
    choices = {"b>b": "v % 2 != 0", "b>j": "v % 2 == 0", "j>h": "v < 3", "j>x": "v >= 3"}
    edges = "s>h h>a h>c a>b c>b b>b b>j j>h j>x"
    executor, visited = await play(graph(edges, choices, b={"join": "any"}))
    assert executor.final_status is RunStatus.COMPLETED
    names = [name for name, _ in visited]
    assert [names.count(name) for name in "habjx"] == [3, 3, 6, 3, 1]


async def test_an_endless_loop_fails_the_run_with_loop_limit() -> None:
    journal = RecordedJournal()
    endless = graph("s>h h>h h>x", {"h>h": "true", "h>x": "false"}, h={"maxVisits": 7})
    executor, visited = await play(endless, journal=journal)
    assert executor.final_status is RunStatus.FAILED
    change = journal.entries[-1].change
    assert change is not None and change.error is not None and change.error.code == "LOOP_LIMIT"
    assert change.error.message == "node 'h' has run 7 times; its maxVisits is 7"
    assert [name for name, _ in visited].count("h") == 7


@st.composite
def dags(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    """Random acyclic graphs in which each edge is always or never taken."""
    size = draw(st.integers(2, 12))
    pairs = [f"n{i}>n{j}" for i in range(size) for j in range(i + 1, size) if draw(st.integers(0, 9)) < 3]
    conditions = {pair: draw(st.sampled_from(["true", "false"])) for pair in pairs}
    return " ".join(pairs or ["n0>n1"]), conditions


@settings(max_examples=200)
@given(dags())
def test_in_any_acyclic_graph_every_node_runs_once_or_is_skipped_once(case: tuple[str, dict[str, str]]) -> None:
    edges, conditions = case
    spec = graph(edges, conditions)
    _, visited = asyncio.run(asyncio.wait_for(play(spec), 60))
    live: dict[str, bool] = {}
    for node in sorted((node["id"] for node in spec["nodes"]), key=lambda name: int(name[1:])):
        entries = [edge for edge in spec["edges"] if edge["target"] == node]
        live[node] = not entries or any(
            live[e["source"]] and conditions.get(e["id"], "true") == "true" for e in entries
        )
    assert sorted(visited) == sorted((node, RAN if is_live else SKIPPED) for node, is_live in live.items())
