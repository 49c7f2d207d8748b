"""The status changes that a server makes: start, cancel, pause and resume a run. Workers make the others by the journal.

Each raises InvalidState where the state machine has no such arrow, so a change that lost a race says so. A Run in place of
a Changed: it was asked for already, and nothing is written.
"""

from typing import Any

from sqlalchemy import ColumnElement, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import JSON, NodeChange, StatusChange
from engine.states import HELD, RunStatus
from persistence import deadlines, nodes
from persistence.caller import Caller
from persistence.problems import InvalidState
from persistence.runs import Changed, Run
from persistence.tables import checkpoints, runs, waits
from persistence.transition import locked, move

PAUSABLE = frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING})


async def execute(connection: AsyncConnection, caller: Caller, run_id: str, inputs: JSON, *, replace: bool) -> Changed:
    """PENDING → QUEUED. `inputs` replace those given at creation if `replace`."""
    run = await locked(connection, caller, run_id)
    if run.status is not RunStatus.PENDING:
        raise InvalidState(f"Only a PENDING run can be started; this one is {run.status}.", run_status=run.status)
    values: dict[str, Any] = {"inputs": inputs} if replace else {}
    return await move(connection, run, StatusChange(RunStatus.QUEUED, run.status, "Accepted"), **queued(), **values)


async def cancel(connection: AsyncConnection, caller: Caller, run_id: str, reason: str | None) -> Changed | Run:
    """Cancels what no worker holds; asks the worker that holds it otherwise."""
    run = await locked(connection, caller, run_id)
    if run.status.is_terminal:
        raise InvalidState(f"The run is {run.status} already.", run_status=run.status)
    if run.status is RunStatus.CANCELLING:
        return run
    return await (_ask_to_cancel if run.status in HELD else cancel_now)(connection, run, reason)


async def _ask_to_cancel(connection: AsyncConnection, run: Run, reason: str | None) -> Changed:
    return await move(
        connection,
        run,
        StatusChange(RunStatus.CANCELLING, run.status, reason or "Cancel requested"),
        cancel_requested_at=func.now(),
        cancel_reason=reason,
        deadline_at=func.now() + deadlines.CANCELLING,
    )


async def cancel_now(connection: AsyncConnection, run: Run, reason: str | None) -> Changed:
    """A run that no worker holds, locked by this transaction."""
    # A run that rests in the middle may show nodes that wait or run: nothing does any more, so nothing may say so.
    changes = [NodeChange(nodes.cancelled(state)) for state in await nodes.unsettled(connection, run.id)]
    changed = await move(
        connection,
        run,
        StatusChange(RunStatus.CANCELLED, run.status, reason or "Cancelled"),
        *changes,
        cancel_requested_at=func.now(),
        cancel_reason=reason,
        cancelled_at=func.now(),
        finished_at=func.now(),
        deadline_at=None,
        # The lease, if one is left over, belongs to nobody any more.
        epoch=runs.c.epoch + 1,
        worker_id=None,
        lease_until=None,
    )
    still_open = (waits.c.run_id == run.id, waits.c.settled_seq.is_(None), waits.c.superseded_seq.is_(None))
    await connection.execute(update(waits).where(*still_open).values(superseded_seq=changed.run.last_seq))
    return changed


async def pause(connection: AsyncConnection, caller: Caller, run_id: str) -> Changed | Run:
    """PAUSED at once where no worker holds the run; else PAUSING, and the worker that holds it is to be told."""
    run = await locked(connection, caller, run_id)
    if run.status in (RunStatus.PAUSING, RunStatus.PAUSED):
        return run
    if run.status not in PAUSABLE:
        raise InvalidState(f"A run that is {run.status} cannot be paused.", run_status=run.status)
    if run.status is RunStatus.RUNNING:
        asked = StatusChange(RunStatus.PAUSING, run.status, "Pause requested")
        deadline = func.now() + deadlines.PAUSING
        return await move(connection, run, asked, pause_requested_at=func.now(), deadline_at=deadline)
    return await move(
        connection,
        run,
        StatusChange(RunStatus.PAUSED, run.status, "Paused"),
        pause_requested_at=func.now(),
        paused_at=func.now(),
        deadline_at=func.now() + deadlines.REST,
    )


async def resume(connection: AsyncConnection, caller: Caller, run_id: str, *, step: bool = False) -> Changed:
    """PAUSED → QUEUED, from its last checkpoint. `step`: it pauses again after one step."""
    run = await paused(connection, caller, run_id)
    message = "Resumed for one step" if step or run.options.stepwise else "Resumed"
    return await move(connection, run, StatusChange(RunStatus.QUEUED, run.status, message), **resumed(run, step=step))


async def paused(connection: AsyncConnection, caller: Caller, run_id: str) -> Run:
    """A PAUSED run, locked."""
    run = await locked(connection, caller, run_id)
    if run.status is not RunStatus.PAUSED:
        raise InvalidState(f"Only a PAUSED run can be resumed; this one is {run.status}.", run_status=run.status)
    return run


def queued() -> dict[str, Any]:
    """What every way into the queue writes."""
    return {"takeup": runs.c.takeup + 1, "queued_at": func.now(), "deadline_at": None}


def resumed(run: Run, *, step: bool) -> dict[str, Any]:
    """What a resume writes: the timeout does not count the time that the run was paused."""
    return {
        **queued(),
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
    """From now on. A run that is over has no use for them: InvalidState."""
    run = await locked(connection, caller, run_id)
    if run.status.is_terminal:
        raise InvalidState(f"The run is {run.status} already.", run_status=run.status)
    options = {"timeoutS": run.options.timeout_s, "breakpoints": node_ids, "stepwise": run.options.stepwise}
    await connection.execute(update(runs).where(runs.c.id == run_id).values(options=options))
    return await locked(connection, caller, run_id)
