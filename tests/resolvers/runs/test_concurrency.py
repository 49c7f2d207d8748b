"""Concurrency limits of a spec are exact with simultaneous calls, for every kind of run."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from engine.states import RetryFrom, RunStatus
from persistence.problems import Busy
from persistence.runs.run import Run
from persistence.workflows import drafts, workflows
from resolvers.context import Context
from resolvers.runs import derive, start
from resolvers.runs.start import StartArguments
from tests.journal_worker import SPEC, JournalWorker


async def limited(context: Context, project: str, limit: int, on_limit: str) -> StartArguments:
    """Create a workflow with a concurrency limit, and return the arguments that start it."""
    spec: dict[str, Any] = {**SPEC, "concurrency": {"limit": limit, "onLimit": on_limit}}
    async with context.database.begin() as connection:
        content = drafts.Content(spec, f"{limit} {on_limit}")
        workflow = await workflows.create(
            connection, context.caller, project, name="Limited", description="", content=content
        )
    return StartArguments(workflow_id=workflow.id)


async def statuses(context: Context) -> dict[str, RunStatus]:
    rows = await context.database.pool.fetch("SELECT id, status FROM runs ORDER BY id")
    return {row["id"]: RunStatus(row["status"]) for row in rows}


async def cancel(context: Context, run: Run) -> None:
    await context.database.pool.execute("UPDATE runs SET status = 'CANCELLED' WHERE id = $1", run.id)


async def test_runs_of_a_limited_workflow_share_one_concurrency_key(context: Context, project: str) -> None:
    arguments = await limited(context, project, 2, "queue")
    runs = [await start.run_workflow(context, arguments) for _ in range(4)]
    assert {run.status for run in runs} == {RunStatus.QUEUED}
    rows = await context.database.pool.fetch("SELECT DISTINCT lane, lane_limit FROM runs")
    assert [tuple(row) for row in rows] == [(arguments.workflow_id, 2)]


async def test_of_many_simultaneous_calls_as_many_are_accepted_as_the_limit_allows(
    context: Context, project: str
) -> None:
    arguments = await limited(context, project, 3, "reject")
    answers = await asyncio.gather(*(start.run_workflow(context, arguments) for _ in range(20)), return_exceptions=True)
    assert Counter(type(answer) for answer in answers) == {Run: 3, Busy: 17}
    assert len(await statuses(context)) == 3
    first = next(answer for answer in answers if isinstance(answer, Run))
    await cancel(context, first)
    assert (await start.run_workflow(context, arguments)).status is RunStatus.QUEUED
    with pytest.raises(Busy):
        await start.run_workflow(context, arguments)


async def test_a_waiting_run_does_not_count_toward_the_limit(
    context: Context, project: str, worker: JournalWorker
) -> None:
    arguments = await limited(context, project, 1, "reject")
    held = await worker.claim(await start.run_workflow(context, arguments))
    with pytest.raises(Busy):
        await start.run_workflow(context, arguments)
    await held.finish(RunStatus.WAITING)
    await start.run_workflow(context, arguments)


async def test_a_newer_run_cancels_the_oldest(context: Context, project: str, worker: JournalWorker) -> None:
    arguments = await limited(context, project, 2, "cancelOldest")
    oldest = await start.run_workflow(context, arguments)
    await worker.claim(oldest)
    older = await start.run_workflow(context, arguments)
    newer = await start.run_workflow(context, arguments)
    assert await statuses(context) == {
        oldest.id: RunStatus.CANCELLING,
        older.id: RunStatus.QUEUED,
        newer.id: RunStatus.QUEUED,
    }
    newest = await start.run_workflow(context, arguments)
    assert (await statuses(context))[older.id] is RunStatus.CANCELLED
    assert (await statuses(context))[newest.id] is RunStatus.QUEUED
    [row] = await context.database.pool.fetch("SELECT status_message FROM runs WHERE id = $1", older.id)
    assert "newer run" in row["status_message"]


async def test_a_run_cancelled_for_a_newer_one_gets_the_configured_deadline(
    context: Context, project: str, worker: JournalWorker
) -> None:
    context.database.deadlines = replace(context.database.deadlines, cancelling=timedelta(seconds=33))
    arguments = await limited(context, project, 1, "cancelOldest")
    oldest = await start.run_workflow(context, arguments)
    await worker.claim(oldest)
    await start.run_workflow(context, arguments)
    query = "SELECT deadline_at - cancel_requested_at FROM runs WHERE id = $1 AND status = 'CANCELLING'"
    assert await context.database.pool.fetchval(query, oldest.id) == timedelta(seconds=33)


async def test_of_many_simultaneous_calls_only_the_newest_runs_are_not_cancelled(
    context: Context, project: str
) -> None:
    arguments = await limited(context, project, 2, "cancelOldest")
    runs = await asyncio.gather(*(start.run_workflow(context, arguments) for _ in range(12)))
    assert len({run.id for run in runs}) == 12
    assert Counter((await statuses(context)).values()) == {RunStatus.QUEUED: 2, RunStatus.CANCELLED: 10}


async def test_subscribers_of_a_run_that_is_cancelled_for_a_newer_one_are_notified(
    context: Context, project: str
) -> None:
    arguments = await limited(context, project, 1, "cancelOldest")
    oldest = await start.run_workflow(context, arguments)
    events = context.feed.follow(oldest.id, oldest.last_seq)
    following = asyncio.ensure_future(anext(events))
    await start.run_workflow(context, arguments)
    event = await asyncio.wait_for(following, 5)
    assert (event.run_id, event.seq) == (oldest.id, 2)
    await events.aclose()


async def test_a_repeat_with_the_same_key_counts_once(context: Context, project: str) -> None:
    arguments = replace(await limited(context, project, 1, "reject"), idempotency_key="once")
    first, second = await asyncio.gather(*(start.run_workflow(context, arguments) for _ in range(2)))
    assert first.id == second.id


async def test_a_created_run_counts_from_its_execution_on(context: Context, project: str) -> None:
    arguments = await limited(context, project, 1, "reject")
    pending = await start.create_run(context, arguments)
    running = await start.run_workflow(context, arguments)
    with pytest.raises(Busy):
        await start.execute_run(context, pending.id, None, replace_inputs=False, idempotency_key=None)
    assert (await statuses(context))[pending.id] is RunStatus.PENDING
    await cancel(context, running)
    executed = await start.execute_run(context, pending.id, None, replace_inputs=False, idempotency_key=None)
    assert executed.status is RunStatus.QUEUED


async def test_a_retry_counts_like_any_other_run(context: Context, project: str) -> None:
    arguments = await limited(context, project, 1, "reject")
    first = await start.run_workflow(context, arguments)
    await cancel(context, first)
    retry = derive.RetryArguments(first.id, RetryFrom.START)
    assert (await derive.retry_run(context, retry)).status is RunStatus.QUEUED
    with pytest.raises(Busy):
        await derive.retry_run(context, retry)


async def test_an_adhoc_spec_has_its_own_limit(context: Context, project: str) -> None:
    spec = {**SPEC, "concurrency": {"limit": 1, "onLimit": "reject"}}
    await start.run_adhoc(context, StartArguments(project_id=project, spec=spec))
    await start.run_adhoc(context, StartArguments(project_id=project, spec=SPEC))
    with pytest.raises(Busy):
        await start.run_adhoc(context, StartArguments(project_id=project, spec=spec))
