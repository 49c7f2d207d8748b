"""Waits of runs: timers, questions, child runs and backoffs before a retry.

The journal opens and settles them; this module reads and answers them.

An answer is stored in one transaction with the transition of a WAITING run to QUEUED, so a crash
loses neither. Of two answers to one question the second one gets a Conflict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy import ColumnElement, RowMapping, and_, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import StatusChange
from engine.problems import FieldProblem
from engine.runtime.ports import OpenWait
from engine.sdk.node import Answerers, Output
from engine.states import RunStatus, WaitKind
from engine.types import JSON
from persistence.caller import Caller, Role
from persistence.db.clock_skew import shift_wait
from persistence.db.tables import api_keys, audit_log, runs, waits
from persistence.events.steps import stored_id
from persistence.problems import Conflict, Forbidden, Invalid, InvalidState, NotFound
from persistence.runs.commands import queue_columns
from persistence.runs.run import CommandResult, Run
from persistence.runs.transition import change_status, lock_run

_LINE = f"""
WITH RECURSIVE line AS (
    SELECT id, created_by, parent_id, retry_of_id, forked_from_id FROM runs WHERE id = :id
    UNION
    SELECT r.id, r.created_by, r.parent_id, r.retry_of_id, r.forked_from_id
    FROM line l CROSS JOIN LATERAL (
        SELECT l.parent_id AS id UNION ALL SELECT l.retry_of_id UNION ALL
        SELECT run_id FROM checkpoints WHERE id IN (l.forked_from_id, left(l.forked_from_id, -2) || '{stored_id("..")[-2:]}')
    ) AS origin JOIN runs r ON r.id = origin.id
)
SELECT id, created_by FROM line
"""
ANSWERABLE = frozenset(
    {RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.PAUSED, RunStatus.WAITING},
)
"""Statuses of a run that accepts answers."""


_EXPIRING = (WaitKind.INPUT, WaitKind.EVENT)
"""Waits that end without an answer at `until`."""


@dataclass(frozen=True, slots=True)
class Wait:
    """An open wait, as the API shows it. `until` is when a timer fires or a question expires."""

    id: str
    run_id: str
    node_id: str
    kind: WaitKind
    since: datetime
    until: datetime | None
    prompt: JSON
    schema: JSON
    child_run_id: str | None
    answerers: Answerers | None = None
    event_name: str | None = None
    event_key: str | None = None
    visit: int = 1


def is_open() -> ColumnElement[bool]:
    """Whether a wait is neither settled, superseded nor answered, and has not expired.

    A worker settles an expired question or event by the same comparison with `until`.
    """
    is_pending = and_(waits.c.settled_seq.is_(None), waits.c.superseded_seq.is_(None), waits.c.answered_at.is_(None))
    return and_(is_pending, or_(waits.c.kind.not_in(_EXPIRING), waits.c.until.is_(None), waits.c.until > func.now()))


async def of_runs(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, list[Wait]]:
    """Read the open waits of each run, oldest first, without answered or expired questions."""
    query = select(waits).join(runs, runs.c.id == waits.c.run_id)
    query = query.where(waits.c.run_id.in_(run_ids), runs.c.project_id.in_(caller.projects), is_open())
    by_run: dict[str, list[Wait]] = {run_id: [] for run_id in run_ids}
    for row in (await connection.execute(query.order_by(waits.c.seq, waits.c.id))).mappings():
        by_run[row["run_id"]].append(_wait(row))
    return by_run


async def schema_of(connection: AsyncConnection, caller: Caller, run_id: str, wait_id: str) -> JSON:
    """Read the JSON Schema of a question, which never changes.

    None if it has no schema or does not exist.
    """
    query = select(waits.c.schema).join(runs, runs.c.id == waits.c.run_id)
    visible = (waits.c.id == wait_id, waits.c.run_id == run_id, runs.c.project_id.in_(caller.projects))
    return (await connection.execute(query.where(*visible))).scalar_one_or_none()


async def answer(
    connection: AsyncConnection,
    caller: Caller,
    run_id: str,
    wait_id: str,
    value: JSON,
    problems: Sequence[FieldProblem] = (),
) -> CommandResult:
    """Store the answer to a question. A WAITING run is queued.

    Args:
        value: The answer.
        problems: The violations of the question's schema, which the caller found before the run was
            locked.

    Raises:
        InvalidState: The run does not accept answers any more.
        NotFound: The run has no such question.
        Forbidden: The question names who may answer it, and the caller is not among them.
        Conflict: The question was answered, has expired, was withdrawn, or was superseded by a rewind.
        Invalid: The question is open, but there are `problems`.
    """
    run = await lock_run(connection, caller, run_id)
    if run.status not in ANSWERABLE:
        raise InvalidState(f"A run that is {run.status} takes no answers.", run_status=run.status)
    query = select(waits, is_open().label("is_open"), (waits.c.until <= func.now()).label("is_expired"))
    query = query.where(waits.c.id == wait_id, waits.c.run_id == run_id, waits.c.kind == WaitKind.INPUT)
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(wait_id)
    answerers = Answerers.from_json(row["answerers"])
    if answerers is not None and not await _may_answer(connection, caller, run, answerers):
        raise Forbidden(f"This question needs {answerers}.")
    if not row["is_open"]:
        raise Conflict(f"This question is not open any more: it {_reason(row)}.")
    if problems:
        raise Invalid(problems)
    answered = {"answer": value, "answered_at": func.now(), "answered_by": caller.subject}
    await connection.execute(update(waits).where(waits.c.id == wait_id).values(**answered))
    if run.status is RunStatus.WAITING:
        change = StatusChange(RunStatus.QUEUED, run.status, f"Answered at {row['node_id']!r}")
        return await change_status(connection, run, change, **queue_columns(), wake_at=func.now())
    # The journal keeps this moment when it makes the run WAITING, so that an answer at the same
    # time wakes it.
    await connection.execute(update(runs).where(runs.c.id == run_id).values(wake_at=func.now()))
    return CommandResult(run)


async def answerable(connection: AsyncConnection, caller: Caller, wait_ids: Sequence[str]) -> dict[str, bool]:
    """Return which of these open questions the caller may answer, by id."""
    query = select(waits, *(runs.c[name].label(f"run_{name}") for name in ("project_id", "created_by")))
    query = query.join(runs, runs.c.id == waits.c.run_id)
    query = query.where(waits.c.id.in_(wait_ids), runs.c.project_id.in_(caller.projects))
    result: dict[str, bool] = {}
    for row in (await connection.execute(query)).mappings():
        answerers = Answerers.from_json(row["answerers"]) or Answerers()
        result[row["id"]] = await _may(
            connection, caller, row["run_id"], row["run_project_id"], row["run_created_by"], answerers
        )
    return result


async def _may_answer(connection: AsyncConnection, caller: Caller, run: Run, answerers: Answerers) -> bool:
    return await _may(connection, caller, run.id, run.project_id, run.created_by, answerers)


async def _may(
    connection: AsyncConnection, caller: Caller, run_id: str, project_id: str, created_by: str, answerers: Answerers
) -> bool:
    """Return whether the caller may answer: who may control the run, and is among those that are named."""
    if not caller.may(Role.RUNNER if answerers.role is None else Role(answerers.role), project_id):
        return False
    if answerers.subjects and caller.subject not in answerers.subjects:
        return False
    return not answerers.except_starter or not await _has_started(connection, caller, run_id, created_by)


async def _has_started(connection: AsyncConnection, caller: Caller, run_id: str, created_by: str) -> bool:
    """Return whether the caller created or executed the run, or one that it comes from, also through an API key.

    An API key is not another person than the one who created it. A retry or a fork by another person does not
    let the first starter answer.
    """
    run_ids, starters = await _line_of(connection, run_id)
    executed = select(audit_log.c.subject).where(
        audit_log.c.resource_id.in_(run_ids), audit_log.c.action == "executeRun"
    )
    starters |= {created_by, *(await connection.execute(executed)).scalars()}
    keys = select(api_keys.c.id, api_keys.c.created_by).where(api_keys.c.id.in_({*starters, caller.subject}))
    creators = {row.id: row.created_by for row in await connection.execute(keys)}
    own = {caller.subject, creators.get(caller.subject, caller.subject)}
    return not own.isdisjoint({*starters, *(creators.get(starter, starter) for starter in starters)})


async def _line_of(connection: AsyncConnection, run_id: str) -> tuple[set[str], set[str]]:
    """Return the ids and the creators of a run and of all runs that it comes from: parents, retried and forked ones.

    Those that retention has deleted are missing.
    """
    rows = (await connection.execute(text(_LINE), {"id": run_id})).all()
    return {row.id for row in rows}, {row.created_by for row in rows}


def _reason(row: RowMapping) -> str:
    """Say why a question is not open any more."""
    if row["answered_at"] is not None:
        return "was answered"
    if row["superseded_seq"] is not None:
        return "was superseded by a rewind"
    if row["is_expired"]:
        return "has expired"
    return "was withdrawn: the run has gone on without its answer"


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
        Answerers.from_json(row["answerers"]),
        row["event_name"],
        row["event_key"],
        row["visit"],
    )


async def open_waits(pool: asyncpg.Pool, run_id: str, clock_offset: timedelta = timedelta()) -> list[OpenWait]:
    """Read the open waits of a run with their answers, oldest first, for its executor.

    Args:
        clock_offset: The `ClockSkew.offset` of the executor's host; the moments are converted to
            that host's clock.
    """
    return [shift_wait(_open_wait(row), -clock_offset) for row in await pool.fetch(_OPEN, run_id)]


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
        Answerers.from_json(row["answerers"]),
        row["event_name"],
        row["event_key"],
    )


_OPEN = """
SELECT * FROM waits WHERE run_id = $1 AND settled_seq IS NULL AND superseded_seq IS NULL ORDER BY seq, id
"""
