"""What a visit took of a model adds up over all who had the run: nothing of it is lost by a pause, a drain or a crash."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.events import Usage
from engine.runtime.run_info import StopReason
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output, WaitForAnswer, WaitUntil
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.events.codec import usage_of
from persistence.runs.map_items import MapItemStore
from persistence.runs.waits import open_waits
from tests.executor_worker import ExecutorWorker, accept_spec, edges, eventually, node, node_types
from tests.worker.paused_runs import answer, execute, resume

ONCE = Usage("model", 3, 2, 0.5)


class TakerConfig(NodeConfig):
    hangs: str = "{{ true }}"
    """Whether it does not end before the test says so."""
    tells: bool = False
    asks: bool = False


TakerConfig.model_fields["hangs"].json_schema_extra = {"format": "template"}
TakerConfig.model_rebuild(force=True)


class Taker(NodeType[TakerConfig]):
    """Takes something of a model each time that it runs."""

    name = "taker"
    title = "Taker"
    description = "For tests."
    Config = TakerConfig
    ports = ("answered", "expired")

    def __init__(self) -> None:
        self.running, self.go_on = asyncio.Event(), asyncio.Event()

    async def execute(self, config: TakerConfig, ctx: NodeContext) -> Output | WaitForAnswer | WaitUntil:
        ctx.add_usage(ONCE)
        if config.tells:
            ctx.progress(0.5)
        if config.asks:
            return WaitForAnswer("well?")
        if ctx.render(config.hangs):
            self.running.set()
            await self.go_on.wait()
        return Output(ctx.visit)


async def used(database: Database, run_id: str) -> Usage | None:
    return usage_of(await database.pool.fetchval("SELECT usage FROM node_states WHERE run_id = $1", run_id))


def alone(**config: Any) -> dict[str, Any]:
    return {"nodes": [{"id": "t", "type": "taker", "config": config}], "edges": []}


async def interrupt(database: Database, run_id: str, worker: ExecutorWorker, taker: Taker, stop: StopReason) -> None:
    """Takes the run up and stops it while the node hangs."""
    taken = await worker.claim(run_id)
    running = asyncio.create_task(execute(taken))
    await taker.running.wait()
    taker.running.clear()
    if stop is StopReason.PAUSE:
        await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
    taken.request(stop)
    taken.interrupt()
    assert await running is (RunStatus.PAUSED if stop is StopReason.PAUSE else RunStatus.QUEUED)
    await resume(database, run_id)


@pytest.mark.parametrize("stop", [StopReason.PAUSE, StopReason.DRAIN])
async def test_what_was_taken_before_an_interruption_counts_however_often_there_is_one(
    database: Database, redis: Redis, caller: Caller, project: str, stop: StopReason
) -> None:
    taker = Taker()
    run_id = await accept_spec(database, caller, project, alone())
    async with ExecutorWorker(database, redis, node_types(taker)) as worker:
        await interrupt(database, run_id, worker, taker, stop)
        assert await used(database, run_id) == ONCE
        await interrupt(database, run_id, worker, taker, stop)
        taker.go_on.set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await used(database, run_id) == ONCE + ONCE + ONCE


async def test_what_a_lost_worker_has_told_of_counts(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    taker = Taker()
    run_id = await accept_spec(database, caller, project, alone(tells=True))
    async with ExecutorWorker(database, redis, node_types(taker)) as worker:
        lost = asyncio.create_task(execute(await worker.claim(run_id)))
        await eventually(lambda: used(database, run_id))
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
        taker.go_on.set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await used(database, run_id) == ONCE + ONCE


async def test_what_a_map_has_taken_for_items_that_are_kept_counts(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    taker = Taker()
    inner = {"type": "taker", "config": {"hangs": "{{ item == 3 }}"}}
    items = {"items": [1, 2, 3, 4], "concurrency": 1, "node": inner}
    run_id = await accept_spec(
        database, caller, project, {"nodes": [{"id": "m", "type": "map", "config": items}], "edges": []}
    )
    async with ExecutorWorker(database, redis, node_types(taker), {"items": MapItemStore(database.pool)}) as worker:
        await interrupt(database, run_id, worker, taker, StopReason.PAUSE)
        assert await used(database, run_id) == ONCE + ONCE + ONCE
        taker.go_on.set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    # The third item was begun twice, and the first two are not done again.
    assert await used(database, run_id) == ONCE + ONCE + ONCE + ONCE + ONCE


async def test_what_was_taken_before_a_wait_counts(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, alone(asks=True))
    async with ExecutorWorker(database, redis, node_types(Taker())) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        [wait] = await open_waits(database.pool, run_id)
        await answer(database, wait.id, "yes")
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await used(database, run_id) == ONCE


async def test_each_visit_of_a_loop_counts_its_own(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    taker = Taker()
    looping = {
        "nodes": [node("s"), {"id": "t", "type": "taker", "config": {"hangs": "{{ w.output == 1 }}"}}, node("w")],
        "edges": edges("s>t t>w w>t", w_t="w.output < 3"),
    }
    run_id = await accept_spec(database, caller, project, looping)
    async with ExecutorWorker(database, redis, node_types(taker)) as worker:
        await interrupt(database, run_id, worker, taker, StopReason.PAUSE)
        taker.go_on.set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    rows = await database.pool.fetch(
        "SELECT body FROM events WHERE run_id = $1 AND node_id = 't' AND type = 'NODE_STATE' ORDER BY seq", run_id
    )
    done = {body["visits"]: usage_of(body["usage"]) for (body,) in rows if body["status"] == "COMPLETED"}
    assert done == {1: ONCE, 2: ONCE + ONCE, 3: ONCE}
