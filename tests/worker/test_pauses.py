"""Runs that pause, stop at breakpoints and go in steps, and continue exactly there."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.runtime.run_info import StopReason
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
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
