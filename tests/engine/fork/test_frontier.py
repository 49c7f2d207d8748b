"""A run that continues from any checkpoint has the same result and repeats no node."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from langgraph.constants import TASKS

from engine.fork.frontier import channel_values, find_due, read_frontier, restart_unfinished
from engine.fork.history import RunHistory
from engine.graph.channels import NODE_RECORDS
from engine.states import NodeStatus, RunStatus
from tests.engine.checkpoint_history import PlayedRun, play
from tests.engine.fork_graphs import LOOPS, dags, mix_spec
from tests.samples import sample


async def check_continuation_from_all_checkpoints(raw: dict[str, Any]) -> None:
    original = await play(raw)
    assert original.status is RunStatus.COMPLETED
    assert set(Counter(original.ran).values()) == {1}
    for at, snapshot in enumerate(original.snapshots):
        frontier = restart_unfinished(original.compiled.plan, original.frontier(at))
        continued = await play(raw, (frontier, snapshot.step), original.outputs)
        assert (continued.status, continued.output) == (original.status, original.output), at
        finished = finished_visits(original, at)
        assert not finished & set(continued.ran), at
        assert sorted([*finished, *continued.ran]) == sorted(original.ran), at


def finished_visits(original: PlayedRun, at: int) -> set[tuple[str, int]]:
    """Return the visits that have ended at a checkpoint, skipped ones left out."""
    return {
        (name, visit.visits)
        for name, visits in original.history(at).visits.items()
        for visit in visits
        if visit.ended is not None and visit.status is not NodeStatus.SKIPPED
    }


@settings(max_examples=sample(12, 40))
@given(dags())
def test_any_acyclic_graph_continues_from_each_of_its_checkpoints(raw: dict[str, Any]) -> None:
    asyncio.run(check_continuation_from_all_checkpoints(raw))


@pytest.mark.parametrize("name", LOOPS)
async def test_a_loop_continues_from_each_of_its_checkpoints(name: str) -> None:
    await check_continuation_from_all_checkpoints(LOOPS[name])


@pytest.mark.parametrize("name", LOOPS)
async def test_a_frontier_survives_the_conversion_to_channels_and_back(name: str) -> None:
    original = await play(LOOPS[name])
    plan = original.compiled.plan
    for snapshot in original.snapshots:
        frontier = read_frontier(plan, snapshot.values)
        converted = channel_values(plan, frontier)
        assert read_frontier(plan, converted) == frontier
        assert converted.keys() - {TASKS} == snapshot.values.keys() - {TASKS}
        for name in converted.keys() - {NODE_RECORDS, TASKS}:
            assert sorted_parts(converted[name]) == sorted_parts(snapshot.values[name])
        assert sorted(find_due(plan, frontier)) == sorted(send.node for send in snapshot.values.get(TASKS, ()))


def sorted_parts(value: list[Any]) -> tuple[list[int], list[list[Any]]]:
    """Return the round and the settled parts of a stored join or loop."""
    return value[0], sorted(value[1], key=str)


async def test_a_join_of_any_that_has_run_does_not_run_again() -> None:
    raw = mix_spec("a>b b>c c>d a>e e>d d>z", slow="b c", d={"join": "any"})
    await check_continuation_from_all_checkpoints(raw)


async def test_only_the_node_that_failed_the_run_runs_again() -> None:
    for slow in ("", "c", "a b c d"):
        raw = mix_spec("a>b a>c b>d c>d", slow=slow)
        raw["nodes"][2]["config"]["fails"] = 1
        failed = await play(raw)
        assert failed.status is RunStatus.FAILED
        frontier = restart_unfinished(failed.compiled.plan, failed.head())
        retried = await play(raw, (frontier, 9), failed.outputs, failed.ran)
        assert retried.status is RunStatus.COMPLETED
        assert ("c", 1) in retried.ran
        assert not {visit for visit in retried.ran if visit != ("c", 1)} & set(failed.ran)


async def test_a_visit_beyond_max_visits_is_due_again() -> None:
    for edges in ("s>h h>h h>x", "s>h h>a a>b b>h b>x"):
        back, out = ("h>h", "h>x") if "a" not in edges else ("b>h", "b>x")
        raw = mix_spec(edges, {back: "true", out: "false"}, h={"maxVisits": 3}, a={"maxVisits": 2})
        failed = await play(raw)
        assert failed.status is RunStatus.FAILED
        frontier = restart_unfinished(failed.compiled.plan, failed.head())
        assert NodeStatus.RUNNING not in {record.status for record in frontier.records.values()}
        retried = await play(raw, (frontier, 9), failed.outputs)
        assert (retried.status, retried.ran) == (RunStatus.FAILED, [])


async def test_a_node_whose_edges_could_not_be_settled_runs_again() -> None:
    raw = mix_spec("a>b a>c b>d", {"a>b": "{v}.nothing.at_all > 1"})
    failed = await play(raw)
    assert failed.status is RunStatus.FAILED
    frontier = restart_unfinished(failed.compiled.plan, failed.head())
    assert frontier.records["a"].status is NodeStatus.RUNNING


async def test_the_history_has_each_visit_of_a_loop() -> None:
    original = await play(LOOPS["nested"])
    visits = RunHistory([snapshot.values for snapshot in original.snapshots]).visits
    assert [visit.round for visit in visits["k"]] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert [visit.visits for visit in visits["e"]] == [1, 2]
    assert all(visit.ended is not None for node_visits in visits.values() for visit in node_visits)


async def test_a_retry_does_not_start_a_branch_again_that_a_join_has_cancelled() -> None:
    first = {"join": {"mode": "any", "cancelOthers": True}}
    raw = mix_spec("s>a s>b a>j b>j j>f f>z", slow="a b f", j=first)
    configs = {node["id"]: node["config"] for node in raw["nodes"]}
    configs["b"]["turns"], configs["f"]["fails"] = 10**9, 1
    original = await play(raw)
    statuses = {name: record.status for name, record in original.head().records.items()}
    assert (original.status, statuses["b"]) == (RunStatus.FAILED, NodeStatus.CANCELLED)
    frontier = restart_unfinished(original.compiled.plan, original.head())
    rest = await play(raw, (frontier, original.snapshots[-1].step), original.outputs, original.ran)
    assert (rest.status, rest.ran) == (RunStatus.COMPLETED, [("f", 1), ("z", 1)])
