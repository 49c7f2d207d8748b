"""Accepts an event and ends the waits for it, in one transaction.

The runs are locked before their waits are read, as by the journal, which inserts a wait under the same
lock. Events for a workflow and a key take an advisory lock first. So an event finds the wait, or the wait
finds the event (`matching`), whichever comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, and_, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import StatusChange
from engine.problems import FieldProblem
from engine.states import TERMINAL, RunStatus, SignalStatus, WaitKind
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.tables import runs, signals, waits
from persistence.problems import Conflict, Gone, Invalid, InvalidState
from persistence.runs.commands import queue_columns
from persistence.runs.run import RUN_COLUMNS, CommandResult, Run, run_of
from persistence.runs.transition import change_status, for_no_key_update
from persistence.runs.waits import is_open
from persistence.signals import signal as rows
from persistence.signals.signal import NewSignal, SentSignal

MAX_KEPT = 1_000
"""Kept events of one run, or of one workflow, key and name."""
Problems = Mapping[str, Sequence[FieldProblem]]
"""The violations of the schema of each wait, by wait id."""


class NotChecked(Exception):
    """A wait was opened since the payload was checked against the schemas of all waits."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The result of sending an event."""

    signal: SentSignal
    run_ids: Sequence[str]
    """The runs that were waiting for it."""
    results: Sequence[CommandResult] = field(default=())
    """What this call has changed; empty for a repeat."""


async def find_waits(connection: AsyncConnection, new: NewSignal) -> list[tuple[str, JSON]]:
    """Return the id and the schema of each open wait for an event, without locks."""
    found = await connection.execute(_open_waits(new))
    return [(row["id"], row["schema"]) for row in found.mappings()]


async def send(
    connection: AsyncConnection, caller: Caller, new: NewSignal, problems: Problems, *, keep: timedelta
) -> Sent:
    """Store an event, and end the oldest wait for it in its run, or in each run with its key.

    Args:
        connection: A transaction.
        caller: The sender.
        new: The event.
        problems: The violations of the schema of each wait that `find_waits` has found.
        keep: How long an event for a key is kept if no run waits for it.

    Raises:
        NotChecked: There is another wait. Roll back, and begin anew with `find_waits`.
        Invalid: All waits for it refuse the payload.
        InvalidState: The run has ended.
        Conflict, Gone: The address of a callback was used before, or is too old.
        Conflict: The idempotency key was used with other arguments, or too many events are kept.
    """
    if new.workflow_id is not None:
        await lock_key(connection, new.workflow_id, new.key, new.name)
    stored, is_new = await rows.store(connection, caller, new, SignalStatus.KEPT, keep=keep)
    if not is_new:
        return Sent(stored, await rows.waiting_run_ids(connection, stored.id))
    locked = await _lock_runs(connection, new)
    found = [dict(row) for row in (await connection.execute(_open_waits(new))).mappings()]
    if any(row["id"] not in problems for row in found):
        raise NotChecked
    chosen = _oldest_of_each_run([row for row in found if not problems[row["id"]]])
    if found and not chosen:
        raise Invalid(problems[found[0]["id"]])
    # A wait that has not looked for kept events yet gets the oldest one: see `matching`.
    ready = [row for row in chosen if not row["is_unmatched"]]
    if not ready:
        await _check_may_be_kept(connection, new, locked, has_wait=bool(chosen))
        return Sent(stored, [row["run_id"] for row in chosen])
    results = [await end_wait(connection, locked[row["run_id"]], row, stored, caller.subject) for row in ready]
    delivered = await rows.set_status(connection, stored, SignalStatus.DELIVERED)
    return Sent(delivered, [row["run_id"] for row in ready], results)


async def end_wait(
    connection: AsyncConnection, run: Run, wait: Mapping[str, Any], signal: SentSignal, sender: str
) -> CommandResult:
    """End the wait of a locked run with the payload of an event. A WAITING run is queued."""
    ended = {"answer": signal.payload, "answered_at": func.now(), "answered_by": sender, "signal_id": signal.id}
    await connection.execute(update(waits).where(waits.c.id == wait["id"]).values(**ended, is_unmatched=False))
    if run.status is RunStatus.WAITING:
        change = StatusChange(RunStatus.QUEUED, run.status, f"Event {signal.name!r} received at {wait['node_id']!r}")
        return await change_status(connection, run, change, **queue_columns(), wake_at=func.now())
    # The journal keeps this moment when it makes the run WAITING.
    await connection.execute(update(runs).where(runs.c.id == run.id).values(wake_at=func.now()))
    return CommandResult(run)


