"""Run control against real Postgres and Redis: what is refused, what is repeated, and what a race leaves behind."""

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
from tests.journal_worker import SPEC, Worker, until


@pytest.fixture
def adhoc(project: str) -> StartArguments:
    return StartArguments(project_id=project, spec=SPEC)


async def test_an_accepted_run_is_queued_and_the_doorbell_rings(
    context: Context, adhoc: StartArguments, redis: Redis
) -> None:
    run = await start.run_adhoc(context, adhoc)
    assert (run.status, run.last_seq, run.dispatch_number) == (RunStatus.QUEUED, 1, 1)
    assert await redis.zscore("test", "test:poll_queue") is not None


async def test_a_run_is_accepted_without_redis(context: Context, adhoc: StartArguments) -> None:
    away = ArqRedis.from_url("unix:///nonexistent/redis.sock")
    alone = replace(context, notifier=Notifier(away, "test"), feed=Feed(context.database, away))
    assert (await start.run_adhoc(alone, adhoc)).status is RunStatus.QUEUED


async def test_inputs_that_the_schema_refuses_are_named_by_path(context: Context, adhoc: StartArguments) -> None:
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


async def test_a_schema_that_points_elsewhere_is_a_problem_and_no_request(
    context: Context, adhoc: StartArguments
) -> None:
    schema = {"$ref": "http://127.0.0.1:1/schema.json"}
    with pytest.raises(Invalid):
        await start.run_adhoc(context, replace(adhoc, spec={**SPEC, "inputs": schema}))


async def test_the_same_key_answers_with_the_same_run(context: Context, adhoc: StartArguments) -> None:
    ask = replace(adhoc, idempotency_key="k")
    first = await start.run_adhoc(context, ask)
    assert (await start.run_adhoc(context, ask)).id == first.id
    with pytest.raises(Conflict):
        await start.run_adhoc(context, replace(ask, inputs={"other": 1}))


async def test_of_calls_with_one_key_at_once_one_makes_the_run(context: Context, adhoc: StartArguments) -> None:
    ask = replace(adhoc, idempotency_key="k")
    made = await asyncio.gather(*(start.run_adhoc(context, ask) for _ in range(20)))
    assert len({run.id for run in made}) == 1
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == 1


async def test_a_queued_run_is_cancelled_at_once(context: Context, adhoc: StartArguments) -> None:
    run = await start.run_adhoc(context, adhoc)
    cancelled = await control.cancel_run(context, run.id, "no need", None)
    assert (cancelled.status, cancelled.status_message, cancelled.last_seq) == (RunStatus.CANCELLED, "no need", 2)
    assert cancelled.finished_at is not None
    with pytest.raises(InvalidState) as caught:
        await control.cancel_run(context, run.id, None, None)
    assert caught.value.run_status is RunStatus.CANCELLED


async def test_a_held_run_is_cancelling_until_its_worker_says_more(
    context: Context, adhoc: StartArguments, worker: Worker
) -> None:
    run = await start.run_adhoc(context, adhoc)
    held = await worker.takes_up(run)
    asked = await control.cancel_run(context, run.id, None, None)
    again = await control.cancel_run(context, run.id, None, None)
    assert asked.status is again.status is RunStatus.CANCELLING
    assert asked.last_seq == again.last_seq
    assert asked.deadline_at is not None
    await held.ends(RunStatus.CANCELLED, RunStatus.CANCELLING)


async def test_a_run_given_back_in_mid_node_shows_no_running_node_once_cancelled(
    context: Context, adhoc: StartArguments, worker: Worker
) -> None:
    run = await start.run_adhoc(context, adhoc)
    await (await worker.takes_up(run)).node("a", NodeStatus.RUNNING, visits=1)
    await context.database.pool.execute("UPDATE runs SET status = 'QUEUED' WHERE id = $1", run.id)
    cancelled = await control.cancel_run(context, run.id, None, None)
    async with context.database.connect() as connection:
        states = (await node_states.states(connection, context.caller, [run.id]))[run.id]
    assert states[0].status is NodeStatus.CANCELLED
    assert cancelled.last_seq == 5
    told = [event async for event in context.feed.follow(run.id, 0)]
    assert [event.seq for event in told] == [1, 2, 3, 4, 5]


async def test_cancelling_at_once_from_many_sides_changes_it_once(context: Context, adhoc: StartArguments) -> None:
    run = await start.run_adhoc(context, adhoc)
    done = await asyncio.gather(
        *(control.cancel_run(context, run.id, None, None) for _ in range(10)), return_exceptions=True
    )
    assert sum(not isinstance(one, BaseException) for one in done) == 1
    assert all(isinstance(one, InvalidState) for one in done if isinstance(one, BaseException))


async def test_a_synchronous_run_answers_when_it_rests(context: Context, adhoc: StartArguments, worker: Worker) -> None:
    waiting = asyncio.create_task(start.run_adhoc(context, replace(adhoc, mode=RunMode.SYNC)))
    await until(lambda: context.feed.rest_waiter.waiting)
    (run_id,) = context.feed.rest_waiter.waiting
    run = await context.loaders.run.load(run_id)
    assert run is not None
    await (await worker.takes_up(run)).ends()
    answer = await waiting
    assert (answer.status, answer.output) == (RunStatus.COMPLETED, {"ok": True})
    assert not context.feed.rest_waiter.waiting


async def test_a_synchronous_run_answers_as_it_stands_when_time_is_over(
    context: Context, adhoc: StartArguments
) -> None:
    run = await start.run_adhoc(context, replace(adhoc, mode=RunMode.SYNC, timeout_ms=50))
    assert run.status is RunStatus.QUEUED
    assert not context.feed.rest_waiter.waiting


async def test_a_viewer_may_not_run_and_a_stranger_sees_nothing(
    context: Context, adhoc: StartArguments, project: str
) -> None:
    run = await start.run_adhoc(context, adhoc)
    viewer = Caller("viewer", {project: Role.VIEWER})
    with pytest.raises(Forbidden):
        await control.cancel_run(replace(context, caller=viewer), run.id, None, None)
    with pytest.raises(NotFound):
        await control.cancel_run(replace(context, caller=Caller("stranger", {})), run.id, None, None)
