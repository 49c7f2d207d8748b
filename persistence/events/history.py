"""Reads the history of runs: pages of events and logs, and checkpoints.

Only the journal and server commands write it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import Event
from engine.isolation.loop_share import in_turns
from engine.states import EventType, LogLevel
from persistence.caller import Caller
from persistence.db.pagination import first_rows_of_each, group_by_parent
from persistence.db.tables import checkpoints, events, runs
from persistence.events import codec
from persistence.events.steps import derived_ids, unpack_steps, with_stored_ids

DEFAULT_COUNT = 100


@dataclass(frozen=True, slots=True)
class Window:
    """A range of a run's events by number.

    It is the first `first` events after `after`, or the last `last` events before `before`. With
    neither count it is the first 100.
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
    """Events in ascending order.

    `has_more` says whether more follow in the direction that was read.
    """

    events: list[Event]
    has_more: bool
    at: int

    @property
    def first_seq(self) -> int:
        """The number to pass as `before` for the previous page.

        For an empty page it is the `after` of the window.
        """
        return self.events[0].seq if self.events else self.at

    @property
    def last_seq(self) -> int:
        """The number to pass as `after` for the next page."""
        return self.events[-1].seq if self.events else self.at


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint without its data: a row of `checkpoints`, or one that is derived from its steps.

    `size_bytes` is the size of the stored data; 0 for a derived checkpoint. `stored_seq` is the seq
    of the row.
    """

    id: str
    run_id: str
    parent_id: str | None
    seq: int
    step: int
    lineage: int
    next_nodes: list[str]
    created_at: datetime
    superseded_seq: int | None
    """The seq of the rewind that superseded it."""
    size_bytes: int
    stored_seq: int

    @property
    def is_derived(self) -> bool:
        """Whether it is the state between two visits of a stretch, without a row of its own."""
        return self.seq != self.stored_seq


@dataclass(frozen=True, slots=True)
class EventsQuery:
    """One page of one run's events. A filter that is None selects all events."""

    run_id: str
    window: Window = Window()
    types: tuple[EventType, ...] | None = None
    node_id: str | None = None
    min_level: LogLevel | None = None
    search: str | None = None
    """A text in the message or the fields of a log event, in upper or lower case."""


async def event_pages(
    connection: AsyncConnection, caller: Caller, queries: Sequence[EventsQuery]
) -> dict[EventsQuery, EventPage]:
    """Read pages of events.

    Queries that differ only in the run, as those of one list do, share a statement.
    """
    pages: dict[EventsQuery, EventPage] = {}
    for query, run_ids in group_by_parent(queries, "run_id").items():
        by_run: dict[str, list[Event]] = {run_id: [] for run_id in run_ids}
        async for row in in_turns(await connection.execute(_select_events(caller, query, run_ids))):
            by_run[row.run_id].append(_event_of(row.run_id, row.seq, row.type, row.at, row.node_id, row.body))
        pages |= {replace(query, run_id=run_id): _page(rows, query.window) for run_id, rows in by_run.items()}
    return pages


def _select_events(caller: Caller, events_query: EventsQuery, run_ids: Sequence[str]) -> Select[Any]:
    """Select the events of each run in the direction of the window, one more than it has."""
    query = select(events).join(runs, runs.c.id == events.c.run_id).where(runs.c.project_id.in_(caller.projects))
    if events_query.types is not None:
        query = query.where(events.c.type.in_(events_query.types))
    if events_query.node_id is not None:
        query = query.where(events.c.node_id == events_query.node_id)
    if events_query.min_level is not None:
        query = query.where(_at_least(events_query.min_level))
    if events_query.search is not None:
        text = events.c.body["message"].as_string() + "\n" + events.c.body["fields"].as_string()
        query = query.where(text.icontains(events_query.search, autoescape=True))
    if events_query.window.after is not None:
        query = query.where(events.c.seq > events_query.window.after)
    if events_query.window.before is not None:
        query = query.where(events.c.seq < events_query.window.before)
    order = events.c.seq.desc() if events_query.window.is_backwards else events.c.seq
    return first_rows_of_each(query, events.c.run_id, run_ids, events_query.window.count, order)


