"""Workers and readers are notified even if the client disconnects after the commit."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from persistence.db.database import Database
from resolvers.context import Context
from resolvers.idempotent import finish_shielded, shielded
from resolvers.runs import control, start
from resolvers.runs.start import StartArguments
from resolvers.workflows import workflows
from tests.journal_worker import SPEC, open_worker

Call = Callable[[Context, str, str], Awaitable[object]]

CALLS: dict[str, Call] = {
    "cancelRun": lambda context, _, run_id: control.cancel_run(context, run_id, None, None),
    "cancelRun with a key": lambda context, _, run_id: control.cancel_run(context, run_id, None, "key"),
    "pauseRun": lambda context, _, run_id: control.pause_run(context, run_id, 0, None),
    "stop_runs": lambda context, workflow_id, _: control.stop_runs(context, workflow_id, "Its workflow is deleted"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_the_worker_of_a_run_is_notified_after_the_client_has_disconnected(
    context: Context, database: Database, redis: Redis, call: Call
) -> None:
    workflow = await workflows.create_workflow(
        context, project_id=None, name="w", description=None, spec=SPEC, template=None
    )
    run = await start.run_workflow(context, StartArguments(workflow_id=workflow.id))
    async with open_worker(database, redis) as worker, redis.pubsub(ignore_subscribe_messages=True) as notices:
        await worker.claim(run)
        await notices.subscribe("test:nudge")
        # Redis delays the notification, and Postgres commits at once.
        await redis.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        call_task = asyncio.ensure_future(call(context, workflow.id, run.id))
        try:
            async with asyncio.timeout(20):
                while await database.pool.fetchval("SELECT status FROM runs") == "RUNNING":
                    pass
            await _waits_for_redis(redis)
            call_task.cancel()
            await asyncio.gather(call_task, return_exceptions=True)
        finally:
            await redis.execute_command("CLIENT", "UNPAUSE")
        async with asyncio.timeout(20):
            while (message := await notices.get_message(timeout=20)) is None:
                pass
        assert message["data"].decode() == run.id


async def _waits_for_redis(redis: Redis) -> None:
    async with asyncio.timeout(20):
        while not (await redis.info("clients"))["blocked_clients"]:
            pass


async def test_workers_are_notified_of_an_accepted_run_after_its_client_has_disconnected(
    context: Context, database: Database, redis: Redis
) -> None:
    workflow = await workflows.create_workflow(
        context, project_id=None, name="w", description=None, spec=SPEC, template=None
    )
    await redis.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
    call_task = asyncio.create_task(start.run_workflow(context, StartArguments(workflow_id=workflow.id)))
    try:
        await _waits_for_redis(redis)
        call_task.cancel()
        await asyncio.gather(call_task, return_exceptions=True)
        assert await database.pool.fetchval("SELECT count(*) FROM runs WHERE status = 'QUEUED'") == 1
    finally:
        await redis.execute_command("CLIENT", "UNPAUSE")
    async with asyncio.timeout(20):
        while await redis.zscore("test", "test:poll_queue") is None:
            pass


async def test_an_exception_of_a_shielded_call_reaches_the_caller_unchanged(context: Context) -> None:
    with pytest.raises(Exception, match="run_nobody"):
        await control.cancel_run(context, "run_nobody", None, None)


async def test_a_stopping_server_waits_for_shielded_calls_whose_clients_have_disconnected() -> None:
    published, release = [], asyncio.Event()

    async def publish() -> None:
        await release.wait()
        published.append("event")

    call_task = asyncio.create_task(shielded(publish()))
    await asyncio.sleep(0)
    call_task.cancel()
    await asyncio.gather(call_task, return_exceptions=True)
    await finish_shielded(0.01)
    assert published == []
    asyncio.get_running_loop().call_soon(release.set)
    await finish_shielded(20)
    assert published == ["event"]
