"""What happens to runs because time has passed: timers that fire, and deadlines of every status that has one.

Every worker looks, all the time; SKIP LOCKED lets any number of them. Each change writes its events in its transaction.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import RunError
from engine.states import RunStatus
from persistence.db.database import Database
from persistence.db.tables import runs
from persistence.events import codec
from persistence.events.run_transition import RunTransition
from persistence.maintenance.rescue import LIMIT
from persistence.queue.leases import transition_of
from persistence.runs.run import CommandResult, Run, run_of, transitions_of
from persistence.runs.transition import end_all

Change = Callable[[AsyncConnection, Sequence[Run]], Awaitable[list[CommandResult]]]


async def due(database: Database) -> list[RunTransition]:
    """WAITING runs whose first timer has fired or that have been answered: queued."""
    rows = await database.pool.fetch(_WAKE, LIMIT)
    return [transition_of(row, RunStatus.QUEUED, RunStatus.WAITING, "Woken") for row in rows]


async def overdue(database: Database) -> list[RunTransition]:
    """Runs that no worker holds and whose time is over."""
    if not await database.pool.fetchval(_ANY_OVERDUE):
        return []
    out_of_time = and_(runs.c.status.in_((RunStatus.QUEUED, RunStatus.WAITING)), runs.c.timeout_at < func.now())
    resting = (RunStatus.PENDING, RunStatus.PAUSED, RunStatus.WAITING)
    past_deadline = and_(runs.c.status.in_(resting), runs.c.deadline_at < func.now())
    return [
        *await _each(database, out_of_time, lambda run: run.options.timeout_s, _time_out),
        *await _each(database, past_deadline, lambda run: run.status, _give_up),
    ]


async def _each(
    database: Database, which: ColumnElement[bool], alike: Callable[[Run], Hashable], change: Change
) -> list[RunTransition]:
    """Runs that are `alike` change together, in a few statements however many they are."""
    async with database.begin() as connection:
        query = select(runs).where(which).order_by(runs.c.id).limit(LIMIT)
        found = await connection.execute(query.with_for_update(key_share=True, skip_locked=True))
        groups: dict[Hashable, list[Run]] = {}
        for run in (run_of(row) for row in found.mappings()):
            groups.setdefault(alike(run), []).append(run)
        return [one for group in groups.values() for one in transitions_of(await change(connection, group))]


async def _time_out(connection: AsyncConnection, late: Sequence[Run]) -> list[CommandResult]:
    message = f"the run did not finish within {late[0].options.timeout_s} s"
    error = codec.error_body(RunError("TIMEOUT", message, retryable=True))
    return await end_all(connection, late, RunStatus.FAILED, message, error=error)


async def _give_up(connection: AsyncConnection, late: Sequence[Run]) -> list[CommandResult]:
    status = late[0].status
    message = f"{'Not started' if status is RunStatus.PENDING else f'Still {status}'} at its deadline"
    return await end_all(connection, late, RunStatus.CANCELLED, message, cancelled_at=func.now())


_WAKE = """
WITH ready AS (
    SELECT id FROM runs WHERE status = 'WAITING' AND wake_at <= now() ORDER BY wake_at LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE runs r SET status = 'QUEUED', takeup = takeup + 1, queued_at = now(), deadline_at = NULL,
        last_seq = last_seq + 1, status_message = 'Woken'
    FROM ready WHERE r.id = ready.id
    RETURNING r.*, now() AS at
), told AS (
    INSERT INTO events (run_id, seq, type, at, body)
    SELECT id, last_seq, 'RUN_STATUS', at, json_build_object('status', status, 'previous', 'WAITING', 'message', 'Woken')
    FROM moved
)
SELECT * FROM moved
"""
_ANY_OVERDUE = """
SELECT EXISTS (SELECT FROM runs WHERE status IN ('QUEUED', 'WAITING') AND timeout_at < now())
    OR EXISTS (SELECT FROM runs WHERE status IN ('PENDING', 'PAUSED', 'WAITING') AND deadline_at < now())
"""
