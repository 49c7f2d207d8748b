"""Runs as rows: reading them, listing them, and accepting a new one. Every query sees the caller's projects alone.

Accepting is one transaction of the caller's: the run and its event 1 are there together, or neither is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import asyncpg
import orjson
from sqlalchemy import ColumnElement, RowMapping, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import JSON, Event, RunError, StatusChange
from engine.states import EventType, OnLimit, RunMode, RunSource, RunStatus
from persistence import wire
from persistence.caller import Caller
from persistence.deadlines import PENDING
from persistence.ids import Prefix, first_id, new_id
from persistence.paging import Page, after_of, alike, of_each, page_of
from persistence.problems import NotFound
from persistence.publish import StatusNotice
from persistence.tables import events, runs, versions

CLOCKS_APART_S = 300
"""How far the clocks of a server and of the database may differ."""
HISTORY_FOR_ESTIMATE = 50
"""How many of a version's last completed runs an estimate looks at."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    timeout_s: float | None = None
    breakpoints: tuple[str, ...] = ()
    stepwise: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One row of `runs`, whole."""

    id: str
    project_id: str
    workflow_id: str | None
    version_id: str
    source: RunSource
    mode: RunMode
    status: RunStatus
    status_message: str | None
    inputs: JSON
    output: JSON
    error: RunError | None
    progress: float
    options: RunOptions
    created_by: str
    epoch: int
    worker_id: str | None
    lease_until: datetime | None
    attempt: int
    takeup: int
    last_seq: int
    lineage: int
    cancel_reason: str | None
    cancel_requested_at: datetime | None
    pause_requested_at: datetime | None
    parent_id: str | None
    retry_of_id: str | None
    forked_from_id: str | None
    deadline_at: datetime | None
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    resumed_at: datetime | None
    paused_at: datetime | None
    cancelled_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Parent:
    """The node that starts a run: `key` is its `lineage/node/visit`, and what else tells one child from another."""

    run_id: str
    key: str
    depth: int
    """Of the child: 1 below a run that nobody started from another one."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be accepted. `start` False leaves it PENDING, for executeRun."""

    project_id: str
    workflow_id: str | None
    version_id: str
    inputs: JSON
    start: bool = True
    mode: RunMode = RunMode.ASYNC
    source: RunSource = RunSource.MANUAL
    options: RunOptions = field(default_factory=RunOptions)
    lane_limit: int | None = None
    """How many runs of the workflow may be held at once, where its spec says so."""
    on_limit: OnLimit = OnLimit.QUEUE
    parent: Parent | None = None

    @property
    def lane(self) -> str:
        """What is limited together: the workflow where its spec has a limit, or the spec without a workflow; else the project."""
        return self.project_id if self.lane_limit is None else self.workflow_id or self.version_id


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What a list of runs is narrowed to. None narrows nothing; an empty list lets nothing through."""

    workflow_id: str | None = None
    version_id: str | None = None
    status: Sequence[RunStatus] | None = None
    source: Sequence[RunSource] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def lets_status(self, status: RunStatus | None) -> bool:
        return status is not None and (self.status is None or status in self.status)

    def lets(self, run: Run) -> bool:
        """Whether `run` is in the list, its status left aside: all that can be asked here never changes in a run."""
        return (
            (self.workflow_id is None or run.workflow_id == self.workflow_id)
            and (self.version_id is None or run.version_id == self.version_id)
            and (self.source is None or run.source in self.source)
            and (self.created_after is None or run.created_at > self.created_after)
            and (self.created_before is None or run.created_at < self.created_before)
        )


@dataclass(frozen=True, slots=True)
class Changed:
    """A run after a status change, with what was written: to be published once the transaction is committed."""

    run: Run
    previous: RunStatus | None
    events: tuple[Event, ...]
    besides: tuple["Changed", ...] = ()
    """Other runs that the same transaction has changed."""

    @property
    def notice(self) -> StatusNotice:
        return StatusNotice(self.run.project_id, self.run.id, self.previous, self.run.status)


def run_of(row: RowMapping | Mapping[str, Any]) -> Run:
    values = {name: row[name] for name in Run.__slots__}
    options, priority = values["options"], row["priority"]
    values |= {
        "source": RunSource(values["source"]),
        "mode": RunMode(values["mode"]),
        "status": RunStatus(values["status"]),
        "error": wire.error_of(values["error"]),
        "options": RunOptions(options["timeoutS"], tuple(options["breakpoints"]), options["stepwise"], priority),
    }
    return Run(**values)


async def accept(connection: AsyncConnection, caller: Caller, new: NewRun) -> Changed:
    """Inserts the run with its event 1. The caller has checked the role, the inputs and that the version is theirs.

    Raises NotFound if its workflow is deleted just now.
    """
    values = _new_values(caller, new)
    at = (await connection.exec_driver_sql(_ACCEPT, tuple(values))).scalar_one_or_none()
    return _accepted(caller, new, values[0], at)


async def accept_alone(pool: asyncpg.Pool, caller: Caller, new: NewRun) -> Changed:
    """The same as a transaction of its own, in one round trip."""
    values = _new_values(caller, new)
    return _accepted(caller, new, values[0], await pool.fetchval(_ACCEPT, *values))


def _new_values(caller: Caller, new: NewRun) -> list[Any]:
    options, parent = new.options, new.parent
    kept = {"timeoutS": options.timeout_s, "breakpoints": list(options.breakpoints), "stepwise": options.stepwise}
    status = RunStatus.QUEUED if new.start else RunStatus.PENDING
    told = wire.body_of(StatusChange(status, None, _message(new)))
    return [
        new_id("run"),
        new.project_id,
        new.workflow_id,
        new.version_id,
        _source(caller, new).value,
        new.mode.value,
        status.value,
        orjson.dumps(new.inputs).decode(),
        orjson.dumps(kept).decode(),
        options.priority,
        options.stepwise,
        caller.subject,
        new.lane,
        new.lane_limit,
        PENDING.total_seconds(),
        orjson.dumps(told).decode(),
        sorted(caller.scopes),
        parent and parent.run_id,
        parent and parent.key,
        parent.depth if parent else 0,
    ]


def _source(caller: Caller, new: NewRun) -> RunSource:
    return RunSource.AGENT if caller.is_agent and new.source is RunSource.MANUAL else new.source


def _message(new: NewRun) -> str:
    return "Accepted" if new.start else "Created"


def _accepted(caller: Caller, new: NewRun, run_id: str, at: datetime | None) -> Changed:
    """The run as the statement has written it: nothing of it need be read back. `at` None: its workflow is gone."""
    if at is None:
        raise NotFound(new.workflow_id or new.version_id)
    status = RunStatus.QUEUED if new.start else RunStatus.PENDING
    blank: dict[str, Any] = dict.fromkeys(Run.__slots__)
    run = Run(
        **{
            **blank,
            "id": run_id,
            "project_id": new.project_id,
            "workflow_id": new.workflow_id,
            "version_id": new.version_id,
            "source": _source(caller, new),
            "mode": new.mode,
            "status": status,
            "inputs": new.inputs,
            "progress": 0.0,
            "options": new.options,
            "created_by": caller.subject,
            "parent_id": new.parent and new.parent.run_id,
            "epoch": 0,
            "attempt": 0,
            "takeup": int(new.start),
            "last_seq": 1,
            "lineage": 0,
            "created_at": at,
            "queued_at": at if new.start else None,
            "deadline_at": None if new.start else at + PENDING,
        }
    )
    return Changed(run, None, (Event(run_id, 1, at, StatusChange(status, None, _message(new))),))


async def get(connection: AsyncConnection, caller: Caller, run_id: str) -> Run | None:
    return (await get_many(connection, caller, [run_id])).get(run_id)


async def read(pool: asyncpg.Pool, caller: Caller, run_id: str) -> Run | None:
    """As `get`, in one round trip and without a connection of the ORM's: for who asks often."""
    row = await pool.fetchrow(
        "SELECT * FROM runs WHERE id = $1 AND project_id = ANY($2)", run_id, list(caller.projects)
    )
    return None if row is None else run_of(dict(row))


