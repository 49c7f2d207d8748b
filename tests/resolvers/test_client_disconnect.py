"""A caller that goes away between a commit and its telling: who has to know is told all the same."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from persistence.db.database import Database
from resolvers.context import Context
from resolvers.idempotent import settled, shielded
from resolvers.runs import control, start
from resolvers.runs.start import StartArguments
from resolvers.workflows import workflows
from tests.journal_worker import SPEC, working

Call = Callable[[Context, str, str], Awaitable[object]]

CALLS: dict[str, Call] = {
    "cancelRun": lambda context, _, run_id: control.cancel_run(context, run_id, None, None),
    "cancelRun with a key": lambda context, _, run_id: control.cancel_run(context, run_id, None, "key"),
    "pauseRun": lambda context, _, run_id: control.pause_run(context, run_id, 0, None),
    "stop_runs": lambda context, workflow_id, _: control.stop_runs(context, workflow_id, "Its workflow is deleted"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_the_worker_of_a_run_is_told_although_the_caller_has_left(
    context: Context, database: Database, redis: Redis, call: Call
) -> None:
    made = await workflows.create_workflow(
        context, project_id=None, name="w", description=None, spec=SPEC, template=None
    )
    run = await start.run_workflow(context, StartArguments(workflow_id=made.id))
    async with working(database, redis) as worker, redis.pubsub(ignore_subscribe_messages=True) as nudges:
        await worker.takes_up(run)
        await nudges.subscribe("test:nudge")
        # Redis holds up the telling, and Postgres not the commit.
        await redis.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        calling = asyncio.ensure_future(call(context, made.id, run.id))
        try:
            async with asyncio.timeout(20):
                while await database.pool.fetchval("SELECT status FROM runs") == "RUNNING":
                    pass
            await _waits_for_redis(redis)
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
        finally:
            await redis.execute_command("CLIENT", "UNPAUSE")
        async with asyncio.timeout(20):
            while (message := await nudges.get_message(timeout=20)) is None:
                pass
        assert message["data"].decode() == run.id


async def _waits_for_redis(redis: Redis) -> None:
    async with asyncio.timeout(20):
        while not (await redis.info("clients"))["blocked_clients"]:
            pass


async def test_a_run_that_was_accepted_is_rung_for_although_its_caller_has_left(
    context: Context, database: Database, redis: Redis
) -> None:
    made = await workflows.create_workflow(
        context, project_id=None, name="w", description=None, spec=SPEC, template=None
    )
    await redis.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
    calling = asyncio.create_task(start.run_workflow(context, StartArguments(workflow_id=made.id)))
    try:
        await _waits_for_redis(redis)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        assert await database.pool.fetchval("SELECT count(*) FROM runs WHERE status = 'QUEUED'") == 1
    finally:
        await redis.execute_command("CLIENT", "UNPAUSE")
    async with asyncio.timeout(20):
        while await redis.zscore("test", "test:poll_queue") is None:
            pass


async def test_what_goes_wrong_reaches_the_caller_as_it_is(context: Context) -> None:
    with pytest.raises(Exception, match="run_nobody"):
        await control.cancel_run(context, "run_nobody", None, None)


async def test_a_server_that_stops_waits_for_what_was_begun_for_callers_that_are_gone() -> None:
    told, go_on = [], asyncio.Event()

    async def telling() -> None:
        await go_on.wait()
        told.append("told")

    calling = asyncio.create_task(shielded(telling()))
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    await settled(0.01)
    assert told == []
    asyncio.get_running_loop().call_soon(go_on.set)
    await settled(20)
    assert told == ["told"]
