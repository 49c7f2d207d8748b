"""The model usage of a visit adds up over all claims of the run, through pauses, drains and crashes."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.events import Usage
from engine.runtime.run_info import StopReason
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output, WaitForAnswer, WaitUntil
from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.events.codec import usage_of
from persistence.runs.map_items import MapItemStore
from persistence.runs.waits import open_waits
from tests.executor_worker import ExecutorWorker, accept_spec, edges, eventually, node, node_types, states_in_events
from tests.worker.paused_runs import answer, execute, resume

USAGE = Usage("model", 3, 2, 0.5)


class UsageConfig(NodeConfig):
    hangs: str = "{{ true }}"
    """Whether it waits for `go_on`."""
    reports: bool = False
    asks: bool = False


UsageConfig.model_fields["hangs"].json_schema_extra = {"format": "template"}
UsageConfig.model_rebuild(force=True)


class UsageNode(NodeType[UsageConfig]):
    """Reports model usage in each call."""

    name = "usage"
    title = "Usage"
    description = "For tests."
    Config = UsageConfig
    ports = ("answered", "expired")

    def __init__(self) -> None:
        self.running, self.go_on = asyncio.Event(), asyncio.Event()
        self.usage = USAGE

    async def execute(self, config: UsageConfig, ctx: NodeContext) -> Output | WaitForAnswer | WaitUntil:
        ctx.add_usage(self.usage)
        if config.reports:
            ctx.progress(0.5)
        if config.asks:
            return WaitForAnswer("well?")
        if ctx.render(config.hangs):
            self.running.set()
            await self.go_on.wait()
        return Output(ctx.visit)


async def stored_usage(database: Database, run_id: str) -> Usage | None:
    return usage_of(await database.pool.fetchval("SELECT usage FROM node_states WHERE run_id = $1", run_id))


def single_node(**config: Any) -> dict[str, Any]:
    return {"nodes": [{"id": "t", "type": "usage", "config": config}], "edges": []}


async def interrupt(
    database: Database, run_id: str, worker: ExecutorWorker, usage_node: UsageNode, stop: StopReason
) -> None:
    """Claim the run, stop it while its node hangs, and resume it."""
    executor = await worker.claim(run_id)
    running = asyncio.create_task(execute(executor))
    await usage_node.running.wait()
    usage_node.running.clear()
    if stop is StopReason.PAUSE:
        await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
    executor.request(stop)
    executor.interrupt()
    assert await running is (RunStatus.PAUSED if stop is StopReason.PAUSE else RunStatus.QUEUED)
    await resume(database, run_id)


@pytest.mark.parametrize("stop", [StopReason.PAUSE, StopReason.DRAIN])
async def test_usage_before_each_interruption_counts(
    database: Database, redis: Redis, caller: Caller, project: str, stop: StopReason
) -> None:
    usage_node = UsageNode()
    run_id = await accept_spec(database, caller, project, single_node())
    async with ExecutorWorker(database, redis, node_types(usage_node)) as worker:
        await interrupt(database, run_id, worker, usage_node, stop)
        assert await stored_usage(database, run_id) == USAGE
        await interrupt(database, run_id, worker, usage_node, stop)
        usage_node.go_on.set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await stored_usage(database, run_id) == USAGE + USAGE + USAGE


async def test_usage_that_a_dead_worker_reported_counts(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    usage_node = UsageNode()
    run_id = await accept_spec(database, caller, project, single_node(reports=True))
    async with ExecutorWorker(database, redis, node_types(usage_node)) as worker:
        lost = asyncio.create_task(execute(await worker.claim(run_id)))
        await eventually(lambda: stored_usage(database, run_id))
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
        usage_node.go_on.set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await stored_usage(database, run_id) == USAGE + USAGE


async def test_usage_for_the_stored_items_of_a_map_counts(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    usage_node = UsageNode()
    inner = {"type": "usage", "config": {"hangs": "{{ item == 3 }}"}}
    items = {"items": [1, 2, 3, 4], "concurrency": 1, "node": inner}
    run_id = await accept_spec(
        database, caller, project, {"nodes": [{"id": "m", "type": "map", "config": items}], "edges": []}
    )
    async with ExecutorWorker(
        database, redis, node_types(usage_node), {"items": MapItemStore(database.pool)}
    ) as worker:
        await interrupt(database, run_id, worker, usage_node, StopReason.PAUSE)
        assert await stored_usage(database, run_id) == USAGE + USAGE + USAGE
        usage_node.go_on.set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    # The third item was started twice, and the first two do not run again.
    assert await stored_usage(database, run_id) == USAGE + USAGE + USAGE + USAGE + USAGE


async def test_usage_before_a_wait_counts(database: Database, redis: Redis, caller: Caller, project: str) -> None:
    run_id = await accept_spec(database, caller, project, single_node(asks=True))
    async with ExecutorWorker(database, redis, node_types(UsageNode())) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        [wait] = await open_waits(database.pool, run_id)
        await answer(database, wait.id, "yes")
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await stored_usage(database, run_id) == USAGE


async def test_each_visit_of_a_loop_has_its_own_usage(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    usage_node = UsageNode()
    looping = {
        "nodes": [node("s"), {"id": "t", "type": "usage", "config": {"hangs": "{{ w.output == 1 }}"}}, node("w")],
        "edges": edges("s>t t>w w>t", w_t="w.output < 3"),
    }
    run_id = await accept_spec(database, caller, project, looping)
    async with ExecutorWorker(database, redis, node_types(usage_node)) as worker:
        await interrupt(database, run_id, worker, usage_node, StopReason.PAUSE)
        usage_node.go_on.set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    states = await states_in_events(database, run_id, "t")
    done = {state.visits: state.usage for state in states if state.status is NodeStatus.COMPLETED}
    assert done == {1: USAGE, 2: USAGE + USAGE, 3: USAGE}


async def test_numbers_that_are_no_usage_fail_the_node_and_the_run_ends(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    usage_node, numbers = UsageNode(), [(2.5, 1), ("two", 1), (1, -1), (1, 2**31), (1, 1, -0.5), (1, 1, float("nan"))]
    async with ExecutorWorker(database, redis, node_types(usage_node)) as worker:
        for each in numbers:
            usage_node.usage = Usage("m", *each)  # type: ignore[arg-type]
            run_id = await accept_spec(database, caller, project, single_node())
            assert await execute(await worker.claim(run_id)) is RunStatus.FAILED, each
            assert await stored_usage(database, run_id) is None
