"""Wakes waiting runs when they are due, and ends runs past a timeout or a deadline.

Any number of workers may do this at once: SKIP LOCKED divides the work. Each change writes its
events in the same transaction, so a crash leaves a run changed or not. Used by recovery.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence

from sqlalchemy import ColumnElement, Interval, and_, func, literal, not_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import RunError
from engine.states import TERMINAL, WITH_DEADLINE, WITH_TIMEOUT, RunStatus, sql_list
from persistence.db.database import Database
from persistence.db.deadlines import PENDING
from persistence.db.tables import runs, waits
from persistence.events import codec
from persistence.events.run_transition import RunTransition
from persistence.maintenance.rescue import LIMIT
from persistence.queue.leases import transition_of
from persistence.runs.run import RUN_COLUMNS, CommandResult, Run, run_of, transitions_of
from persistence.runs.transition import finish_all

DEADLINE_MESSAGES = {
    RunStatus.PENDING: f"nobody started the run within {PENDING.days} days: start it with executeRun, or create it again",
    RunStatus.PAUSED: "nobody resumed the run until its deadline: TREADLE_REST_DAYS says how long a run may be PAUSED",
    RunStatus.WAITING: "what the run waited for did not happen until its deadline: "
    "TREADLE_REST_DAYS says how long a run may be WAITING",
}
"""The message of the error DEADLINE, by the status of the run at its deadline."""
Change = Callable[[AsyncConnection, Sequence[Run]], Awaitable[list[CommandResult]]]


async def wake_due(database: Database) -> list[RunTransition]:
    """Queue WAITING runs whose first timer has fired, or that have an answer."""
    rows = await database.pool.fetch(_WAKE, LIMIT)
    return [transition_of(row, RunStatus.QUEUED, RunStatus.WAITING, "Woken") for row in rows]


async def end_overdue(database: Database) -> list[RunTransition]:
    """End runs that no worker holds and whose time is up.

    A run past its timeout is FAILED, a run past the deadline of its status is CANCELLED with the
    error DEADLINE.
    """
    if not await database.pool.fetchval(_ANY_OVERDUE):
        return []
    past_timeout = and_(runs.c.status.in_(WITH_TIMEOUT), runs.c.timeout_at < func.now())
    past_deadline = and_(runs.c.status.in_(WITH_DEADLINE), runs.c.deadline_at < func.now())
    waits_for_child = and_(runs.c.status == RunStatus.WAITING, _HAS_ACTIVE_CHILD)
    await _extend(database, and_(past_deadline, waits_for_child))
    return [
        *await _change(database, past_timeout, lambda run: run.options.timeout_s, _fail),
        *await _change(database, and_(past_deadline, not_(waits_for_child)), lambda run: run.status, _cancel),
    ]


async def _extend(database: Database, condition: ColumnElement[bool]) -> None:
    """Extend the deadline of runs whose child runs are active, because these have deadlines too."""
    async with database.begin() as connection:
        ids = select(runs.c.id).where(condition).order_by(runs.c.id).limit(LIMIT)
        locked = ids.with_for_update(key_share=True, skip_locked=True)
        deadline = func.now() + literal(database.deadlines.idle, Interval)
        await connection.execute(update(runs).where(runs.c.id.in_(locked)).values(deadline_at=deadline))


async def _change(
    database: Database, condition: ColumnElement[bool], group_key: Callable[[Run], Hashable], change: Change
) -> list[RunTransition]:
    """Change the runs that meet a condition, those with one group key in a few statements."""
    async with database.begin() as connection:
        query = select(*RUN_COLUMNS).where(condition).order_by(runs.c.id).limit(LIMIT)
        rows = await connection.execute(query.with_for_update(key_share=True, skip_locked=True))
        groups: dict[Hashable, list[Run]] = {}
        for run in (run_of(row) for row in rows.mappings()):
            groups.setdefault(group_key(run), []).append(run)
        return [one for group in groups.values() for one in transitions_of(await change(connection, group))]


async def _fail(connection: AsyncConnection, overdue: Sequence[Run]) -> list[CommandResult]:
    message = f"the run did not finish within {overdue[0].options.timeout_s} s"
    error = codec.error_body(RunError("TIMEOUT", message, retryable=True))
    return await finish_all(connection, overdue, RunStatus.FAILED, message, error=error)


async def _cancel(connection: AsyncConnection, overdue: Sequence[Run]) -> list[CommandResult]:
    status = overdue[0].status
    message = f"{'Not started' if status is RunStatus.PENDING else f'Still {status}'} at its deadline"
    error = codec.error_body(RunError("DEADLINE", DEADLINE_MESSAGES[status], retryable=True))
    return await finish_all(connection, overdue, RunStatus.CANCELLED, message, error=error, cancelled_at=func.now())


_child = runs.alias("child")
_HAS_ACTIVE_CHILD = (
    select(waits.c.id)
    .join(_child, _child.c.id == waits.c.child_run_id)
    .where(waits.c.run_id == runs.c.id, waits.c.settled_seq.is_(None), waits.c.superseded_seq.is_(None))
    .where(waits.c.answered_at.is_(None), _child.c.status.not_in(TERMINAL))
    .correlate(runs)
    .exists()
)
"""Whether a run waits for a child run that has not ended."""
_WAKE = """
WITH ready AS (
    SELECT id FROM runs WHERE status = 'WAITING' AND wake_at <= now() ORDER BY wake_at LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE runs r SET status = 'QUEUED', takeup = takeup + 1, queued_at = now(), deadline_at = NULL,
        last_seq = last_seq + 1, status_message = 'Woken'
    FROM ready WHERE r.id = ready.id
    RETURNING r.id, r.project_id, r.last_seq, r.status, r.status_message, now() AS at
), event AS (
    INSERT INTO events (run_id, seq, type, at, body)
    SELECT id, last_seq, 'RUN_STATUS', at, json_build_object('status', status, 'previous', 'WAITING', 'message', 'Woken')
    FROM moved
)
SELECT * FROM moved
"""
_ANY_OVERDUE = f"""
SELECT EXISTS (SELECT FROM runs WHERE status IN {sql_list(WITH_TIMEOUT)} AND timeout_at < now())
    OR EXISTS (SELECT FROM runs WHERE status IN {sql_list(WITH_DEADLINE)} AND deadline_at < now())
"""
