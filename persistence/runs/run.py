"""`Run`: a row of `runs`, and the queries that read runs by id.

Every query returns only runs of the caller's projects.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import asyncpg
from sqlalchemy import RowMapping, Text, cast, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import Event, RunError
from engine.isolation.loop_share import in_turns
from engine.states import EventType, OnLimit, RunMode, RunSource, RunStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.json_text import LARGE_VALUE, JsonText, LargeValue, from_text, small_json, small_json_column
from persistence.db.tables import events, runs
from persistence.events import codec
from persistence.events.run_transition import RunTransition


@dataclass(frozen=True, slots=True)
class RunThread:
    """The thread that a run belongs to: its key in the project.

    One run of a thread is executed at a time. `on_busy` is the effect on a new run while another one
    is active.
    """

    key: str
    on_busy: OnLimit = OnLimit.QUEUE


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options that a run was started with.

    `to_json` and `from_row` are the only code that knows the whole of the column `options`.
    `priority` and `tags` have columns of their own, because queries use them.
    """

    timeout_s: float | None = None
    """How long the run may take, in seconds; pauses do not count."""
    breakpoints: tuple[str, ...] = ()
    """Ids of the nodes before which the run pauses."""
    stepwise: bool = False
    """Whether the run pauses after every step."""
    priority: int = 0
    tags: tuple[str, ...] | None = None
    """Words by which runs are found. None: those of the run that it is made from, if there is one."""
    thread: RunThread | None = None

    def to_json(self) -> dict[str, JSON]:
        """Return the value of the column `options`."""
        plain: dict[str, JSON] = {
            "timeoutS": self.timeout_s,
            "breakpoints": list(self.breakpoints),
            "stepwise": self.stepwise,
        }
        if self.thread is not None:
            plain["thread"] = {"key": self.thread.key, "onBusy": self.thread.on_busy.value}
        return plain

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> "RunOptions":
        """Read the columns `options`, `priority` and `tags` of a row of `runs`."""
        options = row["options"]
        thread = options.get("thread")
        return cls(
            options["timeoutS"],
            tuple(options["breakpoints"]),
            options["stepwise"],
            row["priority"],
            tuple(row["tags"]),
            None if thread is None else RunThread(thread["key"], OnLimit(thread["onBusy"])),
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One row of `runs`, without the columns that only the queue and the journal use."""

    id: str
    project_id: str
    workflow_id: str | None
    version_id: str
    source: RunSource
    mode: RunMode
    status: RunStatus
    status_message: str | None
    stored_inputs: JSON | LargeValue
    stored_output: JSON | LargeValue
    error: RunError | None
    progress: float
    options: RunOptions
    created_by: str
    epoch: int
    worker_id: str | None
    lease_until: datetime | None
    attempt: int
    dispatch_number: int
    """How often the run was put into the queue; the column is `takeup`."""
    last_seq: int
    lineage: int
    cancel_reason: str | None
    cancel_requested_at: datetime | None
    pause_requested_at: datetime | None
    parent_id: str | None
    retry_of_id: str | None
    forked_from_id: str | None
    trigger_id: str | None
    deadline_at: datetime | None
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    resumed_at: datetime | None
    paused_at: datetime | None
    cancelled_at: datetime | None
    finished_at: datetime | None
    history_expired_at: datetime | None
    """When retention deleted its events, checkpoints and node data; the column is `pruned_at`."""

    @property
    def inputs(self) -> JSON:
        """The inputs. Raises LargeValueUnread."""
        return _read_value(self, self.stored_inputs)

    @property
    def output(self) -> JSON:
        """The output. Raises LargeValueUnread."""
        return _read_value(self, self.stored_output)


class LargeValueUnread(Exception):
    """The row of a run has no large values; `with_values` reads them."""


def _read_value(run: Run, stored: JSON | LargeValue) -> JSON:
    if stored is LARGE_VALUE:
        raise LargeValueUnread(run.id)
    return stored


_COLUMNS = {name: name for name in Run.__slots__} | {
    "stored_inputs": "inputs",
    "stored_output": "output",
    "dispatch_number": "takeup",
    "history_expired_at": "pruned_at",
}
_VALUES = ("inputs", "output")
RUN_COLUMNS = tuple(
    small_json_column("runs", column.name) if column.name in _VALUES else column for column in runs.columns
)
"""The columns of `runs` for `run_of`, with small values only."""
TEXT_COLUMNS = ", ".join(
    f"{small_json(column.name)} AS {column.name}" if column.name in _VALUES else column.name for column in runs.columns
)
"""The same for asyncpg and `run_of_record`."""
_READ = f"SELECT {TEXT_COLUMNS} FROM runs WHERE id = $1 AND project_id = ANY($2)"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A run after a command, and the transitions that the command wrote.

    The caller publishes them after the commit. The last transition is the one of `run`; those
    before it are of other runs changed by the same transaction. Without transitions the command
    wrote no status: the run had the requested state already.
    """

    run: Run
    transitions: tuple[RunTransition, ...] = ()

    @property
    def events(self) -> tuple[Event, ...]:
        """The events that the command wrote for `run`, in the order of their numbers."""
        return self.transitions[-1].events if self.transitions else ()


def transitions_of(results: Iterable[CommandResult]) -> list[RunTransition]:
    """Return the transitions of several results, in order."""
    return [transition for result in results for transition in result.transitions]


def run_of(row: RowMapping | Mapping[str, Any]) -> Run:
    """Decode a whole row of `runs`, from SQLAlchemy or asyncpg."""
    values = {name: row[column] for name, column in _COLUMNS.items()}
    values |= {
        "source": RunSource(values["source"]),
        "mode": RunMode(values["mode"]),
        "status": RunStatus(values["status"]),
        "error": codec.error_of(values["error"]),
        "options": RunOptions.from_row(row),
    }
    return Run(**values)


def run_of_record(record: asyncpg.Record) -> Run:
    """Decode a row of TEXT_COLUMNS."""
    return run_of({**record, **{name: from_text(record[name]) for name in _VALUES}})


async def get(connection: AsyncConnection, caller: Caller, run_id: str) -> Run | None:
    """Read one run; None if the caller may not see it."""
    return (await get_many(connection, caller, [run_id])).get(run_id)


async def read(pool: asyncpg.Pool, caller: Caller, run_id: str) -> Run | None:
    """Read the same as `get` in one round trip of asyncpg, for callers that poll."""
    record = await pool.fetchrow(_READ, run_id, list(caller.projects))
    return None if record is None else run_of_record(record)


async def get_many(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, Run]:
    """Read the runs that the caller may see, by id, with small values only."""
    where = runs.c.id.in_(run_ids), runs.c.project_id.in_(caller.projects)
    rows = await connection.execute(select(*RUN_COLUMNS).where(*where))
    return {row["id"]: run_of(row) async for row in in_turns(rows.mappings())}


async def read_value(connection: AsyncConnection, run: Run, name: Literal["inputs", "output"]) -> JsonText | None:
    """Read the inputs or the output of a run as text, of any size; None if there is none."""
    rows = await connection.execute(select(cast(runs.c[name], Text)).where(runs.c.id == run.id))
    value = rows.scalar_one_or_none()
    return None if value is None else JsonText(value)


async def with_values(connection: AsyncConnection, run: Run) -> Run:
    """Return the run with its large values, for callers that need them parsed."""
    found: dict[str, JSON] = {}
    for name in ("inputs", "output"):
        if getattr(run, f"stored_{name}") is LARGE_VALUE:
            text = await read_value(connection, run, name)
            found[f"stored_{name}"] = None if text is None else text.value()
    return replace(run, **found) if found else run


def as_of(run: Run, seq: int, status: RunStatus, message: str | None, progress: float) -> Run:
    """Return a run as it was after the event `seq`.

    Args:
        run: The run as it is now.
        seq: The number of the event.
        status: The status after the event.
        message: The message of that status.
        progress: The progress after the event.
    """
    changes: dict[str, Any] = {"last_seq": seq, "status": status, "status_message": message, "progress": progress}
    if status is not run.status and not status.is_terminal:
        changes |= dict.fromkeys(("stored_output", "error", "finished_at", "cancelled_at", "deadline_at"))
    return replace(run, **changes)


async def status_at(connection: AsyncConnection, run: Run, seq: int) -> tuple[RunStatus, str | None]:
    """Read the run's status after the event `seq`, and its message.

    If retention deleted that event, it is the present status.
    """
    rows = await connection.execute(
        select(events.c.body)
        .where(events.c.run_id == run.id, events.c.seq <= max(seq, 1), events.c.type == EventType.RUN_STATUS)
        .order_by(events.c.seq.desc())
        .limit(1)
    )
    body = rows.scalar_one_or_none()
    if body is None:
        return run.status, run.status_message
    return RunStatus(body["status"]), body["message"] or None
