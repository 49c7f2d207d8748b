"""Runs that a node of another run has started: accepted once each, cancelled with their parent, their ends told to it.

A child is accepted under a key of its node's visit, so that a node that runs again after a crash finds the child that it has
started. That a child has ended is told by whoever sees it first; recovery looks all the time, so a lost word costs little.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import asyncpg
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.errors import NodeFailure
from engine.sdk.resources import ChildRun
from engine.states import RunSource
from engine.values.json_schema import check_inputs
from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.db.deadlines import Deadlines
from persistence.db.tables import runs as table
from persistence.events.publisher import publish_transitions
from persistence.events.run_transition import RunTransition
from persistence.problems import Busy, NotFound, Problem
from persistence.runs import admission, commands
from persistence.runs.create import Parent
from persistence.runs.run import CommandResult
from persistence.workflows import versions, workflows
from persistence.workflows.versions import Version

MAX_DEPTH = 10
"""A workflow that runs itself ends here, if it does not end before."""
LIMIT = 100


class Children:
    """`ring` is called once a child is in the queue."""

    def __init__(self, database: Database, redis: Redis, ring: Callable[[], Awaitable[None]]) -> None:
        self._database, self._redis, self._ring = database, redis, ring

    async def start(self, child: ChildRun) -> str:
        """The id of the child run, started now or by an earlier attempt of the same visit. Raises NodeFailure."""
        try:
            async with self._database.begin() as connection:
                begun = await _started(connection, child) or await _start(connection, child, self._database.deadlines)
        except IntegrityError:  # Another worker, which has lost the parent without knowing, was quicker.
            async with self._database.connect() as connection:
                begun = await _started(connection, child) or ""
        except Problem as problem:
            raise NodeFailure("SUBWORKFLOW", problem.detail, retryable=isinstance(problem, Busy)) from problem
        if isinstance(begun, str):
            return begun
        await publish_transitions(self._redis, begun.transitions)
        await self._ring()
        return begun.run.id


async def _started(connection: AsyncConnection, child: ChildRun) -> str | None:
    query = select(table.c.id).where(table.c.parent_id == child.parent_id, table.c.parent_key == child.key)
    return (await connection.execute(query)).scalar_one_or_none()


async def _start(connection: AsyncConnection, child: ChildRun, deadlines: Deadlines) -> CommandResult:
    found = await connection.execute(select(table).where(table.c.id == child.parent_id))
    parent = found.mappings().one_or_none()
    if parent is None:
        raise NotFound(child.parent_id)
    # Before runs are locked to make room for the child: who deletes the parent's workflow locks its runs and their children.
    await workflows.lock_against_deletion(connection, parent["workflow_id"])
    depth = parent["depth"] + 1
    if depth > MAX_DEPTH:
        raise NodeFailure("RECURSION", f"workflows run each other {MAX_DEPTH} deep already: is there an end to it?")
    caller = Caller(parent["created_by"], {parent["project_id"]: Role.RUNNER}, frozenset(parent["scopes"]))
    version = await _version(connection, caller, child)
    if problems := check_inputs(child.inputs, version.spec.get("inputs")):
        wrong = "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:3])
        raise NodeFailure("SUBWORKFLOW", f"the inputs do not fit workflow {child.workflow_id}: {wrong}")
    new = admission.new_run(version, child.inputs)
    options = replace(new.options, priority=parent["priority"])
    kin = Parent(child.parent_id, child.key, depth)
    new = replace(new, source=RunSource.SUBWORKFLOW, options=options, parent=kin)
    return await admission.accept(connection, caller, new, deadlines)


async def _version(connection: AsyncConnection, caller: Caller, child: ChildRun) -> Version:
    if child.version is None:
        return await versions.get_for_run(connection, caller, child.workflow_id)
    key = (child.workflow_id, child.version)
    found = (await versions.get_by_number(connection, caller, [key])).get(key)
    if found is None:
        raise NotFound(f"{child.workflow_id} version {child.version}")
    return found


async def answer_parents(pool: asyncpg.Pool, child_ids: Sequence[str] | None = None) -> list[str]:
    """Tells nodes that their child run is over: of these children, or of all. Answers with the parents, to be looked at.

    A WAITING parent is due at once; one that a worker drives is to be nudged.
    """
    return [row["id"] for row in await pool.fetch(_SETTLE, child_ids, LIMIT)]


async def cancel_orphans(database: Database) -> list[RunTransition]:
    """Cancels children that nobody waits for any more: their parent is over, or has been rewound to before them."""
    ids = [row["id"] for row in await database.pool.fetch(_ORPHANS, LIMIT)]
    if not ids:
        return []
    async with database.begin() as connection:
        return await commands.cancel_these(connection, ids, "Nobody waits for it any more", database.deadlines)


# Parents first and in the order of their ids, as everybody locks runs.
_SETTLE = """
WITH ended AS (
    SELECT w.id, w.run_id, json_build_object('status', coalesce(c.status, 'DELETED'), 'output', c.output, 'error', c.error)
        AS answer
    FROM waits w LEFT JOIN runs c ON c.id = w.child_run_id
    WHERE w.child_run_id IS NOT NULL AND w.answered_at IS NULL AND w.settled_seq IS NULL AND w.superseded_seq IS NULL
        AND (c.id IS NULL OR c.status IN ('COMPLETED', 'FAILED', 'CANCELLED'))
        AND ($1::text[] IS NULL OR w.child_run_id = ANY($1))
    LIMIT $2
), parents AS MATERIALIZED (
    SELECT id FROM runs WHERE id IN (SELECT run_id FROM ended) ORDER BY id FOR NO KEY UPDATE
), answered AS (
    UPDATE waits w SET answer = e.answer, answered_at = now(), answered_by = 'run'
    FROM ended e JOIN parents p ON p.id = e.run_id WHERE w.id = e.id AND w.answered_at IS NULL
    RETURNING w.run_id
)
UPDATE runs r SET wake_at = now() FROM parents p
WHERE r.id = p.id AND r.id IN (SELECT run_id FROM answered) AND r.status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')
RETURNING r.id
"""
_ORPHANS = """
SELECT c.id FROM runs c JOIN runs p ON p.id = c.parent_id LEFT JOIN waits w ON w.child_run_id = c.id
WHERE c.parent_id IS NOT NULL AND c.status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CANCELLING')
    AND (p.status IN ('COMPLETED', 'FAILED', 'CANCELLED') OR w.settled_seq IS NOT NULL OR w.superseded_seq IS NOT NULL)
LIMIT $1
"""
