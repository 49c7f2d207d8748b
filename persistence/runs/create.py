"""A new run as rows: the run and its event 1 are there together, or neither is.

Accepting is one transaction of the caller's, or one statement of its own.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

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
    concurrency_limit: int | None = None
    """How many runs of the workflow may be held at once, where its spec says so."""
    on_limit: OnLimit = OnLimit.QUEUE
    parent: Parent | None = None

    @property
    def concurrency_key(self) -> str:
        """What is limited together: the workflow where its spec has a limit, or the spec without a workflow; else the project."""
        return self.project_id if self.concurrency_limit is None else self.workflow_id or self.version_id


async def accept(connection: AsyncConnection, caller: Caller, new: NewRun) -> CommandResult:
    """Inserts the run with its event 1. The caller has checked the role, the inputs and that the version is theirs.

    Raises NotFound if its workflow is deleted just now.
    """
    values = _new_values(caller, new)
    at = (await connection.exec_driver_sql(_ACCEPT, tuple(values))).scalar_one_or_none()
    return _accepted(caller, new, values[0], at)


async def accept_directly(pool: asyncpg.Pool, caller: Caller, new: NewRun) -> CommandResult:
    """The same as a transaction of its own, in one round trip."""
    values = _new_values(caller, new)
    return _accepted(caller, new, values[0], await pool.fetchval(_ACCEPT, *values))


def _new_values(caller: Caller, new: NewRun) -> list[Any]:
    options, parent = new.options, new.parent
    status = RunStatus.QUEUED if new.start else RunStatus.PENDING
    told = codec.body_of(StatusChange(status, None, _message(new)))
    return [
        new_id("run"),
        new.project_id,
        new.workflow_id,
        new.version_id,
        _source(caller, new).value,
        new.mode.value,
        status.value,
        orjson.dumps(new.inputs).decode(),
        orjson.dumps(options.to_json()).decode(),
        options.priority,
        options.stepwise,
        caller.subject,
        new.concurrency_key,
        new.concurrency_limit,
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


def _accepted(caller: Caller, new: NewRun, run_id: str, at: datetime | None) -> CommandResult:
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
