"""The record of firings: one row each, with at most one FIRED row for a deduplication key.

`record` writes the events of firings and accepts their runs in a transaction of the caller. The
event is inserted first. Where another transaction has inserted the same key, the insert waits for
its commit, and the firing becomes a DUPLICATE of it, without a run. Only then are runs admitted, so
that a DUPLICATE cancels no other run, and is not refused by a limit.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import TriggerEventStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.ids import Prefix, new_id
from persistence.db.pagination import Page, PageRange, group_by_parent, make_page, page_of_each
from persistence.db.tables import trigger_events as table
from persistence.events.run_transition import RunTransition
from persistence.runs import create
from persistence.runs.create import NewRun
from persistence.runs.run import CommandResult, Run
from persistence.triggers.trigger import Trigger

MAX_KEY = 500
"""Characters of a deduplication key."""
MAX_ERROR = 2000
"""Characters of the error of an event."""
STATUS = TriggerEventStatus


def events_channel(project_id: str) -> str:
    """Return the Redis channel of the ids of new events in a project."""
    return f"trigger_events:{project_id}"


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """One row of `trigger_events`."""

    id: str
    project_id: str
    trigger_id: str
    dedupe_key: str
    payload: JSON
    status: TriggerEventStatus
    run_id: str | None
    error: str | None
    at: datetime


def _event_of(row: Mapping[Any, Any]) -> TriggerEvent:
    return TriggerEvent(**{**row, "status": STATUS(row["status"])})


@dataclass(frozen=True, slots=True)
class Firing:
    """One firing to record. A FIRED one has a run, and a TEST may have one."""

    trigger: Trigger
    key: str
    payload: JSON
    status: TriggerEventStatus
    new: NewRun | None = None
    error: str | None = None
    caller: Caller | None = None
    """The caller of its run; None for that of the trigger."""
    admitted: tuple[RunTransition, ...] = ()
    """The transitions of runs that were cancelled to admit its run."""


@dataclass(frozen=True, slots=True)
class RecordedFiring:
    """A firing in the database. A DUPLICATE event has the run of the first firing."""

    firing: Firing
    event: TriggerEvent
    run: Run | None = None
    transitions: tuple[RunTransition, ...] = ()


async def record(
    connection: AsyncConnection, firings: Sequence[Firing], admit: Callable[[Firing], Awaitable[Firing]] | None = None
) -> list[RecordedFiring]:
    """Insert the events of firings, and accept the runs of those that are FIRED.

    The transaction has locked the workflows of the triggers against deletion.

    Args:
        connection: The transaction.
        firings: What to record.
        admit: Returns the firing of a run that may be accepted, and otherwise the same without its run.
            None if no firing has a run.
    """
    with_ids = [
        replace(one, new=replace(one.new, id=one.new.id or new_id(Prefix.RUN))) if one.new else one for one in firings
    ]
    written = await _insert(connection, with_ids)
    repeated = [index for index, event in enumerate(written) if event is None]
    duplicates = await _duplicates(connection, [with_ids[index] for index in repeated])
    for index, firing in zip(repeated, duplicates, strict=True):
        with_ids[index] = firing
    for index, event in zip(repeated, await _insert(connection, duplicates), strict=True):
        written[index] = event
    accepted: dict[int, CommandResult] = {}
    for index, firing in enumerate(with_ids):
        if not _starts(firing):
            continue
        assert admit is not None
        with_ids[index] = admitted = await admit(firing)
        if not _starts(admitted):
            written[index] = await _refuse(connection, admitted, written[index])
        elif admitted.new is not None and not admitted.new.is_queued_at_limit:
            # The next run of its workflow is admitted only after this one has been inserted.
            accepted |= await _accept(connection, {index: admitted})
    accepted |= await _accept(
        connection, {index: one for index, one in enumerate(with_ids) if _starts(one) and index not in accepted}
    )
    recorded = []
    for index, (firing, event) in enumerate(zip(with_ids, written, strict=True)):
        assert event is not None  # Only FIRED events can exist already.
        run, transitions = None, firing.admitted
        if (result := accepted.get(index)) is not None:
            run, transitions = result.run, (*transitions, *result.transitions)
        recorded.append(RecordedFiring(firing, event, run, transitions))
    return recorded


def _starts(firing: Firing) -> bool:
    return firing.new is not None and firing.status in (STATUS.FIRED, STATUS.TEST)


async def _accept(connection: AsyncConnection, firings: Mapping[int, Firing]) -> dict[int, CommandResult]:
    """Insert the runs of firings. Return the results by the index of the firing."""
    runs = [(one.caller or one.trigger.caller, one.new) for one in firings.values() if one.new is not None]
    return dict(zip(firings, await create.accept_many(connection, runs), strict=True))


async def _insert(connection: AsyncConnection, firings: Sequence[Firing]) -> list[TriggerEvent | None]:
    """Insert events. None stands for one whose key has fired before."""
    if not firings:
        return []
    rows = [
        {
            "id": new_id(Prefix.TRIGGER_EVENT),
            "project_id": one.trigger.project_id,
            "trigger_id": one.trigger.id,
            "dedupe_key": one.key[:MAX_KEY],
            "payload": one.payload,
            "status": one.status,
            "run_id": one.new.id if one.new else None,
            "error": one.error[:MAX_ERROR] if one.error else None,
        }
        for one in firings
    ]
    statement = insert(table).on_conflict_do_nothing(
        index_elements=[table.c.trigger_id, table.c.dedupe_key], index_where=text("status = 'FIRED'")
    )
    inserted = (await connection.execute(statement.returning(table), rows)).mappings()
    by_id = {row["id"]: _event_of(row) for row in inserted}
    return [by_id.get(str(row["id"])) for row in rows]


async def _refuse(connection: AsyncConnection, firing: Firing, event: TriggerEvent | None) -> TriggerEvent:
    """Change the event of a firing whose run is not admitted."""
    assert event is not None
    values = {"status": firing.status, "error": (firing.error or "")[:MAX_ERROR], "run_id": None}
    changed = await connection.execute(table.update().where(table.c.id == event.id).values(values).returning(table))
    return _event_of(changed.mappings().one())


async def forget(connection: AsyncConnection, recorded: Sequence[RecordedFiring]) -> None:
    """Delete the events of firings that come again."""
    if recorded:
        await connection.execute(table.delete().where(table.c.id.in_([one.event.id for one in recorded])))


async def _duplicates(connection: AsyncConnection, firings: Sequence[Firing]) -> list[Firing]:
    """Return the firings of repeated keys as duplicates, each with the run of the first firing."""
    if not firings:
        return []
    keys = {(one.trigger.id, one.key[:MAX_KEY]) for one in firings}
    query = select(table.c.trigger_id, table.c.dedupe_key, table.c.run_id).where(
        table.c.status == STATUS.FIRED,
        table.c.trigger_id.in_({trigger_id for trigger_id, _ in keys}),
        table.c.dedupe_key.in_({key for _, key in keys}),
    )
    runs = {(row.trigger_id, row.dedupe_key): row.run_id for row in await connection.execute(query)}
    return [
        replace(
            one,
            status=STATUS.DUPLICATE,
            new=replace(one.new, id=runs.get((one.trigger.id, one.key[:MAX_KEY]))) if one.new else None,
        )
        for one in firings
    ]


async def fired_keys(connection: AsyncConnection, trigger_id: str, keys: Sequence[str]) -> set[str]:
    """Return those of the keys for which the trigger has fired."""
    query = select(table.c.dedupe_key).where(
        table.c.trigger_id == trigger_id, table.c.status == STATUS.FIRED, table.c.dedupe_key.in_(keys)
    )
    return set((await connection.execute(query)).scalars())


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, TriggerEvent]:
    """Read the events that the caller may see, by id."""
    query = select(table).where(table.c.id.in_(ids), table.c.project_id.in_(caller.projects))
    return {row["id"]: _event_of(row) for row in (await connection.execute(query)).mappings()}


async def of_runs(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, TriggerEvent]:
    """Read the events that started runs, by run id."""
    query = select(table).where(
        table.c.run_id.in_(run_ids), table.c.status == STATUS.FIRED, table.c.project_id.in_(caller.projects)
    )
    return {row["run_id"]: _event_of(row) for row in (await connection.execute(query)).mappings()}


@dataclass(frozen=True, slots=True)
class EventsOfTrigger:
    """A page of the events of one trigger, newest first."""

    trigger_id: str
    range_: PageRange


async def pages(
    connection: AsyncConnection, caller: Caller, queries: Sequence[EventsOfTrigger]
) -> dict[EventsOfTrigger, Page[TriggerEvent]]:
    """Read pages. Queries that differ only in the trigger share a statement."""
    result: dict[EventsOfTrigger, Page[TriggerEvent]] = {}
    for one, ids in group_by_parent(queries, "trigger_id").items():
        query = select(table).where(table.c.project_id.in_(caller.projects))
        items: dict[str, list[TriggerEvent]] = {id: [] for id in ids}
        rows = await connection.execute(page_of_each(query, table.c.trigger_id, ids, one.range_))
        for row in rows.mappings():
            items[row["trigger_id"]].append(_event_of(row))
        result |= {replace(one, trigger_id=id): make_page(each, one.range_) for id, each in items.items()}
    return result
