"""The status changes that a server makes: start, cancel, pause and resume a run. Workers make the others by the journal.

Each raises InvalidState where the state machine has no such arrow, so a change that lost a race says so. A result without
transitions: it was asked for already, and nothing is written.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Text, and_, case, cast, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import NodeChange, StatusChange
from engine.states import LEASED, NodeStatus, RunStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.deadlines import Deadlines
from persistence.db.tables import checkpoints, runs
from persistence.events.run_transition import RunTransition
from persistence.problems import InvalidState
from persistence.runs import node_states
from persistence.runs.run import CommandResult, Run, run_of, transitions_of
from persistence.runs.transition import change_status, change_statuses, finish_all, for_no_key_update, lock_run

PAUSABLE = frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING})
BATCH = 500
"""Runs cancelled in one transaction: workers that write to them wait for it."""


async def execute(
    connection: AsyncConnection, caller: Caller, run_id: str, inputs: JSON, *, replace: bool
) -> CommandResult:
    """PENDING → QUEUED. `inputs` replace those given at creation if `replace`."""
    run = await lock_run(connection, caller, run_id)
    if run.status is not RunStatus.PENDING:
        raise InvalidState(f"Only a PENDING run can be started; this one is {run.status}.", run_status=run.status)
    values: dict[str, Any] = {"inputs": inputs} if replace else {}
    return await change_status(
        connection, run, StatusChange(RunStatus.QUEUED, run.status, "Accepted"), **queue_columns(), **values
    )


async def cancel(
    connection: AsyncConnection, caller: Caller, run_id: str, reason: str | None, deadlines: Deadlines
) -> CommandResult:
    """Cancels what no worker holds; asks the worker that holds it otherwise."""
    run = await lock_run(connection, caller, run_id)
    if run.status.is_terminal:
        raise InvalidState(f"The run is {run.status} already.", run_status=run.status)
    if run.status is RunStatus.CANCELLING:
        return CommandResult(run)
    if run.status in LEASED:
        [result] = await _ask_to_cancel(connection, [run], reason, deadlines)
    else:
        result = await cancel_now(connection, run, reason)
    below = await connection.execute(_DESCENDANTS, {"run_id": run_id})
    children = await cancel_these(connection, list(below.scalars()), reason, deadlines)
    return replace(result, transitions=(*children, *result.transitions))


async def _ask_to_cancel(
    connection: AsyncConnection, held: Sequence[Run], reason: str | None, deadlines: Deadlines
) -> list[CommandResult]:
    return await change_statuses(
        connection,
        held,
        RunStatus.CANCELLING,
        reason or "Cancel requested",
        {},
        cancel_requested_at=func.now(),
        cancel_reason=reason,
        deadline_at=func.now() + deadlines.cancelling,
    )


async def cancel_now(connection: AsyncConnection, run: Run, reason: str | None) -> CommandResult:
    """A run that no worker holds, locked by this transaction."""
    [result] = await _cancel_at_rest(connection, [run], reason)
    return result


async def _cancel_at_rest(
    connection: AsyncConnection, resting: Sequence[Run], reason: str | None
) -> list[CommandResult]:
    return await finish_all(
        connection,
        resting,
        RunStatus.CANCELLED,
        reason or "Cancelled",
        cancel_requested_at=func.now(),
        cancel_reason=reason,
        cancelled_at=func.now(),
    )


async def cancel_these(
    connection: AsyncConnection, run_ids: Sequence[str], reason: str | None, deadlines: Deadlines
) -> list[RunTransition]:
    """Those of these runs that are active and not asked to stop already, whoever's they are; all of them, BATCH at a time."""
    cancelled: list[RunTransition] = []
    in_order = sorted(run_ids)
    for start in range(0, len(in_order), BATCH):
        these = runs.c.id.in_(in_order[start : start + BATCH])
        cancelled += await _cancel_where(connection, these, reason, deadlines)
    return cancelled


async def cancel_all(
    connection: AsyncConnection, caller: Caller, workflow_id: str, reason: str | None, deadlines: Deadlines
) -> list[RunTransition]:
    """Cancels up to BATCH active runs of a workflow, those that are asked to stop already left out."""
    which = and_(runs.c.workflow_id == workflow_id, runs.c.project_id.in_(caller.projects))
    return await _cancel_where(connection, which, reason, deadlines)


