"""Gives waits the events that came before them. Used by the workers.

The journal marks a new wait for an event as unmatched. Here the mark is removed, and the oldest event that
is kept for the wait ends it, in one transaction. A crash leaves the mark, and recovery looks again.
"""

from asyncio import to_thread
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import SignalStatus
from engine.values.json_schema import check_inputs
from persistence.db.database import Database
from persistence.db.tables import runs, signals, waits
from persistence.runs.run import RUN_COLUMNS, CommandResult, run_of
from persistence.runs.transition import for_no_key_update
from persistence.runs.waits import is_open
from persistence.signals.delivery import end_wait, lock_key
from persistence.signals.signal import COLUMNS, SentSignal, set_status, signal_of

LIMIT = 100
"""Waits that are matched in one round."""
CANDIDATES = 20
"""Kept events that are read for one wait."""
SENDER = "signal"


async def match_waits(database: Database, run_ids: Sequence[str] | None = None) -> list[CommandResult]:
    """Match the waits that are marked: those of some runs, or of all.

    Returns:
        The changes of the runs whose wait has ended. Publish their transitions, and notify the worker of
        a run without one.
    """
    query = select(waits.c.id, waits.c.run_id).where(waits.c.is_unmatched).order_by(waits.c.id).limit(LIMIT)
    if run_ids is not None:
        query = query.where(waits.c.run_id.in_(run_ids))
    async with database.connect() as connection:
        marked = (await connection.execute(query)).all()
    results = [await _match(database, row.id, row.run_id) for row in marked]
    return [result for result in results if result is not None]


async def _match(database: Database, wait_id: str, run_id: str) -> CommandResult | None:
    async with database.connect() as connection:
        wait = await _read(connection, wait_id)
        found = [] if wait is None else await _kept_for(connection, wait)
    # Before any lock: a schema may take long to check.
    faults = {one.id: await _fault(wait, one) for one in found}
    async with database.begin() as connection:
        if wait is not None and wait["event_key"] is not None:
            await lock_key(connection, wait["workflow_id"], wait["event_key"], wait["event_name"])
        locked = await connection.execute(for_no_key_update(select(*RUN_COLUMNS).where(runs.c.id == run_id)))
        row = locked.mappings().one_or_none()
        wait = await _read(connection, wait_id)
        if row is None or wait is None:
            await _unmark(connection, wait_id)
            return None
        for signal in await _kept_for(connection, wait):
            if signal.id not in faults:
                return None  # It came since. The wait stays marked for the next round.
            if (fault := faults[signal.id]) is None:
                await set_status(connection, signal, SignalStatus.DELIVERED)
                return await end_wait(connection, run_of(row), wait, signal, SENDER)
            await set_status(connection, signal, SignalStatus.REFUSED, fault)
        await _unmark(connection, wait_id)
        return None


async def _fault(wait: Mapping[str, Any] | None, signal: SentSignal) -> str | None:
    problems = [] if wait is None else await to_thread(check_inputs, signal.payload, wait["schema"])
    if not problems:
        return None
    first = problems[0]
    return f"does not match the schema of the node: {first.field.replace('inputs', 'payload', 1)} {first.message}"


async def _read(connection: AsyncConnection, wait_id: str) -> Mapping[str, Any] | None:
    """Return an open, marked wait with the workflow of its run."""
    query = select(waits, runs.c.workflow_id).join(runs, runs.c.id == waits.c.run_id)
    query = query.where(waits.c.id == wait_id, waits.c.is_unmatched, is_open())
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def _unmark(connection: AsyncConnection, wait_id: str) -> None:
    await connection.execute(update(waits).where(waits.c.id == wait_id).values(is_unmatched=False))


async def _kept_for(connection: AsyncConnection, wait: Mapping[str, Any]) -> list[SentSignal]:
    """Return the events that are kept for a wait, oldest first."""
    rows = await connection.execute(_kept(wait).order_by(signals.c.id).limit(CANDIDATES))
    return [signal_of(row) for row in rows.mappings()]


def _kept(wait: Mapping[str, Any]) -> Select[Any]:
    columns = signals.c
    of_visit = and_(columns.node_id == wait["node_id"], columns.visit == wait["visit"])
    of_name = and_(columns.node_id.is_(None), columns.name == wait["event_name"])
    where = and_(columns.run_id == wait["run_id"], or_(of_visit, of_name))
    if wait["event_key"] is not None and wait["workflow_id"] is not None:
        of_workflow = and_(columns.workflow_id == wait["workflow_id"], columns.key == wait["event_key"])
        where = or_(where, and_(of_workflow, columns.name == wait["event_name"], columns.run_id.is_(None)))
    is_in_time = or_(columns.expires_at.is_(None), columns.expires_at > func.now())
    return select(*COLUMNS).where(columns.status == SignalStatus.KEPT, where, is_in_time)
