"""A frontier read from any checkpoint becomes channels again, from which the run goes on: same result, nothing run twice."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings

from engine.fork.frontier import channel_values, read_frontier, restart_unfinished
from engine.fork.history import RunHistory
from engine.graph.channels import NODE_RECORDS
from engine.states import NodeStatus, RunStatus
from tests.engine.checkpoint_history import PlayedRun, play
from tests.engine.fork_graphs import LOOPS, dags, mixed


async def goes_on_from_everywhere(raw: dict[str, Any]) -> None:
    whole = await play(raw)
    assert whole.status is RunStatus.COMPLETED
    assert set(Counter(whole.ran).values()) == {1}
    for at, snapshot in enumerate(whole.snapshots):
        frontier = restart_unfinished(whole.compiled.plan, whole.frontier(at))
        rest = await play(raw, (frontier, snapshot.step), whole.outputs)
        assert (rest.status, rest.output) == (whole.status, whole.output), at
        begun = ended_by(whole, at)
        assert not begun & set(rest.ran), at
        assert sorted([*begun, *rest.ran]) == sorted(whole.ran), at


def ended_by(whole: PlayedRun, at: int) -> set[tuple[str, int]]:
    """The visits that have ended at a checkpoint."""
    turns = whole.history(at).visits
    return {
        (name, turn.visits)
        for name, found in turns.items()
        for turn in found
        if turn.ended is not None and turn.status is not NodeStatus.SKIPPED
    }


@settings(max_examples=40, deadline=None)
@given(dags())
def test_any_acyclic_graph_goes_on_from_each_of_its_checkpoints(raw: dict[str, Any]) -> None:
    asyncio.run(goes_on_from_everywhere(raw))


@pytest.mark.parametrize("name", LOOPS)
async def test_a_loop_goes_on_from_each_of_its_checkpoints(name: str) -> None:
    await goes_on_from_everywhere(LOOPS[name])


@pytest.mark.parametrize("name", LOOPS)
async def test_reading_what_was_made_of_a_frontier_gives_it_back(name: str) -> None:
    whole = await play(LOOPS[name])
    plan = whole.compiled.plan
    for snapshot in whole.snapshots:
        frontier = read_frontier(plan, snapshot.values)
        made = channel_values(plan, frontier)
        assert read_frontier(plan, made) == frontier
        kept = {name: value for name, value in snapshot.values.items() if name in made}
        for channel, value in kept.items():
            if channel.startswith(("gate:", "loop:")):
                assert (made[channel][0], sorted(made[channel][1]), made[channel][2]) == (
                    value[0],
                    sorted(value[1]),
                    value[2],
                )
        assert made.keys() == {NODE_RECORDS, *kept}


async def test_a_join_of_any_that_has_run_stays_so() -> None:
    raw = mixed("a>b b>c c>d a>e e>d d>z", slow="b c", d={"join": "any"})
    await goes_on_from_everywhere(raw)


async def test_a_node_that_failed_the_run_runs_again_and_nothing_else_does() -> None:
    for slow in ("", "c", "a b c d"):
        raw = mixed("a>b a>c b>d c>d", slow=slow)
        raw["nodes"][2]["config"]["fails"] = 1
        failed = await play(raw)
        assert failed.status is RunStatus.FAILED
        frontier = restart_unfinished(failed.compiled.plan, failed.head())
        again = await play(raw, (frontier, 9), failed.outputs, failed.ran)
        assert again.status is RunStatus.COMPLETED
        assert ("c", 1) in again.ran
        assert not {visit for visit in again.ran if visit != ("c", 1)} & set(failed.ran)


async def test_a_turn_that_a_loop_had_no_visits_left_for_is_due_again() -> None:
    for edges in ("s>h h>h h>x", "s>h h>a a>b b>h b>x"):
        back, out = ("h>h", "h>x") if "a" not in edges else ("b>h", "b>x")
        raw = mixed(edges, {back: "true", out: "false"}, h={"maxVisits": 3}, a={"maxVisits": 2})
        failed = await play(raw)
        assert failed.status is RunStatus.FAILED
        frontier = restart_unfinished(failed.compiled.plan, failed.head())
        assert NodeStatus.RUNNING not in {slot.status for slot in frontier.records.values()}
        again = await play(raw, (frontier, 9), failed.outputs)
        assert (again.status, again.ran) == (RunStatus.FAILED, [])


async def test_a_node_whose_edges_could_not_be_settled_runs_again() -> None:
    raw = mixed("a>b a>c b>d", {"a>b": "{v}.nothing.at_all > 1"})
    failed = await play(raw)
    assert failed.status is RunStatus.FAILED
    frontier = restart_unfinished(failed.compiled.plan, failed.head())
    assert frontier.records["a"].status is NodeStatus.RUNNING


async def test_the_past_tells_the_turns_of_a_loop_apart() -> None:
    whole = await play(LOOPS["nested"])
    turns = RunHistory([snapshot.values for snapshot in whole.snapshots]).visits
    assert [turn.round for turn in turns["k"]] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert [turn.visits for turn in turns["e"]] == [1, 2]
    assert all(turn.ended is not None for found in turns.values() for turn in found)