async def lock_key(connection: AsyncConnection, workflow_id: str, key: str | None, name: str) -> None:
    """Lock a workflow, a key and a name until the end of the transaction. Take it before locks of runs."""
    statement = text("SELECT pg_advisory_xact_lock(hashtextextended(:text, 77))")
    await connection.execute(statement, {"text": f"{workflow_id}\0{key}\0{name}".replace("\0", "\n")})


def _open_waits(new: NewSignal) -> Select[Any]:
    """Select the open waits for an event, oldest first."""
    columns = waits.c
    query = select(waits).join(runs, runs.c.id == columns.run_id).where(columns.kind == WaitKind.EVENT, is_open())
    query = query.where(runs.c.project_id == new.project_id)
    if new.node_id is not None:
        where = and_(columns.run_id == new.run_id, columns.node_id == new.node_id, columns.visit == new.visit)
    elif new.run_id is not None:
        where = and_(columns.run_id == new.run_id, columns.event_name == new.name)
    else:
        is_named = and_(columns.event_key == new.key, columns.event_name == new.name)
        where = and_(is_named, columns.superseded_seq.is_(None), runs.c.workflow_id == new.workflow_id)
    return query.where(where).order_by(columns.seq, columns.id)


async def _lock_runs(connection: AsyncConnection, new: NewSignal) -> dict[str, Run]:
    """Lock the runs that may wait for an event, in the order of their ids."""
    if new.run_id is not None:
        ids = [new.run_id]
    else:
        found = await connection.execute(_open_waits(new))
        ids = [row["run_id"] for row in found.mappings()]
    query = for_no_key_update(select(*RUN_COLUMNS).where(runs.c.id.in_(ids)).order_by(runs.c.id))
    return {row["id"]: run_of(row) for row in (await connection.execute(query)).mappings()}


def _oldest_of_each_run(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({row["run_id"]: row for row in reversed(found)}.values())[::-1]


async def _check_may_be_kept(
    connection: AsyncConnection, new: NewSignal, locked: Mapping[str, Run], *, has_wait: bool
) -> None:
    """Check that an event that no run waits for may still find one."""
    if new.run_id is not None:
        run = locked.get(new.run_id)
        if run is None or run.status in TERMINAL or run.status is RunStatus.CANCELLING:
            status = "deleted" if run is None else run.status
            raise InvalidState(
                f"The run is {status}: it takes no events.", run_status=None if run is None else run.status
            )
    if new.node_id is not None and not has_wait:
        await _check_unused(connection, new)
    same = (signals.c.run_id == new.run_id) if new.run_id else _same_key(new)
    kept = select(func.count()).where(same, signals.c.status == SignalStatus.KEPT)
    if (await connection.execute(kept)).scalar_one() > MAX_KEPT:
        raise Conflict(f"{MAX_KEPT:,} events are kept already, and no run has taken them.")


def _same_key(new: NewSignal) -> Any:
    columns = signals.c
    return and_(columns.workflow_id == new.workflow_id, columns.key == new.key, columns.name == new.name)


async def _check_unused(connection: AsyncConnection, new: NewSignal) -> None:
    """Check that a callback address has not been used. Raises Conflict, or Gone if it is too late."""
    kept = (signals.c.run_id == new.run_id, signals.c.node_id == new.node_id, signals.c.visit == new.visit)
    query = select(func.count()).where(*kept, signals.c.status == SignalStatus.KEPT)
    if (await connection.execute(query)).scalar_one() > 1:
        raise Conflict("The address was used before; its event is kept for the run.")
    of_visit = (waits.c.run_id == new.run_id, waits.c.node_id == new.node_id, waits.c.visit == new.visit)
    past = select(waits.c.answered_at).where(*of_visit, waits.c.superseded_seq.is_(None))
    row = (await connection.execute(past.order_by(waits.c.seq.desc()).limit(1))).one_or_none()
    if row is not None and row.answered_at is not None:
        raise Conflict(f"The address was used at {row.answered_at:%Y-%m-%dT%H:%M:%SZ}; it can be used once.")
    if row is not None:
        raise Gone("The run does not wait for this event any more: its wait has expired, or was cancelled.")


async def same_callback_was_accepted(connection: AsyncConnection, new: NewSignal) -> bool:
    """Return whether the address of a callback was used before with the same payload."""
    columns = signals.c
    of_visit = (columns.run_id == new.run_id, columns.node_id == new.node_id, columns.visit == new.visit)
    accepted = columns.status.in_((SignalStatus.KEPT, SignalStatus.DELIVERED))
    query = select(columns.id).where(*of_visit, accepted, columns.arguments_hash == new.arguments_hash)
    return (await connection.execute(query.limit(1))).first() is not None
