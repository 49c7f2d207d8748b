"""Inserts new runs.

The run and its event 1 are written by one statement, so a crash leaves both or neither.

The statement runs in a transaction of the caller (`accept`) or in its own (`accept_directly`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import asyncpg
import orjson
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine import tracing
from engine.events import Event, StatusChange
from engine.states import OnLimit, RunMode, RunSource, RunStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.deadlines import PENDING
from persistence.db.ids import new_id
from persistence.events import codec
from persistence.events.run_transition import RunTransition
from persistence.problems import NotFound
from persistence.runs.run import CommandResult, Run, RunOptions
from persistence.workflows import versions


@dataclass(frozen=True, slots=True)
class Parent:
    """The node that starts a child run.

    `key` is unique for each child: `lineage/node/visit`, and the item in a map.
    """

    run_id: str
    key: str
    depth: int
    """How deep the child is nested: 1 for the child of a run without a parent."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to insert. It is QUEUED, or PENDING for executeRun if `start` is False."""

    project_id: str
    workflow_id: str | None
    version_id: str
    inputs: JSON
    start: bool = True
    mode: RunMode = RunMode.ASYNC
    source: RunSource = RunSource.MANUAL
    options: RunOptions = field(default_factory=RunOptions)
    concurrency_limit: int | None = None
    """How many runs of the workflow may be executed at once; None if its spec sets no limit."""
    on_limit: OnLimit = OnLimit.QUEUE
    parent: Parent | None = None
    trigger_id: str | None = None
    """The trigger that starts the run."""
    is_serial: bool = False
    """Whether the run waits in the queue while a worker holds another run with its concurrency key."""
    id: str | None = None
    """The id of the run; None for a new one."""
    trace: tracing.Carrier | None = None
    """The trace that the run belongs to; None for the present one."""

    @property
    def concurrency_key(self) -> str:
        """The key of the runs that share a limit.

        The thread of a run in one, the workflow where its spec has a limit, the version for an ad hoc
        run with a limit, the trigger of a serial run, else the project.
        """
        if self.options.thread is not None:
            return f"{self.project_id}/thread/{self.options.thread.key}"
        if self.concurrency_limit is None:
            return self.trigger_id if self.is_serial and self.trigger_id else self.project_id
        return self.workflow_id or self.version_id

    @property
    def limit(self) -> int | None:
        """How many runs with its concurrency key may be executed at once; None for no limit."""
        return 1 if self.is_serial or self.options.thread is not None else self.concurrency_limit

    @property
    def admission(self) -> OnLimit:
        """The effect on this run while `limit` runs with its concurrency key are active."""
        return self.on_limit if self.options.thread is None else self.options.thread.on_busy

    @property
    def is_queued_at_limit(self) -> bool:
        """Whether it is accepted in any case, and ends no other run. Else `admission.admit` decides under a lock."""
        return self.limit is None or self.admission is OnLimit.QUEUE


async def accept(connection: AsyncConnection, caller: Caller, new: NewRun) -> CommandResult:
    """Insert the run with its event 1.

    The caller checks role, inputs and access to the version before.

    Raises:
        NotFound: Its workflow was deleted meanwhile.
    """
    values = _new_values(caller, new)
    at = (await connection.exec_driver_sql(_ACCEPT, tuple(values))).scalar_one_or_none()
    return _accepted(caller, new, values[0], at)


async def accept_many(connection: AsyncConnection, accepted: Sequence[tuple[Caller, NewRun]]) -> list[CommandResult]:
    """Insert runs with their events in one round trip.

    The transaction has locked the workflows of the runs, so that they exist.
    """
    if not accepted:
        return []
    rows = [tuple(_new_values(caller, new)) for caller, new in accepted]
    await connection.exec_driver_sql(_ACCEPT, rows)
    at = (await connection.execute(select(func.now()))).scalar_one()
    return [_accepted(caller, new, row[0], at) for (caller, new), row in zip(accepted, rows, strict=True)]


async def accept_directly(pool: asyncpg.Pool, caller: Caller, new: NewRun) -> CommandResult:
    """Insert the run in a transaction of its own, in one round trip.

    Raises NotFound as `accept` does.
    """
    values = _new_values(caller, new)
    return _accepted(caller, new, values[0], await pool.fetchval(_ACCEPT, *values))


