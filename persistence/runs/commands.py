"""Commands of servers on runs: start, cancel, pause, resume and set breakpoints.

Workers change runs by the journal.

A command runs in a transaction of the caller, who publishes the transitions of its result after the
commit. It raises InvalidState where the state machine has no such transition, so a command that
lost a race fails. A result without transitions means that the run had the requested state already.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Interval, Text, and_, case, cast, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from engine import tracing
from engine.events import NodeChange, StatusChange
from engine.states import LEASED, TERMINAL, NodeStatus, RunStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.deadlines import Deadlines
from persistence.db.tables import checkpoints, runs, waits
from persistence.events.run_transition import RunTransition
from persistence.problems import InvalidState
from persistence.runs import node_states
from persistence.runs.run import RUN_COLUMNS, CommandResult, Run, run_of, transitions_of
from persistence.runs.transition import change_status, change_statuses, finish_all, for_no_key_update, lock_run

PAUSABLE = frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING})
_ANSWER = (
    " Where a question is open, answer it: `resumeRun` with `answer` and a `waitId` of `Run.waits`. "
    "An event or a time continues the run without you."
)
BATCH = 500
"""Runs cancelled by one statement, which their workers' writes wait for."""


async def execute(
    connection: AsyncConnection, caller: Caller, run_id: str, inputs: JSON, *, replace: bool
) -> CommandResult:
    """Start a PENDING run. `inputs` replace the inputs of its creation if `replace`.

    Its tools get the scopes that both its creator and this caller have, so that neither uses a tool
    with the rights of the other.
    """
    run = await lock_run(connection, caller, run_id)
    if run.status is not RunStatus.PENDING:
        raise InvalidState(f"Only a PENDING run can be started; this one is {run.status}.", run_status=run.status)
    created_with = await connection.scalar(select(runs.c.scopes).where(runs.c.id == run_id))
    values: dict[str, Any] = {"scopes": sorted(caller.scopes_in(run.project_id).intersection(created_with or ()))}
    if replace:
        values["inputs"] = inputs
    return await change_status(
        connection, run, StatusChange(RunStatus.QUEUED, run.status, "Accepted"), **queue_columns(), **values
    )


async def cancel(
    connection: AsyncConnection, caller: Caller, run_id: str, reason: str | None, deadlines: Deadlines
) -> CommandResult:
    """Cancel a run and its child runs.

    A run that no worker holds is CANCELLED. A leased one becomes CANCELLING, with a deadline, until
    its worker has stopped its code; the caller notifies that worker.
    """
    run = await lock_run(connection, caller, run_id)
    if run.status.is_terminal:
        raise InvalidState(f"The run is {run.status} already.", run_status=run.status)
    if run.status is RunStatus.CANCELLING:
        return CommandResult(run)
    if run.status in LEASED:
        [result] = await _request_cancel(connection, [run], reason, deadlines)
    else:
        result = await cancel_now(connection, run, reason)
    descendants = await connection.execute(_DESCENDANTS, {"run_id": run_id})
    children = await cancel_these(connection, list(descendants.scalars()), reason, deadlines)
    return replace(result, transitions=(*children, *result.transitions))


async def _request_cancel(
    connection: AsyncConnection, leased: Sequence[Run], reason: str | None, deadlines: Deadlines
) -> list[CommandResult]:
    return await change_statuses(
        connection,
        leased,
        RunStatus.CANCELLING,
        reason or "Cancel requested",
        {},
        cancel_requested_at=func.now(),
        cancel_reason=reason,
        deadline_at=func.now() + deadlines.cancelling,
    )


async def cancel_now(connection: AsyncConnection, run: Run, reason: str | None) -> CommandResult:
    """Cancel a run that no worker holds and that this transaction has locked."""
    [result] = await _cancel_idle(connection, [run], reason)
    return result


async def _cancel_idle(connection: AsyncConnection, idle: Sequence[Run], reason: str | None) -> list[CommandResult]:
    return await finish_all(
        connection,
        idle,
        RunStatus.CANCELLED,
        reason or "Cancelled",
        cancel_requested_at=func.now(),
        cancel_reason=reason,
        cancelled_at=func.now(),
    )


async def cancel_these(
    connection: AsyncConnection, run_ids: Sequence[str], reason: str | None, deadlines: Deadlines
) -> list[RunTransition]:
    """Cancel those of these runs that are active and not CANCELLING, BATCH at a time.

    It does not check a caller: these are child runs, which belong to their parent.
    """
    cancelled: list[RunTransition] = []
    in_order = sorted(run_ids)
    for start in range(0, len(in_order), BATCH):
        these = runs.c.id.in_(in_order[start : start + BATCH])
        cancelled += await _cancel_where(connection, these, reason, deadlines)
    return cancelled


async def cancel_all(
    connection: AsyncConnection, caller: Caller, workflow_id: str, reason: str | None, deadlines: Deadlines
) -> list[RunTransition]:
    """Cancel up to BATCH active runs of a workflow; CANCELLING ones are left out."""
    which = and_(runs.c.workflow_id == workflow_id, runs.c.project_id.in_(caller.projects))
    return await _cancel_where(connection, which, reason, deadlines)


async def _cancel_where(
    connection: AsyncConnection, which: ColumnElement[bool], reason: str | None, deadlines: Deadlines
) -> list[RunTransition]:
    query = select(*RUN_COLUMNS).where(which, runs.c.status.not_in(TERMINAL | {RunStatus.CANCELLING}))
    rows = await connection.execute(for_no_key_update(query.order_by(runs.c.id).limit(BATCH)))
    active = [run_of(row) for row in rows.mappings()]
    leased = [run for run in active if run.status in LEASED]
    idle = [run for run in active if run.status not in LEASED]
    cancelling = await _request_cancel(connection, leased, reason, deadlines) if leased else []
    cancelled = await _cancel_idle(connection, idle, reason) if idle else []
    return transitions_of([*cancelling, *cancelled])


