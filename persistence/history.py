"""What happened in a run, read back: pages of events and logs, and its checkpoints. Written by the journal alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import Event
from engine.states import EventType, LogLevel
from persistence import wire
from persistence.caller import Caller
from persistence.tables import checkpoints, events, runs

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


async def event_page(
    connection: AsyncConnection,
    caller: Caller,
    run_id: str,
    window: Window,
    *,
    types: Collection[EventType] | None = None,
    node_id: str | None = None,
    min_level: LogLevel | None = None,
) -> EventPage:
    query = select(events).join(runs, runs.c.id == events.c.run_id)
    query = query.where(events.c.run_id == run_id, runs.c.project_id.in_(caller.projects))
    if types is not None:
        query = query.where(events.c.type.in_(types))
    if node_id is not None:
        query = query.where(events.c.node_id == node_id)
    if min_level is not None:
        query = query.where(_at_least(min_level))
    return await _read(connection, query, window)


async def _read(connection: AsyncConnection, query: Select[tuple[object, ...]], window: Window) -> EventPage:
    if window.after is not None:
        query = query.where(events.c.seq > window.after)
    if window.before is not None:
        query = query.where(events.c.seq < window.before)
    backwards = window.last is not None and window.first is None
    count = (window.last if backwards else window.first) or DEFAULT_COUNT
    order = events.c.seq.desc() if backwards else events.c.seq
    found = await connection.execute(query.order_by(order).limit(count + 1))
    read = [_event_of(row.run_id, row.seq, row.type, row.at, row.node_id, row.body) for row in found]
    kept = read[:count][::-1] if backwards else read[:count]
    return EventPage(kept, len(read) > count, window.after or 0)


def _at_least(level: LogLevel) -> ColumnElement[bool]:
    order = list(LogLevel)
    told: ColumnElement[str] = events.c.body["level"].as_string()
    return told.in_(order[order.index(level) :])


def _event_of(run_id: str, seq: int, type: str, at: datetime, node_id: str | None, body: dict[str, object]) -> Event:
    return Event(run_id, seq, at, wire.happening_of(type, node_id, body, run_id, seq))


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