async def get_many(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, Run]:
    """The runs among `run_ids` that the caller may see, by id."""
    found = await connection.execute(select(runs).where(runs.c.id.in_(run_ids), runs.c.project_id.in_(caller.projects)))
    return {row["id"]: run_of(row) for row in found.mappings()}


async def page(
    connection: AsyncConnection,
    caller: Caller,
    *,
    first: int,
    after: str | None = None,
    project_id: str | None = None,
    where: RunFilter = RunFilter(),
) -> Page[Run]:
    """Newest first."""
    query = select(runs).where(runs.c.project_id.in_(caller.projects), *_conditions(where))
    if project_id is not None:
        query = query.where(runs.c.project_id == project_id)
    if after is not None:
        query = query.where(runs.c.id < after_of(after, Prefix.RUN))
    found = await connection.execute(query.order_by(runs.c.id.desc()).limit(first + 1))
    return page_of([run_of(row) for row in found.mappings()], first=first, after=after)


@dataclass(frozen=True, slots=True)
class RunsAsked:
    """A page of the runs of one workflow or version, of which `id` is the id, newest first."""

    of: Literal["workflow_id", "version_id"]
    id: str
    first: int
    after: str | None = None
    where: RunFilter = RunFilter()


async def pages(connection: AsyncConnection, caller: Caller, asks: Sequence[RunsAsked]) -> dict[RunsAsked, Page[Run]]:
    """A statement for all that differ in the workflow, or the version, alone."""
    pages: dict[RunsAsked, Page[Run]] = {}
    for ask, ids in alike(asks, "id").items():
        query = select(runs).where(runs.c.project_id.in_(caller.projects), *_conditions(ask.where))
        if ask.after is not None:
            query = query.where(runs.c.id < after_of(ask.after, Prefix.RUN))
        found: dict[str, list[Run]] = {id: [] for id in ids}
        for row in (await connection.execute(of_each(query, runs.c[ask.of], ids, ask.first))).mappings():
            found[row[ask.of]].append(run_of(row))
        pages |= {replace(ask, id=id): page_of(rows, first=ask.first, after=ask.after) for id, rows in found.items()}
    return pages