def _page(rows: list[Event], window: Window) -> EventPage:
    events_ = sorted(rows, key=lambda event: event.seq, reverse=window.is_backwards)[: window.count]
    return EventPage(events_[::-1] if window.is_backwards else events_, len(rows) > window.count, window.after or 0)


def _at_least(level: LogLevel) -> ColumnElement[bool]:
    levels = list(LogLevel)
    column: ColumnElement[str] = events.c.body["level"].as_string()
    return column.in_(levels[levels.index(level) :])


def _event_of(run_id: str, seq: int, type: str, at: datetime, node_id: str | None, body: dict[str, object]) -> Event:
    return Event(run_id, seq, at, codec.data_of(type, node_id, body, run_id, seq, at))


async def runs_with_checkpoints(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, bool]:
    """Return True for each of these runs that has a checkpoint; the others are left out."""
    visible = select(runs.c.id).where(runs.c.id.in_(run_ids), runs.c.project_id.in_(caller.projects))
    query = visible.where(select(checkpoints.c.seq).where(checkpoints.c.run_id == runs.c.id).exists())
    return dict.fromkeys((await connection.execute(query)).scalars(), True)


async def head(connection: AsyncConnection, caller: Caller, run_id: str) -> Checkpoint | None:
    """Return the checkpoint that the run continues from, or None."""
    query = visible_checkpoints(caller).where(checkpoints.c.run_id == run_id, checkpoints.c.superseded_seq.is_(None))
    row = (await connection.execute(query.order_by(checkpoints.c.seq.desc()).limit(1))).mappings().one_or_none()
    return None if row is None else checkpoints_of_row(row)[0]


async def checkpoints_by_id(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Checkpoint]:
    query = visible_checkpoints(caller).where(checkpoints.c.id.in_(with_stored_ids(ids)))
    wanted, result = frozenset(ids), dict[str, Checkpoint]()
    async for row in in_turns((await connection.execute(query)).mappings()):
        result |= {each.id: each for each in checkpoints_of_row(row) if each.id in wanted}
    return result


def visible_checkpoints(caller: Caller) -> Select[tuple[object, ...]]:
    """Select the rows of checkpoints that the caller may see, for `checkpoints_of_row`."""
    joined = checkpoint_rows().join(runs, runs.c.id == checkpoints.c.run_id)
    return joined.where(runs.c.project_id.in_(caller.projects))


def checkpoint_rows() -> Select[tuple[object, ...]]:
    """Select the columns of all checkpoints, for `checkpoints_of_row`."""
    table, parent = checkpoints.c, checkpoints.alias("parent").c
    columns = [table[name] for name in Checkpoint.__slots__ if name in table]
    size = (func.octet_length(table.data) + func.coalesce(func.octet_length(table.steps), 0)).label("size_bytes")
    # Only a row with steps needs it. A join would be planned for all rows.
    next_before = (
        select(parent.next_nodes).where(parent.run_id == table.run_id, parent.id == table.parent_id).scalar_subquery()
    )
    needed = case((table.steps.is_not(None), next_before)).label("next_before")
    return select(*columns, size, table.steps, needed)


def checkpoints_of_row(row: Mapping[str, Any] | RowMapping) -> list[Checkpoint]:
    """Return the checkpoint of a row and those that are derived from its steps, newest first."""
    fields: dict[str, Any] = {str(name): value for name, value in row.items()}
    steps, next_nodes = unpack_steps(fields.pop("steps")), fields.pop("next_before") or []
    stored = Checkpoint(**fields, stored_seq=fields["seq"])
    result: list[Checkpoint] = []
    parent_id = stored.parent_id
    for index, (id_, step) in enumerate(zip(derived_ids(stored.id, len(steps)), steps, strict=True)):
        next_nodes = step.next_nodes(next_nodes)
        seq, number = stored.seq - step.back, stored.step - len(steps) + index
        derived = replace(stored, id=id_, parent_id=parent_id, seq=seq, step=number, next_nodes=next_nodes)
        result.append(replace(derived, size_bytes=0))
        parent_id = id_
    return [replace(stored, parent_id=parent_id), *reversed(result)]
