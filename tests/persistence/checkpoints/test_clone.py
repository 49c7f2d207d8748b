"""Snapshots and clones of checkpoints: exact as of their moment, and executed like any other run."""

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
from persistence.checkpoints.clone import RunClone, derive, last_visit, with_final_status
from persistence.db.database import Database
from persistence.events.history import Checkpoint
from persistence.runs import create
from persistence.runs import run as runs
from persistence.runs.create import NewRun
from persistence.runs.node_states import states, states_at
from tests.executor_worker import ExecutorWorker, Killed, accept_spec, all_checkpoints, edges, node, run_summary
from tests.worker.spec_samples import SPECS

LOOP: dict[str, Any] = {
    "nodes": [node("s"), node("h", "tick"), node("w"), node("x")],
    "edges": edges("s>h h>w w>h w>x", w_h="w.output < 60", w_x="w.output >= 60"),
}


async def execute_run(database: Database, redis: Redis, caller: Caller, project: str, spec: Any) -> str:
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis) as worker:
        assert await asyncio.wait_for((await worker.claim(run_id)).run(), 20) is RunStatus.COMPLETED
    return run_id


async def clone_run(database: Database, caller: Caller, checkpoint: Checkpoint, spec: Any) -> str:
    """Accept a run that starts from a checkpoint of another one."""
    plan = make_plan(parse(spec))
    async with database.begin() as connection:
        snapshot = await snapshots.read_checkpoint(connection, checkpoint, is_whole=False)
        assert snapshot is not None
        frontier = restart_unfinished(plan, read_frontier(plan, snapshot.values))
        results = await snapshots.visit_results(
            connection, snapshot, {name: last_visit(record) for name, record in frontier.records.items()}
        )
        for name, record in frontier.records.items():
            frontier.records[name] = with_final_status(record, results.get(name))
        values = channel_values(plan, frontier)
        clone = RunClone(snapshot, values, find_due(plan, frontier), results, len(plan.nodes))
        run = await runs.get(connection, caller, checkpoint.run_id)
        assert run is not None
        new = NewRun(run.project_id, None, run.version_id, run.inputs, source=RunSource.FORK)
        accepted = await create.accept(connection, caller, new)
        return (await derive(connection, accepted, "A copy", clone, forked_from=snapshot.checkpoint_id)).run.id


@pytest.mark.parametrize("name", SPECS)
async def test_a_clone_continues_after_a_crash_at_any_of_its_commits(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    source_id = await execute_run(database, redis, caller, project, SPECS[name])
    expected = await run_summary(database, source_id)
    rows = await all_checkpoints(database, source_id)
    row = rows[len(rows) // 2]
    for at in range(1, 40):
        run_id = await clone_run(database, caller, row, SPECS[name])
        async with ExecutorWorker(database, redis) as worker:
            executor = await worker.claim(run_id, at, before=bool(at % 2))
            try:
                await asyncio.wait_for(executor.run(), 20)
                has_ended = True
            except Killed:
                has_ended = False
                assert await asyncio.wait_for((await worker.claim(run_id)).run(), 20) is RunStatus.COMPLETED
        output, visits, numbers, _ = await run_summary(database, run_id)
        assert (output, set(visits.values())) == (expected[0], {1}), at
        assert numbers == list(range(1, len(numbers) + 1))
        if has_ended:
            return
    raise AssertionError("the run must end within 40 commits")


async def test_a_clone_shows_the_ended_nodes_as_of_the_checkpoint(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    spec = SPECS["nested loops with dead branches"]
    source_id = await execute_run(database, redis, caller, project, spec)
    for row in await all_checkpoints(database, source_id):
        run_id = await clone_run(database, caller, row, spec)
        async with database.connect() as connection:
            then = (await states_at(connection, caller, [(source_id, row.seq)]))[source_id, row.seq]
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


async def test_the_history_of_a_long_loop_is_complete_and_a_clone_needs_none_of_it(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    source_id = await execute_run(database, redis, caller, project, LOOP)
    rows = await all_checkpoints(database, source_id)
    full_count = "SELECT count(*) FROM checkpoints WHERE run_id = $1 AND is_full"
    assert await database.pool.fetchval(full_count, source_id) > 1
    row = rows[-3]
    async with database.connect() as connection:
        partial = await snapshots.read_checkpoint(connection, row, is_whole=False)
        full = await snapshots.read_checkpoint(connection, row, is_whole=True)
    assert partial is not None and full is not None
    assert partial.values == full.values
    assert len(full.changes) == len(rows) - 2 > len(partial.changes)
    visits = RunHistory(full.changes).visits
    assert [visit.visits for visit in visits["w"]] == list(range(1, len(visits["w"]) + 1))
    assert all(visit.ended is not None for visit in visits["w"])
    run_id = await clone_run(database, caller, row, LOOP)
    async with ExecutorWorker(database, redis) as worker:
        assert await asyncio.wait_for((await worker.claim(run_id)).run(), 20) is RunStatus.COMPLETED
    assert (await run_summary(database, run_id))[0] == (await run_summary(database, source_id))[0]


async def test_the_result_of_a_visit_is_found_by_its_number_up_to_the_checkpoint(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    source_id = await execute_run(database, redis, caller, project, LOOP)
    rows = await all_checkpoints(database, source_id)
    async with database.connect() as connection:
        snapshot = await snapshots.read_checkpoint(connection, rows[-1], is_whole=False)
        early = await snapshots.read_checkpoint(connection, rows[20], is_whole=False)
        assert snapshot is not None and early is not None
        third = (await snapshots.visit_results(connection, snapshot, {"w": 3, "h": 0}))["w"]
        assert (third.visit, third.state.visits) == (3, 3)
        assert (await snapshots.read_outputs(connection, source_id, [third.seq])) == {third.seq: 3}
        latest = (await snapshots.visit_results(connection, early, {"w": 60}))["w"]
        assert latest.seq <= rows[20].seq and latest.visit < 60
        assert "h" not in await snapshots.visit_results(connection, snapshot, {"h": 0})


async def test_a_run_without_a_checkpoint_has_no_snapshot(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, SPECS["quick chain"])
    async with database.connect() as connection:
        assert await snapshots.read_head(connection, run_id, 1) is None
        assert not await snapshots.is_pruned(connection, run_id)
        await database.pool.execute("UPDATE runs SET pruned_at = now() WHERE id = $1", run_id)
        assert await snapshots.is_pruned(connection, run_id)