def _conditions(where: RunFilter) -> Iterator[ColumnElement[bool]]:
    column = runs.c
    if where.workflow_id is not None:
        yield column.workflow_id == where.workflow_id
    if where.version_id is not None:
        yield column.version_id == where.version_id
    if where.status is not None:
        yield column.status.in_(where.status)
    if where.source is not None:
        yield column.source.in_(where.source)
    # Lists are in the order of ids, which servers make by their own clocks: a bound on them spares the rest of the list.
    if where.created_after is not None:
        yield column.created_at > where.created_after
        yield column.id > first_id("run", where.created_after, -CLOCKS_APART_S)
    if where.created_before is not None:
        yield column.created_at < where.created_before
        yield column.id < first_id("run", where.created_before, CLOCKS_APART_S)


async def median_durations(
    connection: AsyncConnection, caller: Caller, version_ids: Sequence[str]
) -> dict[str, timedelta]:
    """The median time from start to finish of each version's last completed runs; a version without any is left out."""
    last = (
        select((runs.c.finished_at - runs.c.started_at).label("took"))
        .where(
            and_(
                runs.c.version_id == versions.c.id,
                runs.c.project_id.in_(caller.projects),
                runs.c.status == RunStatus.COMPLETED,
                runs.c.started_at.is_not(None),
            )
        )
        .order_by(runs.c.id.desc())
        .limit(HISTORY_FOR_ESTIMATE)
        .lateral()
    )
    median = func.percentile_cont(0.5).within_group(last.c.took)
    query = select(versions.c.id, median).join(last, last.c.took.is_not(None)).where(versions.c.id.in_(version_ids))
    found = await connection.execute(query.group_by(versions.c.id))
    return dict(found.all())


async def status_at(connection: AsyncConnection, run: Run, seq: int) -> RunStatus:
    """The run's status after the event `seq`; as it is now, if that is past retention."""
    found = await connection.execute(
        select(events.c.body)
        .where(events.c.run_id == run.id, events.c.seq <= max(seq, 1), events.c.type == EventType.RUN_STATUS)
        .order_by(events.c.seq.desc())
        .limit(1)
    )
    body = found.scalar_one_or_none()
    return run.status if body is None else RunStatus(body["status"])


# The workflow first, as everybody locks it: the foreign keys alone would lock the version before, and a delete that holds the
# workflow and waits for its versions would wait for ever.
_ACCEPT = """
WITH standing AS (
    SELECT FROM workflows WHERE id = $3 FOR KEY SHARE
), made AS (
    INSERT INTO runs (id, project_id, workflow_id, version_id, source, mode, status, inputs, options, priority, is_step,
        created_by, lane, lane_limit, takeup, last_seq, queued_at, deadline_at, scopes, parent_id, parent_key, depth)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8::text::json, $9::text::json, $10, $11, $12, $13, $14,
        ($7 = 'QUEUED')::int, 1, CASE WHEN $7 = 'QUEUED' THEN now() END,
        CASE WHEN $7 = 'PENDING' THEN now() + make_interval(secs => $15) END, $17, $18, $19, $20
    WHERE $3 IS NULL OR EXISTS (SELECT FROM standing)
    RETURNING id, created_at
), told AS (
    INSERT INTO events (run_id, seq, type, at, body) SELECT id, 1, 'RUN_STATUS', created_at, $16::text::json FROM made
)
SELECT created_at FROM made
"""
