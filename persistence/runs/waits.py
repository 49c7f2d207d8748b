"""What runs wait for, as rows: timers and questions. The journal opens and settles them; here they are read and answered.

An answer is one transaction: stored for good, with the run woken or its worker to be told. Who comes second is told so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy import ColumnElement, RowMapping, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import StatusChange
from engine.problems import FieldProblem
from engine.runtime.ports import OpenWait
from engine.sdk.node import Output
from engine.states import RunStatus, WaitKind
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.clock_skew import shift_wait
from persistence.db.tables import runs, waits
from persistence.problems import Conflict, Invalid, InvalidState, NotFound
from persistence.runs.commands import queue_columns
from persistence.runs.run import CommandResult
from persistence.runs.transition import change_status, lock_run

ANSWERABLE = frozenset(
    {RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.PAUSED, RunStatus.WAITING},
)
"""Where an answer can still be taken along."""


@dataclass(frozen=True, slots=True)
class Wait:
    """An open wait as people see it. `until` is when a timer fires, or a question expires."""

    id: str
    run_id: str
    node_id: str
    kind: WaitKind
    since: datetime
    until: datetime | None
    prompt: JSON
    schema: JSON
    child_run_id: str | None


def _is_open() -> ColumnElement[bool]:
    """Not over, not answered, and for a question: not expired. A worker ends it then, by the same moment."""
    stands = and_(waits.c.settled_seq.is_(None), waits.c.superseded_seq.is_(None), waits.c.answered_at.is_(None))
    return and_(stands, or_(waits.c.kind != WaitKind.INPUT, waits.c.until.is_(None), waits.c.until > func.now()))


async def of_runs(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, list[Wait]]:
    """What each run waits for, oldest first. A question that is answered or has expired is left out."""
    query = select(waits).join(runs, runs.c.id == waits.c.run_id)
    query = query.where(waits.c.run_id.in_(run_ids), runs.c.project_id.in_(caller.projects), _is_open())
    found: dict[str, list[Wait]] = {run_id: [] for run_id in run_ids}
    for row in (await connection.execute(query.order_by(waits.c.seq, waits.c.id))).mappings():
        found[row["run_id"]].append(_wait(row))
    return found


async def schema_of(connection: AsyncConnection, caller: Caller, run_id: str, wait_id: str) -> JSON:
    """The schema of a question, which never changes. None: anything will do, or there is no such question."""
    query = select(waits.c.schema).join(runs, runs.c.id == waits.c.run_id)
    mine = (waits.c.id == wait_id, waits.c.run_id == run_id, runs.c.project_id.in_(caller.projects))
    return (await connection.execute(query.where(*mine))).scalar_one_or_none()


async def answer(
    connection: AsyncConnection,
    caller: Caller,
    run_id: str,
    wait_id: str,
    given: JSON,
    problems: Sequence[FieldProblem] = (),
) -> CommandResult:
    """Stores the answer to a question; a WAITING run is queued.

    `problems` are what does not fit the question's schema: raised as Invalid where the answer would have been taken.
    """
    run = await lock_run(connection, caller, run_id)
    if run.status not in ANSWERABLE:
        raise InvalidState(f"A run that is {run.status} takes no answers.", run_status=run.status)
    query = select(waits, _is_open().label("is_open"))
    query = query.where(waits.c.id == wait_id, waits.c.run_id == run_id, waits.c.kind == WaitKind.INPUT)
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(wait_id)
    if not row["is_open"]:
        raise Conflict("This question is over: it has been answered, has expired, or was taken back.")
    if problems:
        raise Invalid(problems)
    answered = {"answer": given, "answered_at": func.now(), "answered_by": caller.subject}
    await connection.execute(update(waits).where(waits.c.id == wait_id).values(**answered))
    if run.status is RunStatus.WAITING:
        told = StatusChange(RunStatus.QUEUED, run.status, f"Answered at {row['node_id']!r}")
        return await change_status(connection, run, told, **queue_columns(), wake_at=func.now())
    # Kept by the statement that parks a run, so that an answer at that very moment wakes it.
    await connection.execute(update(runs).where(runs.c.id == run_id).values(wake_at=func.now()))
    return CommandResult(run)


def _wait(row: RowMapping) -> Wait:
    return Wait(
        row["id"],
        row["run_id"],
        row["node_id"],
        WaitKind(row["kind"]),
        row["since"],
        row["until"],
        row["prompt"],
        row["schema"],
        row["child_run_id"],
    )


async def open_waits(pool: asyncpg.Pool, run_id: str, apart: timedelta = timedelta()) -> list[OpenWait]:
    """For who drives the run, on a host whose clock is so far `apart`: its open waits, oldest first, with their answers."""
    return [shift_wait(_open_wait(row), -apart) for row in await pool.fetch(_OPEN, run_id)]


def _open_wait(row: Any) -> OpenWait:
    outcome = row["outcome"]
    return OpenWait(
        row["id"],
        row["node_id"],
        row["visit"],
        WaitKind(row["kind"]),
        row["since"],
        row["until"],
        None if outcome is None else Output(outcome["value"], outcome["port"]),
        row["prompt"],
        row["schema"],
        row["answer"],
        row["answered_at"] is not None,
        row["child_run_id"],
    )


_OPEN = """
SELECT * FROM waits WHERE run_id = $1 AND settled_seq IS NULL AND superseded_seq IS NULL ORDER BY seq, id
"""
