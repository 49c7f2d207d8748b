"""Events as rows: insert, refuse and list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Interval, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import SignalStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.ids import Prefix, new_id
from persistence.db.pagination import Page, PageRange, make_page
from persistence.db.tables import signals as table
from persistence.db.tables import waits
from persistence.problems import Conflict

"""How long an event for a workflow and a key waits for a run."""
MAX_REFUSALS = 100
"""Refused events that are recorded for a run. A flood of them fills no disk."""


@dataclass(frozen=True, slots=True)
class NewSignal:
    """An event that was sent: to a run, to a workflow and a key, or to the visit of a node of a run."""

    project_id: str
    name: str
    payload: JSON
    arguments_hash: str
    run_id: str | None = None
    workflow_id: str | None = None
    key: str | None = None
    node_id: str | None = None
    visit: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class SentSignal:
    """One row of `signals`."""

    id: str
    project_id: str
    run_id: str | None
    workflow_id: str | None
    name: str
    key: str | None
    node_id: str | None
    payload: JSON
    status: SignalStatus
    error: str | None
    sent_by: str
    created_at: datetime
    expires_at: datetime | None


COLUMNS = [table.c[name] for name in SentSignal.__slots__]


def signal_of(row: Mapping[Any, Any]) -> SentSignal:
    """Make a signal of a row of COLUMNS."""
    values = {name: row[name] for name in SentSignal.__slots__}
    return SentSignal(**{**values, "status": SignalStatus(row["status"])})


async def store(
    connection: AsyncConnection,
    caller: Caller,
    new: NewSignal,
    status: SignalStatus,
    error: str | None = None,
    *,
    keep: timedelta | None = None,
) -> tuple[SentSignal, bool]:
    """Insert an event, and return it with True. A repeat returns the event of the first call with False.

    An event for a key expires after `keep`. A simultaneous repeat waits for the commit of the first call.

    Raises:
        Conflict: The idempotency key was used with other arguments.
    """
    values: dict[str, Any] = {name: getattr(new, name) for name in NewSignal.__slots__}
    values |= {"id": new_id(Prefix.SIGNAL), "sent_by": caller.subject, "status": status, "error": error}
    if new.workflow_id is not None and keep is not None:
        values["expires_at"] = func.now() + literal(keep, Interval)
    keys = (table.c.project_id, table.c.idempotency_key)
    statement = upsert(table).values(values)
    statement = statement.on_conflict_do_nothing(index_elements=keys, index_where=table.c.idempotency_key.is_not(None))
    row = (await connection.execute(statement.returning(*COLUMNS))).mappings().one_or_none()
    if row is not None:
        return signal_of(row), True
    query = select(*COLUMNS, table.c.arguments_hash).where(
        table.c.project_id == new.project_id, table.c.idempotency_key == new.idempotency_key
    )
    first = (await connection.execute(query)).mappings().one()
    if first["arguments_hash"] != new.arguments_hash:
        raise Conflict("This idempotencyKey was used for a call with other arguments.")
    return signal_of(first), False


async def set_status(
    connection: AsyncConnection, signal: SentSignal, status: SignalStatus, error: str | None = None
) -> SentSignal:
    """Change the status of a KEPT event that this transaction has locked or inserted."""
    await connection.execute(update(table).where(table.c.id == signal.id).values(status=status, error=error))
    return replace(signal, status=status, error=error)


async def record_refusal(
    connection: AsyncConnection, caller: Caller, new: NewSignal, status: SignalStatus, error: str
) -> None:
    """Record an event that ends no wait, at most MAX_REFUSALS of a run."""
    bad = (SignalStatus.REFUSED, SignalStatus.DUPLICATE)
    query = select(func.count()).where(table.c.run_id == new.run_id, table.c.status.in_(bad))
    if (await connection.execute(query)).scalar_one() < MAX_REFUSALS:
        await store(connection, caller, new, status, error)


async def waiting_run_ids(connection: AsyncConnection, signal_id: str) -> list[str]:
    """Return the runs whose wait an event has ended, in the order of their ids."""
    query = select(waits.c.run_id).where(waits.c.signal_id == signal_id).order_by(waits.c.run_id)
    return list((await connection.execute(query)).scalars())


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, SentSignal]:
    """Read the events that the caller may see, by id."""
    query = select(*COLUMNS).where(table.c.id.in_(ids), table.c.project_id.in_(caller.projects))
    return {row["id"]: signal_of(row) for row in (await connection.execute(query)).mappings()}


@dataclass(frozen=True, slots=True)
class SignalsOfRun:
    """A page of the events of one run, newest first."""

    run_id: str
    range_: PageRange


async def pages(
    connection: AsyncConnection, caller: Caller, queries: Sequence[SignalsOfRun]
) -> dict[SignalsOfRun, Page[SentSignal]]:
    """Read pages of the events that were sent to runs, or have ended one of their waits."""
    return {one: await _page(connection, caller, one) for one in queries}


async def _page(connection: AsyncConnection, caller: Caller, one: SignalsOfRun) -> Page[SentSignal]:
    delivered = select(waits.c.signal_id).where(waits.c.run_id == one.run_id, waits.c.signal_id.is_not(None))
    query = select(*COLUMNS).where(
        table.c.project_id.in_(caller.projects), or_(table.c.run_id == one.run_id, table.c.id.in_(delivered))
    )
    range_, id = one.range_, table.c.id
    if range_.after is not None:
        query = query.where(id < range_.after)
    if range_.before is not None:
        query = query.where(id > range_.before)
    ordered = query.order_by(id.asc() if range_.is_backward else id.desc()).limit(range_.count + 1)
    rows = await connection.execute(ordered)
    return make_page([signal_of(row) for row in rows.mappings()], range_)
