"""Run control against real Postgres and Redis: refused calls, repeated calls and races."""

import asyncio
from dataclasses import replace

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from engine.states import NodeStatus, RunMode, RunStatus
from persistence.caller import Caller, Role
from persistence.feed.feed import Feed
from persistence.problems import Conflict, Forbidden, Invalid, InvalidState, NotFound
from persistence.queue.notifier import Notifier
from persistence.runs import node_states
from resolvers.context import Context
from resolvers.runs import control, start
from resolvers.runs.start import StartArguments
from tests.journal_worker import SPEC, JournalWorker, wait_until


@pytest.fixture
def adhoc(project: str) -> StartArguments:
    return StartArguments(project_id=project, spec=SPEC)


async def test_an_accepted_run_is_queued_and_a_worker_is_notified(
    context: Context, adhoc: StartArguments, redis: Redis
) -> None:
    run = await start.run_adhoc(context, adhoc)
    assert (run.status, run.last_seq, run.dispatch_number) == (RunStatus.QUEUED, 1, 1)
    assert await redis.zscore("test", "test:poll_queue") is not None


async def test_a_run_is_accepted_without_redis(context: Context, adhoc: StartArguments) -> None:
    unreachable = ArqRedis.from_url("unix:///nonexistent/redis.sock")
    without_redis = replace(context, notifier=Notifier(unreachable, "test"), feed=Feed(context.database, unreachable))
    assert (await start.run_adhoc(without_redis, adhoc)).status is RunStatus.QUEUED


async def test_inputs_that_do_not_match_the_schema_are_reported_by_path(
    context: Context, adhoc: StartArguments
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["who"]}
    with pytest.raises(Invalid) as caught:
        await start.run_adhoc(context, replace(adhoc, spec={**SPEC, "inputs": schema}, inputs={"n": "one"}))
    assert {problem.field for problem in caught.value.errors} == {"inputs", "inputs.n"}


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize(
    "inputs", [{"x": "y" * 2**21}, {"x": 10**40}, {"x": float("nan")}, {"x": "\0"}, {"x": "\ud800"}]
)
async def test_inputs_that_cannot_be_stored_are_refused(
    context: Context, adhoc: StartArguments, inputs: object, key: str | None
) -> None:
    with pytest.raises(Invalid):
        await start.run_adhoc(context, replace(adhoc, inputs=inputs, idempotency_key=key))
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == 0


async def test_a_schema_with_a_remote_reference_is_refused_and_not_fetched(
    context: Context, adhoc: StartArguments
) -> None:
    schema = {"$ref": "http://127.0.0.1:1/schema.json"}
    with pytest.raises(Invalid):
        await start.run_adhoc(context, replace(adhoc, spec={**SPEC, "inputs": schema}))


async def test_a_repeat_with_the_same_key_returns_the_same_run(context: Context, adhoc: StartArguments) -> None:
    arguments = replace(adhoc, idempotency_key="k")
    first = await start.run_adhoc(context, arguments)
    assert (await start.run_adhoc(context, arguments)).id == first.id
    with pytest.raises(Conflict):
        await start.run_adhoc(context, replace(arguments, inputs={"other": 1}))


async def test_of_simultaneous_calls_with_one_key_one_creates_the_run(context: Context, adhoc: StartArguments) -> None:
    arguments = replace(adhoc, idempotency_key="k")
    runs = await asyncio.gather(*(start.run_adhoc(context, arguments) for _ in range(20)))
    assert len({run.id for run in runs}) == 1
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == 1


async def test_a_queued_run_is_cancelled_at_once(context: Context, adhoc: StartArguments) -> None:
    run = await start.run_adhoc(context, adhoc)
    cancelled = await control.cancel_run(context, run.id, "no need", None)
    assert (cancelled.status, cancelled.status_message, cancelled.last_seq) == (RunStatus.CANCELLED, "no need", 4)
    assert cancelled.finished_at is not None
    with pytest.raises(InvalidState) as caught:
        await control.cancel_run(context, run.id, None, None)
    assert caught.value.run_status is RunStatus.CANCELLED


