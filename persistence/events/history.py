"""What happened in a run, read back: pages of events and logs, and its checkpoints. Written by the journal alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import Event
from engine.states import EventType, LogLevel
from persistence.caller import Caller
from persistence.db.pagination import alike, of_each
from persistence.db.tables import checkpoints, events, runs
from persistence.events import codec

DEFAULT_COUNT = 100


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a run's events by number: the first `first` after `after`, or the last `last` before `before`.

    With neither count: the first 100.
    """

    first: int | None = None
    after: int | None = None
    last: int | None = None
    before: int | None = None

    @property
    def is_backwards(self) -> bool:
        return self.last is not None and self.first is None

    @property
    def count(self) -> int:
        return (self.last if self.is_backwards else self.first) or DEFAULT_COUNT


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in rising order. `has_more`: there are more in the direction that was read."""

    events: list[Event]
    has_more: bool
    at: int

    @property
    def first_seq(self) -> int:
        """Pass it as `before` for the page before; of an empty page, where it was asked for."""
        return self.events[0].seq if self.events else self.at

    @property
    def last_seq(self) -> int:
        """Pass it as `after` for the page after."""
        return self.events[-1].seq if self.events else self.at


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A row of `checkpoints` without its data. `size_bytes` is the size of what is stored."""

    id: str
    run_id: str
    parent_id: str | None
    seq: int
    step: int
    lineage: int
    next_nodes: list[str]
    created_at: datetime
    superseded_seq: int | None
    """The rewind's event that took it back."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class EventsAsked:
    """One page of one run's events. None narrows nothing."""

    run_id: str
    window: Window = Window()
    types: tuple[EventType, ...] | None = None
    node_id: str | None = None
    min_level: LogLevel | None = None


async def event_pages(
    connection: AsyncConnection, caller: Caller, asks: Sequence[EventsAsked]
) -> dict[EventsAsked, EventPage]:
    """A statement for all that differ in the run alone, as the runs of one list do."""
    pages: dict[EventsAsked, EventPage] = {}
    for ask, run_ids in alike(asks, "run_id").items():
        found = await connection.execute(_events_of(caller, ask, run_ids))
        read: dict[str, list[Event]] = {run_id: [] for run_id in run_ids}
        for row in found:
            read[row.run_id].append(_event_of(row.run_id, row.seq, row.type, row.at, row.node_id, row.body))
        pages |= {replace(ask, run_id=run_id): _page(events_, ask.window) for run_id, events_ in read.items()}
    return pages


def _events_of(caller: Caller, ask: EventsAsked, run_ids: Sequence[str]) -> Select[Any]:
    """In the order they are read in, and one too many of each run."""
    query = select(events).join(runs, runs.c.id == events.c.run_id).where(runs.c.project_id.in_(caller.projects))
    if ask.types is not None:
        query = query.where(events.c.type.in_(ask.types))
    if ask.node_id is not None:
        query = query.where(events.c.node_id == ask.node_id)
    if ask.min_level is not None:
        query = query.where(_at_least(ask.min_level))
    if ask.window.after is not None:
        query = query.where(events.c.seq > ask.window.after)
    if ask.window.before is not None:
        query = query.where(events.c.seq < ask.window.before)
    order = events.c.seq.desc() if ask.window.is_backwards else events.c.seq
    return of_each(query, events.c.run_id, run_ids, ask.window.count, order)


def _page(read: list[Event], window: Window) -> EventPage:
    kept = sorted(read, key=lambda event: event.seq, reverse=window.is_backwards)[: window.count]
    return EventPage(kept[::-1] if window.is_backwards else kept, len(read) > window.count, window.after or 0)


def _at_least(level: LogLevel) -> ColumnElement[bool]:
    order = list(LogLevel)
    told: ColumnElement[str] = events.c.body["level"].as_string()
    return told.in_(order[order.index(level) :])


def _event_of(run_id: str, seq: int, type: str, at: datetime, node_id: str | None, body: dict[str, object]) -> Event:
    return Event(run_id, seq, at, codec.data_of(type, node_id, body, run_id, seq))


async def with_checkpoints(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, bool]:
    """Which of these runs have a checkpoint."""
    mine = select(runs.c.id).where(runs.c.id.in_(run_ids), runs.c.project_id.in_(caller.projects))
    query = mine.where(select(checkpoints.c.seq).where(checkpoints.c.run_id == runs.c.id).exists())
    return dict.fromkeys((await connection.execute(query)).scalars(), True)


async def head(connection: AsyncConnection, caller: Caller, run_id: str) -> Checkpoint | None:
    """The checkpoint that the run goes on from."""
    query = checkpoints_seen(caller).where(checkpoints.c.run_id == run_id, checkpoints.c.superseded_seq.is_(None))
    found = (await connection.execute(query.order_by(checkpoints.c.seq.desc()).limit(1))).mappings().one_or_none()
    return None if found is None else Checkpoint(**found)


async def checkpoints_by_id(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Checkpoint]:
    found = await connection.execute(checkpoints_seen(caller).where(checkpoints.c.id.in_(ids)))
    return {row["id"]: Checkpoint(**row) for row in found.mappings()}


def checkpoints_seen(caller: Caller) -> Select[tuple[object, ...]]:
    """All that the caller may see, as `Checkpoint` has them."""
    plain = [checkpoints.c[name] for name in Checkpoint.__slots__ if name != "size_bytes"]
    size = func.octet_length(checkpoints.c.data).label("size_bytes")
    joined = select(*plain, size).join(runs, runs.c.id == checkpoints.c.run_id)
    return joined.where(runs.c.project_id.in_(caller.projects))
