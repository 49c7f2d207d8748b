"""Heads that are read and copied: as they stood, whole, and as good as grown ones under the real drive."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.fork.frontier import channel_values, find_due, read_frontier, restart_unfinished
from engine.fork.history import RunHistory
from engine.graph.plan import make_plan
from engine.spec.parser import parse
from engine.states import RunSource, RunStatus
from persistence.caller import Caller
from persistence.checkpoints import snapshots
from persistence.checkpoints.clone import Copy, as_told, derive, last_visit
from persistence.db.database import Database
from persistence.runs import create
from persistence.runs import run as runs
from persistence.runs.create import NewRun
from persistence.runs.node_states import states, states_at
from tests.executor_worker import ExecutorWorker, Killed, accept_spec, edges, node, run_summary
from tests.worker.spec_samples import SPECS

LOOP: dict[str, Any] = {
    "nodes": [node("s"), node("h", "tick"), node("w"), node("x")],
    "edges": edges("s>h h>w w>h w>x", w_h="w.output < 60", w_x="w.output >= 60"),
}


async def played(database: Database, redis: Redis, caller: Caller, project: str, spec: Any) -> str:
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis) as worker:
        assert await asyncio.wait_for((await worker.claim(run_id)).run(), 20) is RunStatus.COMPLETED
    return run_id


async def checkpoints(database: Database, run_id: str) -> list[Any]:
    return await database.pool.fetch("SELECT * FROM checkpoints WHERE run_id = $1 ORDER BY seq", run_id)


async def copied(database: Database, caller: Caller, run_id: str, seq: int, spec: Any) -> str:
    """A run that begins where another one stood at a checkpoint."""
    plan = make_plan(parse(spec))
    async with database.begin() as connection:
        stand = await snapshots.at_checkpoint(connection, run_id, seq, is_whole=False)
        assert stand is not None
        frontier = restart_unfinished(plan, read_frontier(plan, stand.values))
        kept = await snapshots.kept(
            connection, stand, {name: last_visit(slot) for name, slot in frontier.records.items()}
        )
        for name, slot in frontier.records.items():
            frontier.records[name] = as_told(slot, kept.get(name))
        values = channel_values(plan, frontier)
        copy = Copy(stand, values, find_due(plan, values), kept, len(plan.nodes))
        run = await runs.get(connection, caller, run_id)
        assert run is not None
        new = NewRun(run.project_id, None, run.version_id, run.inputs, source=RunSource.FORK)
        accepted = await create.accept(connection, caller, new)
        return (await derive(connection, accepted, "A copy", copy, forked_from=stand.checkpoint_id)).run.id


@pytest.mark.parametrize("name", SPECS)
async def test_a_copy_goes_on_through_a_death_at_any_of_its_commits(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    whole = await played(database, redis, caller, project, SPECS[name])
    expected = await run_summary(database, whole)
    places = await checkpoints(database, whole)
    place = places[len(places) // 2]
    for at in range(1, 40):
        run_id = await copied(database, caller, whole, place["seq"], SPECS[name])
        async with ExecutorWorker(database, redis) as worker:
            executor = await worker.claim(run_id, at, before=bool(at % 2))
            try:
                await asyncio.wait_for(executor.run(), 20)
                is_over = True
            except Killed:
                is_over = False
                assert await asyncio.wait_for((await worker.claim(run_id)).run(), 20) is RunStatus.COMPLETED
        output, visits, numbers, _ = await run_summary(database, run_id)
        assert (output, set(visits.values())) == (expected[0], {1}), at
        assert numbers == list(range(1, len(numbers) + 1))
        if is_over:
            return
    raise AssertionError("the run must end within 40 commits")


async def test_a_copy_shows_the_nodes_that_had_ended_as_they_stood(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    spec = SPECS["nested loops with dead branches"]
    whole = await played(database, redis, caller, project, spec)
    for place in await checkpoints(database, whole):
        run_id = await copied(database, caller, whole, place["seq"], spec)
        async with database.connect() as connection:
            then = (await states_at(connection, caller, [(whole, place["seq"])]))[whole, place["seq"]]
            now = (await states(connection, caller, [run_id]))[run_id]
            last = await database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", run_id)
            assert [(one.node_id, one.status, one.visits) for one in now] == [
                (one.node_id, one.status, one.visits)
                for one in (await states_at(connection, caller, [(run_id, last)]))[run_id, last]
            ]
        for before, here in zip(then, now, strict=True):
            if before.status.is_finished:
                assert (here.status, here.visits) == (before.status, before.visits)
            else:
                assert here.visits == max(before.visits - 1, 0)


async def test_the_past_of_a_long_loop_is_whole_and_its_copy_needs_none_of_it(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    whole = await played(database, redis, caller, project, LOOP)
    places = await checkpoints(database, whole)
    assert sum(place["is_full"] for place in places) > 1
    place = places[-3]
    async with database.connect() as connection:
        part = await snapshots.at_checkpoint(connection, whole, place["seq"], is_whole=False)
        all_ = await snapshots.at_checkpoint(connection, whole, place["seq"], is_whole=True)
    assert part is not None and all_ is not None
    assert part.values == all_.values
    assert (len(all_.changes), len(part.changes)) == (len(places) - 2, len(all_.changes) - 100)
    turns = RunHistory(all_.changes).visits
    assert [turn.visits for turn in turns["w"]] == list(range(1, len(turns["w"]) + 1))
    assert all(turn.ended is not None for turn in turns["w"])
    run_id = await copied(database, caller, whole, place["seq"], LOOP)
    async with ExecutorWorker(database, redis) as worker:
        assert await asyncio.wait_for((await worker.claim(run_id)).run(), 20) is RunStatus.COMPLETED
    assert (await run_summary(database, run_id))[0] == (await run_summary(database, whole))[0]


async def test_what_a_visit_left_is_found_by_its_number_and_not_after_the_checkpoint(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    whole = await played(database, redis, caller, project, LOOP)
    places = await checkpoints(database, whole)
    async with database.connect() as connection:
        stand = await snapshots.at_checkpoint(connection, whole, places[-1]["seq"], is_whole=False)
        early = await snapshots.at_checkpoint(connection, whole, places[20]["seq"], is_whole=False)
        assert stand is not None and early is not None
        third = (await snapshots.kept(connection, stand, {"w": 3, "h": 0}))["w"]
        assert (third.visit, third.body["visits"]) == (3, 3)
        assert (await snapshots.outputs(connection, whole, [third.seq])) == {third.seq: 3}
        latest = (await snapshots.kept(connection, early, {"w": 60}))["w"]
        assert latest.seq <= places[20]["seq"] and latest.visit < 60
        assert "h" not in await snapshots.kept(connection, stand, {"h": 0})


async def test_a_run_without_a_checkpoint_or_past_retention_has_nothing_to_stand_on(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, SPECS["quick chain"])
    async with database.connect() as connection:
        assert await snapshots.head(connection, run_id, 1) is None
        assert await snapshots.at_checkpoint(connection, run_id, 1, is_whole=True) is None
        assert not await snapshots.is_pruned(connection, run_id)
        await database.pool.execute("UPDATE runs SET pruned_at = now() WHERE id = $1", run_id)
        assert await snapshots.is_pruned(connection, run_id)
