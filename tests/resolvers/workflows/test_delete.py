"""Deleting a workflow cancels its runs at once and waits until their code has stopped."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.events import Event, StatusChange
from engine.states import NodeStatus, RunStatus
from persistence.problems import InvalidState, NotFound
from persistence.runs import commands
from persistence.runs.run import Run
from resolvers.context import Context
from resolvers.runs import control, start
from resolvers.runs.start import StartArguments
from resolvers.workflows import workflows
from tests.journal_worker import SPEC, HeldRun, JournalWorker, wait_until


@pytest.fixture
async def workflow_id(context: Context) -> str:
    workflow = await workflows.create_workflow(
        context, project_id=None, name="w", description=None, spec=SPEC, template=None
    )
    return workflow.id


async def held_runs(context: Context, worker: JournalWorker, workflow_id: str, count: int) -> list[HeldRun]:
    runs = [await start.run_workflow(context, StartArguments(workflow_id=workflow_id)) for _ in range(count)]
    return [await worker.claim(run) for run in runs]


async def statuses(context: Context) -> list[str]:
    return [row["status"] for row in await context.database.pool.fetch("SELECT status FROM runs ORDER BY id")]


async def notified(redis: Redis, count: int) -> set[str]:
    """Return the runs of the next `count` notifications to workers."""
    async with redis.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe("test:nudge")
        run_ids: set[str] = set()
        async for message in subscription.listen():
            run_ids.add(message["data"].decode())
            if len(run_ids) == count:
                break
        return run_ids


async def test_a_delete_cancels_all_runs_at_once_and_waits_until_their_code_has_stopped(
    context: Context, worker: JournalWorker, workflow_id: str, redis: Redis
) -> None:
    held = await held_runs(context, worker, workflow_id, 6)
    await held[0].node("a", NodeStatus.RUNNING, visits=1)
    pending = await start.create_run(context, StartArguments(workflow_id=workflow_id))
    listening = asyncio.create_task(notified(redis, 6))
    deleting = asyncio.create_task(workflows.delete_workflow(context, workflow_id, cancel_runs=True))
    assert await asyncio.wait_for(listening, 10) == {lease.run_id for lease in held}
    assert await statuses(context) == [*["CANCELLING"] * 6, "CANCELLED"]
    assert not deleting.done()
    for lease in reversed(held):
        await lease.finish(RunStatus.CANCELLED, RunStatus.CANCELLING)
    assert await asyncio.wait_for(deleting, 10) == workflow_id
    assert await statuses(context) == []
    assert [event async for event in context.feed.follow(pending.id, 0)] == []


async def test_a_run_that_ends_by_itself_does_not_prevent_the_delete(
    context: Context, worker: JournalWorker, workflow_id: str
) -> None:
    [held] = await held_runs(context, worker, workflow_id, 1)
    await held.finish()
    assert await workflows.delete_workflow(context, workflow_id, cancel_runs=True) == workflow_id


async def test_a_run_that_does_not_stop_prevents_the_delete(
    context: Context, worker: JournalWorker, workflow_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STOP_MS", 50)
    await held_runs(context, worker, workflow_id, 1)
    with pytest.raises(InvalidState):
        await workflows.delete_workflow(context, workflow_id, cancel_runs=True)
    assert await statuses(context) == ["CANCELLING"]


async def test_runs_that_are_accepted_while_others_stop_are_cancelled_and_deleted_too(
    context: Context, worker: JournalWorker, workflow_id: str
) -> None:
    [held] = await held_runs(context, worker, workflow_id, 1)
    deleting = asyncio.create_task(workflows.delete_workflow(context, workflow_id, cancel_runs=True))
    await wait_until(lambda: context.feed.rest_waiter.waiting)
    late = await start.run_workflow(context, StartArguments(workflow_id=workflow_id))
    following = asyncio.create_task(_statuses(context, late))
    await wait_until(lambda: late.id in context.feed.streams.topics)
    await held.finish(RunStatus.CANCELLED, RunStatus.CANCELLING)
    await asyncio.wait_for(deleting, 10)
    assert (await asyncio.wait_for(following, 10))[-1] is RunStatus.CANCELLED


async def test_a_refused_delete_locks_no_run(context: Context, worker: JournalWorker, workflow_id: str) -> None:
    finished = await start.create_run(context, StartArguments(workflow_id=workflow_id))
    await control.cancel_run(context, finished.id, None, None)
    await held_runs(context, worker, workflow_id, 1)
    async with context.database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT id FROM runs WHERE id = $1 FOR UPDATE", finished.id)
        with pytest.raises(InvalidState):
            await asyncio.wait_for(workflows.delete_workflow(context, workflow_id, cancel_runs=False), 10)


async def test_a_delete_does_not_wait_for_a_new_run_that_no_worker_executes(
    context: Context, workflow_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[Run] = []
    cancel_all = commands.cancel_all

    async def then_accept(*args: Any) -> Any:
        transitions = await cancel_all(*args)
        if not late:
            late.append(await start.run_workflow(context, StartArguments(workflow_id=workflow_id)))
        return transitions

    monkeypatch.setattr(commands, "cancel_all", then_accept)
    deleting = workflows.delete_workflow(context, workflow_id, cancel_runs=True)
    assert await asyncio.wait_for(deleting, 3) == workflow_id
    assert late and await statuses(context) == []


async def test_a_delete_gives_the_child_runs_it_cancels_the_configured_deadline(
    context: Context, worker: JournalWorker, workflow_id: str
) -> None:
    context.database.deadlines = replace(context.database.deadlines, cancelling=timedelta(seconds=33))
    other = await workflows.create_workflow(
        context, project_id=None, name="other", description=None, spec=SPEC, template=None
    )
    [parent] = await held_runs(context, worker, workflow_id, 1)
    [child] = await held_runs(context, worker, other.id, 1)
    link = "UPDATE runs SET parent_id = $2, parent_key = '0/a/1' WHERE id = $1"
    await context.database.pool.execute(link, child.run_id, parent.run_id)
    deleting = asyncio.create_task(workflows.delete_workflow(context, workflow_id, cancel_runs=True))
    await wait_until(lambda: context.feed.rest_waiter.waiting)
    await parent.finish(RunStatus.CANCELLED, RunStatus.CANCELLING)
    await asyncio.wait_for(deleting, 10)
    query = "SELECT status, extract(epoch FROM deadline_at - cancel_requested_at)::int AS seconds FROM runs"
    assert [tuple(row) for row in await context.database.pool.fetch(query)] == [("CANCELLING", 33)]


async def test_simultaneous_accepts_and_deletes_never_deadlock(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STOP_MS", 200)

    async def run_until_deleted(workflow_id: str, *keys: str) -> None:
        with pytest.raises(NotFound):
            while True:
                for key in keys or (None,):
                    await start.run_workflow(context, StartArguments(workflow_id=workflow_id, idempotency_key=key))

    for number in range(20):
        workflow = await workflows.create_workflow(
            context, project_id=None, name="w", description=None, spec=SPEC, template=None
        )
        await start.run_workflow(context, StartArguments(workflow_id=workflow.id))
        running = [run_until_deleted(workflow.id) for _ in range(6)]
        keyed = [run_until_deleted(workflow.id, *(f"{number}/{key}" for key in range(n, 20))) for n in range(3)]
        deletes = [workflows.delete_workflow(context, workflow.id, cancel_runs=True) for _ in range(3)]
        results = await asyncio.gather(*running, *keyed, *deletes, return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), str, NotFound}, results
        assert await statuses(context) == []


async def _statuses(context: Context, run: Run) -> list[Any]:
    events = [event async for event in context.feed.follow(run.id, 0)]
    return [event.data.status for event in events if isinstance(event, Event) and isinstance(event.data, StatusChange)]
