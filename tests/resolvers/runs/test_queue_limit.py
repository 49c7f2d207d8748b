"""The queued runs of a project are bounded, and nothing that was accepted is lost by it."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from engine.states import RunStatus
from persistence.problems import ProblemCode, ProjectStorageFull, TooManyQueuedRuns
from persistence.runs import queue_limit
from persistence.runs.queue_limit import QueueLimit, largest_projects, megabytes
from persistence.runs.run import Run
from persistence.workflows import drafts, workflows
from resolvers.context import Context
from resolvers.runs import start
from resolvers.runs.start import StartArguments
from tests.journal_worker import SPEC


async def new_workflow(context: Context, project: str) -> StartArguments:
    async with context.database.begin() as connection:
        content = drafts.Content(SPEC, "queue limit")
        workflow = await workflows.create(
            connection, context.caller, project, name="Many", description="", content=content
        )
    return StartArguments(workflow_id=workflow.id)


async def queued(context: Context) -> int:
    count: int = await context.database.pool.fetchval("SELECT count(*) FROM runs WHERE status = 'QUEUED'")
    return count


@pytest.mark.parametrize("is_cached", [True, False])
async def test_of_many_simultaneous_calls_as_many_are_accepted_as_the_queue_has_places(
    context: Context, project: str, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    monkeypatch.setattr(queue_limit, "REFRESH_S", 60.0)
    arguments = await new_workflow(context, project)
    first = await start.run_workflow(context, arguments) if is_cached else None
    context.queue_limit = QueueLimit(4)
    answers = await asyncio.gather(*(start.run_workflow(context, arguments) for _ in range(20)), return_exceptions=True)
    expected = 3 if is_cached else 4
    assert Counter(type(answer) for answer in answers) == {Run: expected, TooManyQueuedRuns: 20 - expected}
    assert await queued(context) == 4
    [refusal, *_] = [answer for answer in answers if isinstance(answer, TooManyQueuedRuns)]
    assert refusal.code is ProblemCode.LIMIT and "TREADLE_PROJECT_QUEUE_LIMIT" in refusal.detail
    monkeypatch.setattr(queue_limit, "REFRESH_S", 0.0)
    accepted = first or next(answer for answer in answers if isinstance(answer, Run))
    await context.database.pool.execute("UPDATE runs SET status = 'CANCELLED' WHERE id = $1", accepted.id)
    assert (await start.run_workflow(context, arguments)).status is RunStatus.QUEUED
    with pytest.raises(TooManyQueuedRuns):
        await start.run_workflow(context, arguments)


async def test_a_repeat_returns_its_run_although_the_queue_is_full(context: Context, project: str) -> None:
    arguments = replace(await new_workflow(context, project), idempotency_key="once")
    context.queue_limit = QueueLimit(1)
    runs = await asyncio.gather(*(start.run_workflow(context, arguments) for _ in range(5)))
    assert len({run.id for run in runs}) == 1
    with pytest.raises(TooManyQueuedRuns):
        await start.run_workflow(context, replace(arguments, idempotency_key="twice"))


async def test_a_pending_run_stays_pending_until_the_queue_has_a_place(
    context: Context, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_limit, "REFRESH_S", 0.0)
    arguments, context.queue_limit = await new_workflow(context, project), QueueLimit(1)
    blocking, pending = await start.run_workflow(context, arguments), await start.create_run(context, arguments)

    async def execute() -> Run:
        return await start.execute_run(context, pending.id, {}, replace_inputs=False, idempotency_key=None)

    with pytest.raises(TooManyQueuedRuns):
        await execute()
    assert await queued(context) == 1
    await context.database.pool.execute("UPDATE runs SET status = 'CANCELLED' WHERE id = $1", blocking.id)
    assert (await execute()).status is RunStatus.QUEUED


async def test_runs_that_wait_for_their_start_are_bounded_and_can_start(context: Context, project: str) -> None:
    arguments = await new_workflow(context, project)
    context.queue_limit = QueueLimit(2)
    created = [await start.create_run(context, arguments) for _ in range(2)]
    with pytest.raises(TooManyQueuedRuns, match="2 PENDING runs"):
        await start.create_run(context, arguments)
    for run in created:
        await start.execute_run(context, run.id, None, replace_inputs=False, idempotency_key=None)
    assert await queued(context) == 2


async def test_a_project_that_stores_too_much_starts_no_run_until_some_are_deleted(
    context: Context, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_limit, "STORAGE_REFRESH_S", 0.0)
    monkeypatch.setattr(queue_limit, "STORAGE_SHARE", 1e9)
    arguments = await new_workflow(context, project)
    first = await start.run_workflow(context, arguments)
    pool = context.database.pool
    await pool.execute("UPDATE runs SET stored_bytes = 1000000, status = 'COMPLETED' WHERE id = $1", first.id)
    context.queue_limit = QueueLimit(max_stored_bytes=megabytes(1))
    for refused in (start.run_workflow, start.create_run):
        with pytest.raises(ProjectStorageFull, match=r"store 1 MB, and .* allows 1 MB \(TREADLE_PROJECT_STORAGE_MB\)"):
            await refused(context, arguments)
    assert await largest_projects(pool, 10) == [("default", 1_000_000)]
    await pool.execute("DELETE FROM runs WHERE id = $1", first.id)
    assert (await start.run_workflow(context, arguments)).status is RunStatus.QUEUED