async def accept_if_current(pool: asyncpg.Pool, caller: Caller, new: NewRun) -> CommandResult | None:
    """Insert the run as `accept_directly` does, if its version is what its workflow executes by default.

    Returns:
        None if it is not: another version was published, the draft was saved, or the workflow was
        deleted since the version was read. Nothing is inserted then.
    """
    values = _new_values(caller, new)
    at = await pool.fetchval(_ACCEPT_IF_CURRENT, *values)
    return None if at is None else _accepted(caller, new, values[0], at)


def _new_values(caller: Caller, new: NewRun) -> list[Any]:
    options, parent = new.options, new.parent
    status = RunStatus.QUEUED if new.start else RunStatus.PENDING
    body = codec.body_of(StatusChange(status, None, _message(new)))
    return [
        new.id or new_id("run"),
        new.project_id,
        new.workflow_id,
        new.version_id,
        _source(caller, new).value,
        new.mode.value,
        status.value,
        orjson.dumps(new.inputs).decode(),
        orjson.dumps(_stored_options(new)).decode(),
        options.priority,
        options.stepwise,
        caller.subject,
        new.concurrency_key,
        new.limit,
        PENDING.total_seconds(),
        orjson.dumps(body).decode(),
        sorted(caller.scopes_in(new.project_id)),
        parent and parent.run_id,
        parent and parent.key,
        parent.depth if parent else 0,
        new.trigger_id,
        list(options.tags or ()),
    ]


def _stored_options(new: NewRun) -> dict[str, JSON]:
    """Return the value of the column `options`, with the trace of the request that creates the run."""
    carrier, options = new.trace or tracing.current_carrier(), new.options.to_json()
    return options if carrier is None else {**options, "trace": {**carrier}}


def _source(caller: Caller, new: NewRun) -> RunSource:
    return RunSource.AGENT if caller.is_agent and new.source is RunSource.MANUAL else new.source


def _message(new: NewRun) -> str:
    return "Accepted" if new.start else "Created"


def _accepted(caller: Caller, new: NewRun, run_id: str, at: datetime | None) -> CommandResult:
    """Make the run as the statement wrote it, without reading it back.

    `at` is None if its workflow is deleted.
    """
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
            "stored_inputs": new.inputs,
            "progress": 0.0,
            "options": replace(new.options, tags=new.options.tags or ()),
            "created_by": caller.subject,
            "parent_id": new.parent and new.parent.run_id,
            "trigger_id": new.trigger_id,
            "epoch": 0,
            "attempt": 0,
            "dispatch_number": int(new.start),
            "last_seq": 1,
            "lineage": 0,
            "created_at": at,
            "queued_at": at if new.start else None,
            "deadline_at": None if new.start else at + PENDING,
        }
    )
    change = StatusChange(status, None, _message(new))
    transition = RunTransition.of(new.project_id, run_id, change, (Event(run_id, 1, at, change),))
    return CommandResult(run, (transition,))


# The workflow is locked first, in the order of every other transaction. The foreign keys alone
# would lock the version before it, and a delete that holds the workflow and waits for its versions
# would be a deadlock.
_INSERT = """
WITH workflow AS (
    SELECT FROM workflows WHERE id = $3 FOR KEY SHARE
), new_run AS (
    INSERT INTO runs (id, project_id, workflow_id, version_id, source, mode, status, inputs, options, priority, is_step,
        created_by, lane, lane_limit, takeup, last_seq, queued_at, deadline_at, scopes, parent_id, parent_key, depth,
        trigger_id, tags, stored_bytes)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8::text::json, $9::text::json, $10, $11, $12, $13, $14,
        ($7 = 'QUEUED')::int, 1, CASE WHEN $7 = 'QUEUED' THEN now() END,
        CASE WHEN $7 = 'PENDING' THEN now() + make_interval(secs => $15) END, $17, $18, $19, $20, $21, $22,
        octet_length($8::text)
    WHERE {condition}
    RETURNING id, created_at
), new_event AS (
    INSERT INTO events (run_id, seq, type, at, body) SELECT id, 1, 'RUN_STATUS', created_at, $16::text::json FROM new_run
)
SELECT created_at FROM new_run
"""
_EXISTS = "$3 IS NULL OR EXISTS (SELECT FROM workflow)"
_ACCEPT = _INSERT.format(condition=_EXISTS)
_ACCEPT_IF_CURRENT = _INSERT.format(
    condition=f"EXISTS (SELECT FROM workflow) AND $4 = (SELECT version_id FROM ({versions.CURRENT} WHERE w.id = $3) x)"
)