async def pause(connection: AsyncConnection, caller: Caller, run_id: str, deadlines: Deadlines) -> CommandResult:
    """Pause a run.

    It is PAUSED if no worker holds it, else PAUSING until its running nodes have ended or the
    deadline passes. The caller notifies the worker of a PAUSING run.
    """
    run = await lock_run(connection, caller, run_id)
    if run.status in (RunStatus.PAUSING, RunStatus.PAUSED):
        return CommandResult(run)
    if run.status not in PAUSABLE:
        raise InvalidState(f"A run that is {run.status} cannot be paused.", run_status=run.status)
    if run.status is RunStatus.RUNNING:
        change = StatusChange(RunStatus.PAUSING, run.status, "Pause requested")
        deadline = func.now() + deadlines.pausing
        return await change_status(connection, run, change, pause_requested_at=func.now(), deadline_at=deadline)
    # A lost worker may have left nodes with the status RUNNING.
    interrupted = [
        state for state in await node_states.unfinished(connection, run.id) if state.status is NodeStatus.RUNNING
    ]
    return await change_status(
        connection,
        run,
        StatusChange(RunStatus.PAUSED, run.status, "Paused"),
        *(NodeChange(node_states.as_interrupted(state)) for state in interrupted),
        pause_requested_at=func.now(),
        paused_at=func.now(),
        deadline_at=idle_deadline(run.id, deadlines.idle),
    )


def idle_deadline(run_id: str, idle: timedelta | None) -> ColumnElement[datetime | None]:
    """Return when a run that is PAUSED now is cancelled.

    It is `idle` from now, or from the end of its first timer if that is later; NULL without `idle`.
    """
    is_open = (waits.c.run_id == run_id, waits.c.settled_seq.is_(None), waits.c.superseded_seq.is_(None))
    first = select(func.min(waits.c.until)).where(*is_open).scalar_subquery()
    return func.greatest(func.now(), first, type_=runs.c.deadline_at.type) + literal(idle, Interval)


async def resume(connection: AsyncConnection, caller: Caller, run_id: str, *, step: bool = False) -> CommandResult:
    """Resume a PAUSED run from its last checkpoint; with `step` it pauses again after one step."""
    run = await lock_paused(connection, caller, run_id)
    message = "Resumed for one step" if step or run.options.stepwise else "Resumed"
    return await change_status(
        connection, run, StatusChange(RunStatus.QUEUED, run.status, message), **resume_columns(run, step=step)
    )


async def lock_paused(connection: AsyncConnection, caller: Caller, run_id: str) -> Run:
    """Read and lock a PAUSED run. Raises InvalidState for any other status."""
    run = await lock_run(connection, caller, run_id)
    if run.status is not RunStatus.PAUSED:
        advice = _ANSWER if run.status is RunStatus.WAITING else ""
        message = f"Only a PAUSED run can be resumed; this one is {run.status}.{advice}"
        raise InvalidState(message, run_status=run.status)
    return run


def queue_columns() -> dict[str, Any]:
    """Return the columns that every transition to QUEUED writes."""
    columns: dict[str, Any] = {"takeup": runs.c.takeup + 1, "queued_at": func.now(), "deadline_at": None}
    if (carrier := tracing.current_carrier()) is not None:
        # The trace of the request that queues the run: the next execution has a link to it.
        path, value = cast(["queuedBy"], ARRAY(Text)), cast(carrier, JSONB)
        columns["options"] = cast(func.jsonb_set(cast(runs.c.options, JSONB), path, value), runs.c.options.type)
    return columns


def resume_columns(run: Run, *, step: bool) -> dict[str, Any]:
    """Return the columns that a resume writes.

    The timeout is extended by the time that the run was paused.
    """
    return {
        **queue_columns(),
        "resumed_at": func.now(),
        "resumed_step": _head_step(run.id),
        "is_step": step or run.options.stepwise,
        "timeout_at": case((runs.c.timeout_at.is_not(None), func.now() + (runs.c.timeout_at - runs.c.paused_at))),
    }


def _head_step(run_id: str) -> ColumnElement[int]:
    head = (
        select(checkpoints.c.step)
        .where(checkpoints.c.run_id == run_id, checkpoints.c.superseded_seq.is_(None))
        .order_by(checkpoints.c.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(head, -1)


async def set_breakpoints(connection: AsyncConnection, caller: Caller, run_id: str, node_ids: list[str]) -> Run:
    """Replace the breakpoints of an active run; its other options stay as they are stored.

    Raises InvalidState for a terminal run.
    """
    run = await lock_run(connection, caller, run_id)
    if run.status.is_terminal:
        raise InvalidState(f"The run is {run.status} already.", run_status=run.status)
    # Only this key is written: a newer server of the same deployment may have stored options
    # unknown to this one.
    path, ids = cast(["breakpoints"], ARRAY(Text)), cast(node_ids, JSONB)
    options = cast(func.jsonb_set(cast(runs.c.options, JSONB), path, ids), runs.c.options.type)
    changed = update(runs).where(runs.c.id == run_id).values(options=options).returning(*RUN_COLUMNS)
    return run_of((await connection.execute(changed)).mappings().one())


_DESCENDANTS = text("""
WITH RECURSIVE descendants AS (
    SELECT id FROM runs WHERE parent_id = :run_id
    UNION ALL
    SELECT c.id FROM descendants d JOIN runs c ON c.parent_id = d.id
)
SELECT id FROM descendants
""")
