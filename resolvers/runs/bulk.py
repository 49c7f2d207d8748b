"""Bulk operations: choose the runs of a job, and work on jobs.

Every server works on jobs. A claim and the position in the job divide the work; see
persistence.bulk_jobs. A job ends also if the server that accepted it dies.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import TERMINAL, RunStatus
from persistence.audit_log import record
from persistence.bulk_jobs import job as jobs
from persistence.bulk_jobs.deletion import delete_run
from persistence.bulk_jobs.job import BulkAction, BulkJob, ClaimedStep
from persistence.caller import Caller
from persistence.db.outage import Outage
from persistence.db.tables import runs
from persistence.db.transient import DATABASE_ERRORS, is_transient
from persistence.problems import NotFound, Problem, invalid
from persistence.runs.listing import RunList
from persistence.runs.run_filter import RunFilter
from persistence.runs.run_order import RunRange
from resolvers.authorise import project_for
from resolvers.context import Context
from resolvers.permissions import MUTATIONS
from resolvers.runs.control import cancel_run
from resolvers.runs.derive import RetryArguments, retry_run

log = structlog.get_logger(__name__)

MOST_RUNS = 10_000
INTERVAL_S = 1.0
"""Seconds between two looks for a job."""
APPLICABLE: dict[BulkAction, frozenset[RunStatus]] = {
    BulkAction.CANCEL: frozenset(RunStatus) - TERMINAL - {RunStatus.CANCELLING},
    BulkAction.RETRY: frozenset({RunStatus.FAILED, RunStatus.CANCELLED}),
    BulkAction.DELETE: TERMINAL,
}
"""The statuses of the runs that an action can change. Others do not match."""


async def create_job(
    context: Context, action: BulkAction, project_id: str | None, where: RunFilter, most: int, *, is_dry_run: bool
) -> BulkJob:
    """Choose the runs of a job, the newest first, and store it.

    Raises:
        NotFound, Forbidden: The caller has no role in the project, or a lower one than the action needs,
            or the filter names an object that does not exist.
        Invalid: The filter or `most` is out of range.
    """
    where.check()
    if not 1 <= most <= MOST_RUNS:
        raise invalid("input.max", "OUT_OF_RANGE", f"must be from 1 to {MOST_RUNS:,}, is {most}")
    await _check_named(context, where)
    applicable = APPLICABLE[action]
    where = replace(where, status=sorted(applicable if where.status is None else applicable & set(where.status)))
    async with context.database.begin() as connection:
        chosen = await project_for(connection, context.caller, MUTATIONS[action], project_id)
        query = RunList([chosen], where).page(RunRange(most)).with_only_columns(runs.c.id)
        run_ids = list((await connection.execute(query)).scalars())[:most]
        job = await jobs.create(connection, context.caller, chosen, action, run_ids, is_dry_run=is_dry_run)
        after = {"matched": job.matched, "dryRun": is_dry_run}
        await record(connection, context.caller, action, chosen, job.id, after=after)
    return job


async def _check_named(context: Context, where: RunFilter) -> None:
    """Raise NotFound for an object of the filter that does not exist: a wrong id shall not look like success."""
    loaders = context.loaders
    named = (
        (where.workflow_id, loaders.workflow),
        (where.version_id, loaders.version),
        (where.trigger_id, loaders.trigger),
    )
    for id, loader in named:
        if id is not None and await loader.load(id) is None:
            raise NotFound(id)


async def work_forever(context_of: Callable[[Caller], Context], context: Context) -> None:
    """Work on jobs until cancelled. A database that is away delays it, and no fault ends it.

    Args:
        context_of: Makes the context of a caller.
        context: The context of the process.
    """
    outage = Outage("bulk_jobs")
    while True:
        try:
            had_work = await work(context_of, context)
            outage.recovered()
        except DATABASE_ERRORS as error:
            had_work = False
            outage.failed(error)
        except Exception:
            had_work = False
            log.exception("bulk_jobs.step_failed")
        if not had_work:
            await asyncio.sleep(INTERVAL_S * random.uniform(0.75, 1.25))


async def work(context_of: Callable[[Caller], Context], context: Context) -> bool:
    """Do one step of the oldest job that no process works on. Return whether there was one.

    A run that cannot be changed, also because of a fault, is counted as failed.
    """
    step = await jobs.claim_step(context.database.pool)
    if step is None:
        return False
    done, last_error = 0, None
    for run_id in step.run_ids:
        try:
            await _change(context_of(step.caller), step, run_id)
            done += 1
        except Problem as problem:
            last_error = f"{run_id}: {problem}"
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("bulk_jobs.fault", job_id=step.job_id, run_id=run_id)
            last_error = f"{run_id}: an unexpected error, which the log of the server has (bulk_jobs.fault)"
    await jobs.finish_step(context.database.pool, step, done, last_error)
    return True


async def _change(context: Context, step: ClaimedStep, run_id: str) -> None:
    """Change one run, once however often it is called. Raises Problem if it cannot be changed."""
    key = f"{step.job_id}/{run_id}"
    match step.action:
        case BulkAction.CANCEL:
            await cancel_run(context, run_id, None, key)
        case BulkAction.RETRY:
            await retry_run(context, RetryArguments(run_id, idempotency_key=key))
        case BulkAction.DELETE:
            async with context.database.begin() as connection:
                await _delete(connection, context, run_id)


async def _delete(connection: AsyncConnection, context: Context, run_id: str) -> None:
    # A step before the crash, or retention, may have deleted it.
    with suppress(NotFound):
        await delete_run(connection, context.caller, run_id)