async def test_a_leased_run_is_cancelling_until_its_worker_reports_the_end(
    context: Context, adhoc: StartArguments, worker: JournalWorker
) -> None:
    run = await start.run_adhoc(context, adhoc)
    held = await worker.claim(run)
    first = await control.cancel_run(context, run.id, None, None)
    again = await control.cancel_run(context, run.id, None, None)
    assert first.status is again.status is RunStatus.CANCELLING
    assert first.last_seq == again.last_seq
    assert first.deadline_at is not None
    await held.finish(RunStatus.CANCELLED, RunStatus.CANCELLING)


async def test_a_released_run_shows_no_running_node_once_it_is_cancelled(
    context: Context, adhoc: StartArguments, worker: JournalWorker
) -> None:
    run = await start.run_adhoc(context, adhoc)
    await (await worker.claim(run)).node("a", NodeStatus.RUNNING, visits=1)
    await context.database.pool.execute("UPDATE runs SET status = 'QUEUED' WHERE id = $1", run.id)
    cancelled = await control.cancel_run(context, run.id, None, None)
    async with context.database.connect() as connection:
        states = (await node_states.states(connection, context.caller, [run.id]))[run.id]
    assert states[0].status is NodeStatus.CANCELLED
    assert cancelled.last_seq == 6
    events = [event async for event in context.feed.follow(run.id, 0)]
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6]


async def test_simultaneous_cancels_change_a_run_once(context: Context, adhoc: StartArguments) -> None:
    run = await start.run_adhoc(context, adhoc)
    results = await asyncio.gather(
        *(control.cancel_run(context, run.id, None, None) for _ in range(10)), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert all(isinstance(result, InvalidState) for result in results if isinstance(result, BaseException))


async def test_a_synchronous_call_returns_when_the_run_is_idle(
    context: Context, adhoc: StartArguments, worker: JournalWorker
) -> None:
    waiting = asyncio.create_task(start.run_adhoc(context, replace(adhoc, mode=RunMode.SYNC)))
    await wait_until(lambda: context.feed.rest_waiter.waiting)
    (run_id,) = context.feed.rest_waiter.waiting
    run = await context.loaders.run.load(run_id)
    assert run is not None
    await (await worker.claim(run)).finish()
    answer = await waiting
    assert (answer.status, answer.output) == (RunStatus.COMPLETED, {"ok": True})
    assert not context.feed.rest_waiter.waiting


async def test_a_synchronous_call_returns_the_current_run_after_its_timeout(
    context: Context, adhoc: StartArguments
) -> None:
    run = await start.run_adhoc(context, replace(adhoc, mode=RunMode.SYNC, timeout_ms=50))
    assert run.status is RunStatus.QUEUED
    assert not context.feed.rest_waiter.waiting


WAIT = """INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, until)
    VALUES ('wait_1', $1, 'a', 1, 0, 1, $2, now() + interval '1 h')"""


@pytest.mark.parametrize(("kind", "returns"), [("TIMER", False), ("RETRY", False), ("RUN", False), ("INPUT", True)])
async def test_a_synchronous_call_waits_through_everything_but_questions(
    context: Context, adhoc: StartArguments, kind: str, returns: bool
) -> None:
    run = await start.run_adhoc(context, adhoc)
    await context.database.pool.execute("UPDATE runs SET status = 'WAITING' WHERE id = $1", run.id)
    await context.database.pool.execute(WAIT, run.id, kind)
    waiting = asyncio.create_task(start.wait_until_idle(context, run, 60_000))
    if not returns:
        await wait_until(lambda: context.feed.rest_waiter.waiting)
        await control.cancel_run(context, run.id, None, None)
    assert (await waiting).status is (RunStatus.WAITING if returns else RunStatus.CANCELLED)


async def test_a_viewer_may_not_control_a_run_and_another_user_does_not_find_it(
    context: Context, adhoc: StartArguments, project: str
) -> None:
    run = await start.run_adhoc(context, adhoc)
    viewer = Caller("viewer", {project: Role.VIEWER})
    with pytest.raises(Forbidden):
        await control.cancel_run(replace(context, caller=viewer), run.id, None, None)
    with pytest.raises(NotFound):
        await control.cancel_run(replace(context, caller=Caller("another user", {})), run.id, None, None)