async def _cancel_where(
    connection: AsyncConnection, which: ColumnElement[bool], reason: str | None, deadlines: Deadlines
) -> list[RunTransition]:
    settled = [status for status in RunStatus if status.is_terminal or status is RunStatus.CANCELLING]
    query = select(runs).where(which, runs.c.status.not_in(settled))
    found = await connection.execute(for_no_key_update(query.order_by(runs.c.id).limit(BATCH)))
    active = [run_of(row) for row in found.mappings()]
    held = [run for run in active if run.status in LEASED]
    resting = [run for run in active if run.status not in LEASED]
    asked = await _ask_to_cancel(connection, held, reason, deadlines) if held else []
    ended = await _cancel_at_rest(connection, resting, reason) if resting else []
    return transitions_of([*asked, *ended])


async def pause(connection: AsyncConnection, caller: Caller, run_id: str, deadlines: Deadlines) -> CommandResult:
    """PAUSED at once where no worker holds the run; else PAUSING, and the worker that holds it is to be told."""
    run = await lock_run(connection, caller, run_id)
    if run.status in (RunStatus.PAUSING, RunStatus.PAUSED):
        return CommandResult(run)
    if run.status not in PAUSABLE:
        raise InvalidState(f"A run that is {run.status} cannot be paused.", run_status=run.status)
    if run.status is RunStatus.RUNNING:
        asked = StatusChange(RunStatus.PAUSING, run.status, "Pause requested")
        deadline = func.now() + deadlines.pausing
        return await change_status(connection, run, asked, pause_requested_at=func.now(), deadline_at=deadline)
    # A worker that was lost may have left nodes behind that show as running.
    left = [
        state for state in await node_states.unfinished(connection, run.id) if state.status is not NodeStatus.WAITING
    ]
    return await change_status(
        connection,
        run,
        StatusChange(RunStatus.PAUSED, run.status, "Paused"),
        *(NodeChange(node_states.as_interrupted(state)) for state in left),
        pause_requested_at=func.now(),
        paused_at=func.now(),
        deadline_at=func.now() + deadlines.idle,
    )


async def resume(connection: AsyncConnection, caller: Caller, run_id: str, *, step: bool = False) -> CommandResult:
    """PAUSED → QUEUED, from its last checkpoint. `step`: it pauses again after one step."""
    run = await lock_paused(connection, caller, run_id)
    message = "Resumed for one step" if step or run.options.stepwise else "Resumed"
    return await change_status(
        connection, run, StatusChange(RunStatus.QUEUED, run.status, message), **resume_columns(run, step=step)
    )


async def lock_paused(connection: AsyncConnection, caller: Caller, run_id: str) -> Run:
    """A PAUSED run, locked."""
    run = await lock_run(connection, caller, run_id)
    if run.status is not RunStatus.PAUSED:
        raise InvalidState(f"Only a PAUSED run can be resumed; this one is {run.status}.", run_status=run.status)
    return run


def queue_columns() -> dict[str, Any]:
    """What every way into the queue writes."""
    return {"takeup": runs.c.takeup + 1, "queued_at": func.now(), "deadline_at": None}


def resume_columns(run: Run, *, step: bool) -> dict[str, Any]:
    """What a resume writes: the timeout does not count the time that the run was paused."""
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
    # Only this key is written: a newer server of the same deployment may have stored options unknown to this one.
    path, ids = cast(["breakpoints"], ARRAY(Text)), cast(node_ids, JSONB)
    options = cast(func.jsonb_set(cast(runs.c.options, JSONB), path, ids), runs.c.options.type)
    changed = update(runs).where(runs.c.id == run_id).values(options=options).returning(runs)
    return run_of((await connection.execute(changed)).mappings().one())


_DESCENDANTS = text("""
WITH RECURSIVE below AS (
    SELECT id FROM runs WHERE parent_id = :run_id
    UNION ALL
    SELECT c.id FROM below b JOIN runs c ON c.parent_id = b.id
)
SELECT id FROM below
""")
