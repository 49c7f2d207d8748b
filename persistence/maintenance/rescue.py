"""Runs whose worker is gone: taken back, so that another one goes on, or ended where that was asked for.

Any number of workers do this at once: SKIP LOCKED shares the work. Each change writes its events in its own transaction.
"""

from datetime import timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import NodeChange, RunError, StatusChange
from engine.states import LEASED, NodeStatus, RunStatus
from persistence.db.database import Database
from persistence.db.tables import runs
from persistence.events import codec
from persistence.events.run_transition import RunTransition
from persistence.queue.leases import transition_of
from persistence.runs import node_states
from persistence.runs.commands import queued
from persistence.runs.run import CommandResult, Run, run_of
from persistence.runs.transition import end, move

GONE = "The worker that held this run is gone"
LIMIT = 100


async def rescue_expired(database: Database, max_attempts: int) -> list[RunTransition]:
    """Runs whose lease has run out: queued again; cancelled or paused where that was asked for; failed in a crash loop.

    A crash counts if nothing has been finished since the one before it: a run that gets on is never in a loop.
    """
    rows = await database.pool.fetch(_TAKE_BACK, max_attempts, LIMIT)
    transitions = [transition_of(row, RunStatus.QUEUED, RunStatus.RUNNING, GONE) for row in rows]
    async with database.begin() as connection:
        for run in await _left(connection, max_attempts):
            transitions += (await _end(connection, run, database.deadlines.idle)).transitions
    return transitions


async def _left(connection: AsyncConnection, max_attempts: int) -> list[Run]:
    """The lost ones that must not simply go on."""
    query = select(runs).where(runs.c.status.in_(LEASED), runs.c.lease_until < func.now())
    query = query.where(or_(runs.c.status != RunStatus.RUNNING, runs.c.crashes >= max_attempts))
    found = await connection.execute(query.order_by(runs.c.id).limit(LIMIT).with_for_update(skip_locked=True))
    return [run_of(row) for row in found.mappings()]


async def _end(connection: AsyncConnection, run: Run, rest: timedelta) -> CommandResult:
    if run.status is RunStatus.PAUSING:
        return await _pause(connection, run, rest)
    if run.status is RunStatus.CANCELLING:
        told = StatusChange(RunStatus.CANCELLED, run.status, run.cancel_reason or GONE)
        return await end(connection, run, told, cancelled_at=func.now())
    message = "its worker was lost again and again, with nothing finished in between"
    return await _fail(connection, run, RunError("CRASH_LOOP", message, retryable=True))


async def fail_undrivable(database: Database, run_id: str, epoch: int, error: RunError) -> RunTransition | None:
    """A run that its worker cannot drive fails, or is cancelled where that was asked for. None: it is not that worker's."""
    async with database.begin() as connection:
        held = (runs.c.id == run_id, runs.c.epoch == epoch, runs.c.status.in_(LEASED))
        row = (await connection.execute(select(runs).where(*held).with_for_update())).mappings().one_or_none()
        if row is None:
            return None
        run = run_of(row)
        if run.status is RunStatus.CANCELLING:
            return (await _end(connection, run, database.deadlines.idle)).transitions[-1]
        return (await _fail(connection, run, error)).transitions[-1]


async def release(database: Database, run_id: str, epoch: int) -> RunTransition | None:
    """A run that could not be taken up just now goes back into the queue. None: it is not that worker's."""
    async with database.begin() as connection:
        held = (runs.c.id == run_id, runs.c.epoch == epoch, runs.c.status.in_(LEASED))
        row = (await connection.execute(select(runs).where(*held).with_for_update())).mappings().one_or_none()
        if row is None:
            return None
        run = run_of(row)
        if run.status is not RunStatus.RUNNING:
            return (await _end(connection, run, database.deadlines.idle)).transitions[-1]
        told = StatusChange(RunStatus.QUEUED, run.status, "Handed back: a store could not be reached")
        let_go = {"epoch": runs.c.epoch + 1, "worker_id": None, "lease_until": None}
        return (await move(connection, run, told, **queued(), **let_go)).transitions[-1]


async def _fail(connection: AsyncConnection, run: Run, error: RunError) -> CommandResult:
    told = StatusChange(RunStatus.FAILED, run.status, error.message)
    return await end(connection, run, told, error=codec.error_body(error))


async def _pause(connection: AsyncConnection, run: Run, rest: timedelta) -> CommandResult:
    running = [
        state for state in await node_states.unsettled(connection, run.id) if state.status is not NodeStatus.WAITING
    ]
    return await move(
        connection,
        run,
        StatusChange(RunStatus.PAUSED, run.status, GONE),
        *(NodeChange(node_states.interrupted(state)) for state in running),
        epoch=runs.c.epoch + 1,
        worker_id=None,
        lease_until=None,
        paused_at=func.now(),
        deadline_at=func.now() + rest,
    )


_TAKE_BACK = """
WITH lost AS (
    SELECT r.id, r.crashes, r.crashed_seq, greatest(
        (SELECT max(seq) FROM node_outputs o WHERE o.run_id = r.id),
        (SELECT max(seq) FROM checkpoints c WHERE c.run_id = r.id), 0) AS finished_seq
    FROM runs r WHERE r.status = 'RUNNING' AND r.lease_until < now()
    ORDER BY r.id LIMIT $2 FOR UPDATE SKIP LOCKED
), counted AS (
    SELECT id, finished_seq, CASE WHEN crashed_seq = finished_seq THEN crashes + 1 ELSE 1 END AS crashes FROM lost
), moved AS (
    UPDATE runs r SET status = 'QUEUED', epoch = r.epoch + 1, worker_id = NULL, lease_until = NULL,
        last_seq = r.last_seq + 1, takeup = r.takeup + 1, crashes = c.crashes, crashed_seq = c.finished_seq,
        status_message = 'The worker that held this run is gone', queued_at = now()
    FROM counted c WHERE r.id = c.id AND c.crashes < $1
    RETURNING r.*, now() AS at
), looping AS (
    UPDATE runs r SET crashes = c.crashes, crashed_seq = c.finished_seq FROM counted c
    WHERE r.id = c.id AND c.crashes >= $1
), told AS (
    INSERT INTO events (run_id, seq, type, at, body)
    SELECT id, last_seq, 'RUN_STATUS', at,
        json_build_object('status', status, 'previous', 'RUNNING', 'message', status_message)
    FROM moved
)
SELECT * FROM moved
"""
