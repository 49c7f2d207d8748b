"""Runs as rows: reading them, listing them, and accepting a new one. Every query sees the caller's projects alone.

Accepting is one transaction of the caller's: the run and its event 1 are there together, or neither is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, and_, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import JSON, Event, RunError, StatusChange
from engine.states import EventType, RunMode, RunSource, RunStatus
from persistence import wire
from persistence.caller import Caller
from persistence.ids import new_id
from persistence.paging import Page, after_of, page_of
from persistence.tables import checkpoints, events, runs, versions

PENDING_DEADLINE = timedelta(days=7)
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


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What a list of runs is narrowed to. None narrows nothing; an empty list lets nothing through."""

    workflow_id: str | None = None
    version_id: str | None = None
    status: Sequence[RunStatus] | None = None
    source: Sequence[RunSource] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    forked_from_id: str | None = None

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
    """Inserts the run with its event 1. The caller has checked the role, the inputs and that the version is theirs."""
    status = RunStatus.QUEUED if new.start else RunStatus.PENDING
    options = new.options
    row = await connection.execute(
        insert(runs)
        .values(
            id=new_id("run"),
            project_id=new.project_id,
            lane=new.project_id,
            workflow_id=new.workflow_id,
            version_id=new.version_id,
            source=RunSource.AGENT if caller.is_agent and new.source is RunSource.MANUAL else new.source,
            mode=new.mode,
            status=status,
            inputs=new.inputs,
            options={
                "timeoutS": options.timeout_s,
                "breakpoints": list(options.breakpoints),
                "stepwise": options.stepwise,
            },
            priority=options.priority,
            is_step=options.stepwise,
            created_by=caller.subject,
            takeup=1 if new.start else 0,
            last_seq=1,
            queued_at=func.now() if new.start else None,
            deadline_at=None if new.start else func.now() + PENDING_DEADLINE,
        )
        .returning(runs)
    )
    run = run_of(row.mappings().one())
    what = StatusChange(status, None, "Accepted" if new.start else "Created")
    await connection.execute(
        insert(events).values(run_id=run.id, seq=1, type=what.type, at=run.created_at, body=wire.body_of(what))
    )
    return Changed(run, None, (Event(run.id, 1, run.created_at, what),))


async def get(connection: AsyncConnection, caller: Caller, run_id: str) -> Run | None:
    return (await get_many(connection, caller, [run_id])).get(run_id)


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
        query = query.where(runs.c.id < after_of(after))
    found = await connection.execute(query.order_by(runs.c.id.desc()).limit(first + 1))
    return page_of([run_of(row) for row in found.mappings()], first=first, after=after)


async def derived_page(
    connection: AsyncConnection,
    caller: Caller,
    run_id: str,
    *,
    first: int,
    after: str | None = None,
    source: Sequence[RunSource] | None = None,
) -> Page[Run]:
    """Runs made from this one: its retries, the forks from its checkpoints, its child runs. Newest first."""
    own = select(checkpoints.c.id).where(checkpoints.c.run_id == run_id)
    derived = or_(runs.c.retry_of_id == run_id, runs.c.parent_id == run_id, runs.c.forked_from_id.in_(own))
    query = select(runs).where(derived, runs.c.project_id.in_(caller.projects))
    if source is not None:
        query = query.where(runs.c.source.in_(source))
    if after is not None:
        query = query.where(runs.c.id < after_of(after))
    found = await connection.execute(query.order_by(runs.c.id.desc()).limit(first + 1))
    return page_of([run_of(row) for row in found.mappings()], first=first, after=after)


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
    if where.forked_from_id is not None:
        yield column.forked_from_id == where.forked_from_id
    if where.created_after is not None:
        yield column.created_at > where.created_after
    if where.created_before is not None:
        yield column.created_at < where.created_before


async def median_durations(connection: AsyncConnection, version_ids: Sequence[str]) -> dict[str, timedelta]:
    """The median time from start to finish of each version's last completed runs; a version without any is left out."""
    last = (
        select((runs.c.finished_at - runs.c.started_at).label("took"))
        .where(
            and_(
                runs.c.version_id == versions.c.id,
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
