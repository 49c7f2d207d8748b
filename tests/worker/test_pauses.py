"""Runs that pause, stop at breakpoints and go in steps, and continue exactly there."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.graph.channels import NODE_RECORDS
from engine.runtime.run_info import StopReason
from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.checkpoints import snapshots
from persistence.db.database import Database
from persistence.events import history
from persistence.runs import node_states
from persistence.runs.map_items import MapItemStore
from persistence.runs.run import RunOptions
from tests.executor_worker import ExecutorWorker, GatedNode, accept_spec, edges, node, node_types, run_summary
from tests.worker.paused_runs import execute, node_statuses, resume

LOOP: dict[str, Any] = {
    "nodes": [node("s"), node("h", "tick"), node("w"), node("x")],
    "edges": edges("s>h h>w w>h w>x", w_h="w.output < 3", w_x="w.output >= 3"),
}


async def test_a_pause_lets_running_nodes_finish_and_starts_no_others(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    gated = GatedNode()
    spec = {"nodes": [{"id": "gated", "type": "gated"}, node("after")], "edges": edges("gated>after")}
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis, node_types(gated)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await gated.running.wait()
        await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
        executor.request(StopReason.PAUSE)
        gated.release.set()
        assert await running is RunStatus.PAUSED
        assert await node_statuses(database, run_id) == {"gated": "COMPLETED"}
        await resume(database, run_id)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert (await run_summary(database, run_id))[1] == {("gated", 1): 1, ("after", 1): 1}


@pytest.mark.parametrize("stop", [StopReason.PAUSE, StopReason.DRAIN])
async def test_a_stop_during_a_map_runs_each_item_once(
    database: Database, redis: Redis, caller: Caller, project: str, stop: StopReason
) -> None:
    gated = GatedNode()
    config = {"items": [1, 2, 3, 4, 5], "concurrency": 2, "node": {"type": "gated", "config": {}}}
    spec = {"nodes": [{"id": "m", "type": "map", "config": config}, node("after")], "edges": edges("m>after")}
    run_id = await accept_spec(database, caller, project, spec)
    items = {"items": MapItemStore(database.pool)}
    async with ExecutorWorker(database, redis, node_types(gated), items) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await gated.running.wait()
        if stop is StopReason.PAUSE:
            await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
        executor.request(stop)
        gated.release.set()
        assert await running is (RunStatus.PAUSED if stop is StopReason.PAUSE else RunStatus.QUEUED)
        statuses = {StopReason.PAUSE: {"m": "IDLE"}, StopReason.DRAIN: {"m": "RUNNING"}}
        assert await node_statuses(database, run_id) == statuses[stop]
        assert await database.pool.fetchval("SELECT count(*) FROM map_items WHERE run_id = $1", run_id) == 2
        await resume(database, run_id)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert (await run_summary(database, run_id))[1] == {("m", 1): 1, ("after", 1): 1}


async def test_a_pause_during_the_last_node_completes_the_run(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    gated = GatedNode()
    run_id = await accept_spec(database, caller, project, {"nodes": [{"id": "gated", "type": "gated"}], "edges": []})
    async with ExecutorWorker(database, redis, node_types(gated)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await gated.running.wait()
        await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
        executor.request(StopReason.PAUSE)
        gated.release.set()
        assert await running is RunStatus.COMPLETED


@pytest.mark.parametrize("stop", [StopReason.PAUSE, StopReason.DRAIN])
async def test_an_interrupted_node_runs_again_and_is_idle_meanwhile(
    database: Database, redis: Redis, caller: Caller, project: str, stop: StopReason
) -> None:
    gated = GatedNode()
    spec = {"nodes": [{"id": "gated", "type": "gated"}, node("after")], "edges": edges("gated>after")}
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis, node_types(gated)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await gated.running.wait()
        if stop is StopReason.PAUSE:
            await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
        executor.request(stop)
        executor.interrupt()
        assert await running is (RunStatus.PAUSED if stop is StopReason.PAUSE else RunStatus.QUEUED)
        if stop is StopReason.PAUSE:
            assert await node_statuses(database, run_id) == {"gated": "IDLE"}
        await resume(database, run_id)
        gated.release.set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert (await run_summary(database, run_id))[1] == {("gated", 1): 1, ("after", 1): 1}


async def test_a_breakpoint_pauses_before_every_visit_of_its_node_until_a_resume(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, LOOP, RunOptions(breakpoints=("h",)))
    statuses = []
    async with ExecutorWorker(database, redis) as worker:
        for round_ in range(3):
            statuses.append(await execute(await worker.claim(run_id)))
            visits = (await run_summary(database, run_id))[1]
            assert visits["h", round_] == (1 if round_ else 0)
            assert visits["h", round_ + 1] == 0
            # A claim without a resume, as after a crash, pauses there again.
            assert await execute(await worker.claim(run_id)) is RunStatus.PAUSED
            assert (await run_summary(database, run_id))[1] == visits
            await resume(database, run_id)
        statuses.append(await execute(await worker.claim(run_id)))
    assert statuses == [RunStatus.PAUSED] * 3 + [RunStatus.COMPLETED]
    assert (await run_summary(database, run_id))[0] == {"x": 1}


async def test_a_step_runs_one_superstep_with_its_launched_nodes_and_pauses_again(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, LOOP)
    await database.pool.execute("UPDATE runs SET is_step = true WHERE id = $1", run_id)
    seen = []
    async with ExecutorWorker(database, redis) as worker:
        for _ in range(20):
            status = await execute(await worker.claim(run_id))
            seen.append(sorted((await run_summary(database, run_id))[1]))
            if status is RunStatus.COMPLETED:
                break
            assert status is RunStatus.PAUSED
            await resume(database, run_id, step=True)
    assert seen[0] == [("s", 1)]
    assert all(len(after) - len(before) <= 1 for before, after in pairwise(seen))
    assert seen[-1] == [("h", 1), ("h", 2), ("h", 3), ("s", 1), ("w", 1), ("w", 2), ("w", 3), ("x", 1)]


async def test_every_step_goes_on_at_a_node_with_a_breakpoint(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, LOOP, RunOptions(breakpoints=("h", "w")))
    seen = []
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.PAUSED
        for _ in range(20):
            seen.append(sorted((await run_summary(database, run_id))[1]))
            await resume(database, run_id, step=True)
            if await execute(await worker.claim(run_id)) is RunStatus.COMPLETED:
                break
        seen.append(sorted((await run_summary(database, run_id))[1]))
    assert all(len(after) - len(before) == 1 for before, after in pairwise(seen))
    assert seen[-1] == [("h", 1), ("h", 2), ("h", 3), ("s", 1), ("w", 1), ("w", 2), ("w", 3), ("x", 1)]


async def test_a_step_with_a_crash_at_any_commit_is_still_one_step(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with ExecutorWorker(database, redis) as worker:
        for at in range(1, 4):
            for before in (True, False):
                run_id = await accept_spec(database, caller, project, LOOP)
                await database.pool.execute("UPDATE runs SET is_step = true WHERE id = $1", run_id)
                await asyncio.gather(execute(await worker.claim(run_id, at, before)), return_exceptions=True)
                status = await database.pool.fetchval("SELECT status FROM runs WHERE id = $1", run_id)
                if status == "RUNNING":
                    assert await execute(await worker.claim(run_id)) is RunStatus.PAUSED
                assert sorted((await run_summary(database, run_id))[1]) == [("s", 1)]


FAILING: dict[str, Any] = {**node("fails", "code"), "config": {"code": "def process():\n    raise ValueError"}}
STOPS: dict[str, dict[str, Any]] = {
    "completed after a task": {"nodes": [node("s"), node("last", "tick")], "edges": edges("s>last")},
    "completed after tasks in parallel": {"nodes": [node("a", "tick"), node("b", "tick", turns=3)], "edges": []},
    "failed beside a task": {"nodes": [node("a", "tick"), FAILING], "edges": []},
    "failed after a task": {"nodes": [node("a", "tick"), FAILING], "edges": edges("a>fails")},
    "completed after a loop of tasks": LOOP,
}


@pytest.mark.parametrize("is_step", [False, True], ids=["at once", "in steps"])
@pytest.mark.parametrize("name", STOPS)
async def test_the_last_checkpoint_contains_everything_that_has_finished(
    database: Database, redis: Redis, caller: Caller, project: str, name: str, is_step: bool
) -> None:
    run_id = await accept_spec(database, caller, project, STOPS[name])
    await database.pool.execute("UPDATE runs SET is_step = $2 WHERE id = $1", run_id, is_step)
    async with ExecutorWorker(database, redis) as worker:
        while True:
            status = await execute(await worker.claim(run_id))
            await check_last_checkpoint(database, caller, run_id)
            if status is not RunStatus.PAUSED:
                break
            await resume(database, run_id, step=True)
    assert status is (RunStatus.FAILED if name.startswith("failed") else RunStatus.COMPLETED)


async def check_last_checkpoint(database: Database, caller: Caller, run_id: str) -> None:
    """Check that the records of the head are the states of the nodes, and that its seq is later."""
    async with database.connect() as connection:
        states = (await node_states.states(connection, caller, [run_id]))[run_id]
        head = await history.head(connection, caller, run_id)
        assert head is not None
        snapshot = await snapshots.read_head(connection, run_id, head.seq)
    assert snapshot is not None
    begun = {state.node_id: state for state in states if state.status is not NodeStatus.IDLE}
    assert max(state.seq for state in begun.values()) < head.seq
    records = snapshot.values[NODE_RECORDS]
    assert {id_: (record.status, record.visits) for id_, record in records.items()} == {
        id_: (state.status, state.visits) for id_, state in begun.items()
    }
