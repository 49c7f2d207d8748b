"""Rescues runs whose worker is gone: queues them again, or ends them where that was requested.

Any number of workers may do this at once: SKIP LOCKED divides the work (the JobRescuer of river).
Each change writes its events in the same transaction, so a crash leaves a run rescued or not. Used
by recovery, and by a worker that cannot execute a run.
"""

from datetime import timedelta

from sqlalchemy import case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import NodeChange, RunError, StatusChange
from engine.states import LEASED, NodeStatus, RunStatus
from persistence.db.database import Database
from persistence.db.tables import runs
from persistence.events import codec
from persistence.events.run_transition import RunTransition
from persistence.queue.leases import transition_of
from persistence.runs import node_states
from persistence.runs.commands import idle_deadline, queue_columns
from persistence.runs.run import RUN_COLUMNS, CommandResult, Run, run_of
from persistence.runs.transition import change_status, finish

GONE = "The worker that held this run is gone"
LIMIT = 100
"""Most runs that one call changes."""


async def rescue_expired(database: Database, max_attempts: int) -> list[RunTransition]:
    """Rescue runs whose lease has expired.

    RUNNING runs are queued again, PAUSING ones are PAUSED, CANCELLING ones are CANCELLED. A run in
    a crash loop fails. A crash counts if nothing was finished since the crash before it, so a run
    that makes progress is never in a crash loop.

    Args:
        database: The pools.
        max_attempts: How many crashes in a row, without progress in between, are a crash loop.
    """
    rows = await database.pool.fetch(_REQUEUE, max_attempts, LIMIT)
    transitions = [transition_of(row, RunStatus.QUEUED, RunStatus.RUNNING, GONE) for row in rows]
    async with database.begin() as connection:
        for run in await _lock_runs_to_end(connection, max_attempts):
            transitions += (await _end(connection, run, database.deadlines.idle)).transitions
    return transitions


async def _lock_runs_to_end(connection: AsyncConnection, max_attempts: int) -> list[Run]:
    """Lock the runs with an expired lease that must not be queued again."""
    query = select(*RUN_COLUMNS).where(runs.c.status.in_(LEASED), runs.c.lease_until < func.now())
    query = query.where(or_(runs.c.status != RunStatus.RUNNING, runs.c.crashes >= max_attempts))
    rows = await connection.execute(query.order_by(runs.c.id).limit(LIMIT).with_for_update(skip_locked=True))
    return [run_of(row) for row in rows.mappings()]


async def _end(connection: AsyncConnection, run: Run, idle: timedelta | None) -> CommandResult:
    if run.status is RunStatus.PAUSING:
        return await _pause(connection, run, idle)
    if run.status is RunStatus.CANCELLING:
        change = StatusChange(RunStatus.CANCELLED, run.status, run.cancel_reason or GONE)
        return await finish(connection, run, change, cancelled_at=func.now())
    message = "its workers died repeatedly, and nothing was finished in between"
    return await _fail(connection, run, RunError("CRASH_LOOP", message, retryable=True))


async def fail_undrivable(database: Database, run_id: str, epoch: int, error: RunError) -> RunTransition | None:
    """Fail a run that its worker cannot execute, or cancel it where that was requested.

    Returns:
        The transition. None: the worker no longer holds the run under this epoch.
    """
    async with database.begin() as connection:
        run = await _lock_leased(connection, run_id, epoch)
        if run is None:
            return None
        if run.status is RunStatus.CANCELLING:
            return (await _end(connection, run, database.deadlines.idle)).transitions[-1]
        return (await _fail(connection, run, error)).transitions[-1]


async def release(database: Database, run_id: str, epoch: int) -> RunTransition | None:
    """Queue a run again that its worker cannot execute now, because a store cannot be reached.

    Returns:
        The transition. None: the worker no longer holds the run under this epoch.
    """
    async with database.begin() as connection:
        run = await _lock_leased(connection, run_id, epoch)
        if run is None:
            return None
        if run.status is not RunStatus.RUNNING:
            return (await _end(connection, run, database.deadlines.idle)).transitions[-1]
        change = StatusChange(RunStatus.QUEUED, run.status, "Released: a store could not be reached")
        no_lease = {"epoch": runs.c.epoch + 1, "worker_id": None, "lease_until": None}
        place = {"queued_at": case((runs.c.concurrency_limit == 1, runs.c.queued_at), else_=func.now())}
        values = {**queue_columns(), **no_lease, **place}
        return (await change_status(connection, run, change, **values)).transitions[-1]


async def _lock_leased(connection: AsyncConnection, run_id: str, epoch: int) -> Run | None:
    is_leased = (runs.c.id == run_id, runs.c.epoch == epoch, runs.c.status.in_(LEASED))
    row = (await connection.execute(select(*RUN_COLUMNS).where(*is_leased).with_for_update())).mappings().one_or_none()
    return None if row is None else run_of(row)


async def _fail(connection: AsyncConnection, run: Run, error: RunError) -> CommandResult:
    change = StatusChange(RunStatus.FAILED, run.status, error.message)
    return await finish(connection, run, change, error=codec.error_body(error))


async def _pause(connection: AsyncConnection, run: Run, idle: timedelta | None) -> CommandResult:
    running = [
        state for state in await node_states.unfinished(connection, run.id) if state.status is NodeStatus.RUNNING
    ]
    return await change_status(
        connection,
        run,
        StatusChange(RunStatus.PAUSED, run.status, GONE),
        *(NodeChange(node_states.as_interrupted(state)) for state in running),
        epoch=runs.c.epoch + 1,
        worker_id=None,
        lease_until=None,
        paused_at=func.now(),
        deadline_at=idle_deadline(run.id, idle),
    )


_REQUEUE = """
WITH expired AS (
    SELECT r.id, r.crashes, r.crashed_seq, greatest(
        (SELECT max(seq) FROM node_outputs o WHERE o.run_id = r.id),
        (SELECT max(seq) FROM checkpoints c WHERE c.run_id = r.id), 0) AS finished_seq
    FROM runs r WHERE r.status = 'RUNNING' AND r.lease_until < now()
    ORDER BY r.id LIMIT $2 FOR UPDATE SKIP LOCKED
), counted AS (
    SELECT id, finished_seq, CASE WHEN crashed_seq = finished_seq THEN crashes + 1 ELSE 1 END AS crashes FROM expired
), moved AS (
    UPDATE runs r SET status = 'QUEUED', epoch = r.epoch + 1, worker_id = NULL, lease_until = NULL,
        last_seq = r.last_seq + 1, takeup = r.takeup + 1, crashes = c.crashes, crashed_seq = c.finished_seq,
        status_message = 'The worker that held this run is gone',
        -- It keeps its place where runs are executed one after another, as in a thread.
        queued_at = CASE WHEN r.lane_limit = 1 THEN r.queued_at ELSE now() END
    FROM counted c WHERE r.id = c.id AND c.crashes < $1
    RETURNING r.id, r.project_id, r.last_seq, r.status, r.status_message, now() AS at
), looping AS (
    UPDATE runs r SET crashes = c.crashes, crashed_seq = c.finished_seq FROM counted c
    WHERE r.id = c.id AND c.crashes >= $1
), event AS (
    INSERT INTO events (run_id, seq, type, at, body)
    SELECT id, last_seq, 'RUN_STATUS', at,
        json_build_object('status', status, 'previous', 'RUNNING', 'message', status_message)
    FROM moved
)
SELECT * FROM moved
"""
