"""The status changes that a server makes: start a pending run, cancel one. Workers make the others by the journal.

Each locks the run's row, looks at what it is now, and writes status, event and number in the caller's transaction; each
raises InvalidState where the state machine has no such arrow, so a change that lost a race says so.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import JSON, Event, Happening, NodeChange, StatusChange
from engine.states import HELD, RunStatus
from persistence import nodes, wire
from persistence.caller import Caller
from persistence.problems import InvalidState, NotFound
from persistence.runs import Changed, Run, run_of
from persistence.tables import events, node_states, runs

CANCELLING_DEADLINE = timedelta(seconds=10)
"""After this the worker that still holds a cancelled run is killed."""


async def execute(connection: AsyncConnection, caller: Caller, run_id: str, inputs: JSON, *, replace: bool) -> Changed:
    """PENDING → QUEUED. `inputs` replace those given at creation if `replace`."""
    run = await _locked(connection, caller, run_id)
    if run.status is not RunStatus.PENDING:
        raise InvalidState(f"Only a PENDING run can be started; this one is {run.status}.", run_status=run.status)
    values: dict[str, Any] = {"inputs": inputs} if replace else {}
    return await _move(
        connection,
        run,
        StatusChange(RunStatus.QUEUED, run.status, "Accepted"),
        takeup=runs.c.takeup + 1,
        queued_at=func.now(),
        deadline_at=None,
        **values,
    )


async def cancel(connection: AsyncConnection, caller: Caller, run_id: str, reason: str | None) -> Changed | Run:
    """Cancels what no worker holds; asks the worker that holds it otherwise. A Run: it was asked for already."""
    run = await _locked(connection, caller, run_id)
    if run.status.is_terminal:
        raise InvalidState(f"The run is {run.status} already.", run_status=run.status)
    if run.status is RunStatus.CANCELLING:
        return run
    return await (_ask_to_cancel if run.status in HELD else _cancel_now)(connection, run, reason)


async def _ask_to_cancel(connection: AsyncConnection, run: Run, reason: str | None) -> Changed:
    return await _move(
        connection,
        run,
        StatusChange(RunStatus.CANCELLING, run.status, reason or "Cancel requested"),
        cancel_requested_at=func.now(),
        cancel_reason=reason,
        deadline_at=func.now() + CANCELLING_DEADLINE,
    )


async def _cancel_now(connection: AsyncConnection, run: Run, reason: str | None) -> Changed:
    # A run that a worker gave back in mid-node still shows that node as running: nothing is, so nothing may say so.
    left = await nodes.unsettled(connection, run.id)
    changes = [NodeChange(nodes.cancelled(state)) for state in left]
    return await _move(
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


async def _locked(connection: AsyncConnection, caller: Caller, run_id: str) -> Run:
    found = await connection.execute(
        select(runs).where(runs.c.id == run_id, runs.c.project_id.in_(caller.projects)).with_for_update()
    )
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound(run_id)
    return run_of(row)


async def _move(
    connection: AsyncConnection, run: Run, change: StatusChange, *before: NodeChange, **values: Any
) -> Changed:
    """Writes `before` and then the status change as the run's next events. The row is locked by this transaction."""
    found = await connection.execute(
        update(runs)
        .where(runs.c.id == run.id, runs.c.status == run.status)
        .values(
            status=change.status, status_message=change.message, last_seq=runs.c.last_seq + len(before) + 1, **values
        )
        .returning(runs, func.now().label("at"))
    )
    row = dict(found.mappings().one())
    at = row.pop("at")
    happenings: list[Happening] = [*before, change]
    written = tuple(Event(run.id, run.last_seq + place, at, what) for place, what in enumerate(happenings, start=1))
    await connection.execute(insert(events), [_row(event) for event in written])
    for event in written:
        if isinstance(event.what, NodeChange):
            await connection.execute(
                update(node_states)
                .where(node_states.c.run_id == run.id, node_states.c.node_id == event.what.node_id)
                .values(status=event.what.state.status, completed_at=at, seq=event.seq)
            )
    return Changed(run_of(row), run.status, written)


def _row(event: Event) -> dict[str, Any]:
    what = event.what
    return {
        "run_id": event.run_id,
        "seq": event.seq,
        "type": what.type,
        "at": event.at,
        "node_id": what.node_id,
        "body": wire.body_of(what),
    }
