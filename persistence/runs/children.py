"""Child runs, which a node of another run starts.

Each is inserted once and cancelled with its parent, and its end answers the node. A child has a key
of its node's visit, so a node that runs again after a crash finds the child that it started. The
worker that ends a child answers its parent; recovery does the same all the time, so a lost
notification costs little.
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
from engine.states import TERMINAL, RunSource, RunStatus, sql_list
from engine.values.json_schema import complete_inputs
from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.db.deadlines import Deadlines
from persistence.db.tables import runs as table
from persistence.db.transient import retry_transient
from persistence.events.publisher import publish_transitions
from persistence.events.run_transition import RunTransition
from persistence.problems import Busy, NotFound, Problem
from persistence.runs import admission, commands
from persistence.runs.create import Parent
from persistence.runs.run import CommandResult
from persistence.workflows import versions, workflows
from persistence.workflows.versions import Version

MAX_DEPTH = 10
"""How deep child runs may be nested. It ends a workflow that runs itself without an end."""
LIMIT = 100
"""Waits or runs changed by one statement."""


class Children:
    """The resource `runs` of nodes: starts child runs.

    `notify_queue` is called once a child is queued.
    """

    def __init__(self, database: Database, redis: Redis, notify_queue: Callable[[], Awaitable[None]]) -> None:
        self._database, self._redis, self._notify_queue = database, redis, notify_queue

    async def start(self, child: ChildRun) -> str:
        """Return the id of the child run, started now or by an earlier attempt of the same visit.

        Waits as long as the database is not available.

        Raises:
            NodeFailure: The workflow does not exist, the inputs are invalid, or the nesting or
                concurrency limit is reached.
        """
        try:
            started = await retry_transient(lambda: self._find_or_start(child), "children")
        except Problem as problem:
            raise NodeFailure("SUBWORKFLOW", problem.detail, retryable=isinstance(problem, Busy)) from problem
        if isinstance(started, str):
            return started
        await publish_transitions(self._redis, started.transitions)
        await self._notify_queue()
        return started.run.id

    async def _find_or_start(self, child: ChildRun) -> str | CommandResult:
        try:
            async with self._database.begin() as connection:
                return await _find(connection, child) or await _start(connection, child, self._database.deadlines)
        except IntegrityError:
            # Another worker, which does not know yet that it lost the parent, was faster.
            async with self._database.connect() as connection:
                return await _find(connection, child) or ""


async def _find(connection: AsyncConnection, child: ChildRun) -> str | None:
    query = select(table.c.id).where(table.c.parent_id == child.parent_id, table.c.parent_key == child.key)
    return (await connection.execute(query)).scalar_one_or_none()


_INHERITED = tuple(
    table.c[name] for name in ("workflow_id", "project_id", "depth", "created_by", "scopes", "priority", "tags")
)


async def _start(connection: AsyncConnection, child: ChildRun, deadlines: Deadlines) -> CommandResult:
    rows = await connection.execute(select(*_INHERITED).where(table.c.id == child.parent_id))
    parent = rows.mappings().one_or_none()
    if parent is None:
        raise NotFound(child.parent_id)
    # Before admission locks runs: a delete of the parent's workflow locks the workflow, its runs
    # and then their children.
    await workflows.lock_against_deletion(connection, parent["workflow_id"])
    depth = parent["depth"] + 1
    if depth > MAX_DEPTH:
        raise NodeFailure(
            "RECURSION",
            f"child runs are nested {MAX_DEPTH} deep, which is the maximum",
        )
    caller = Caller(parent["created_by"], {parent["project_id"]: Role.RUNNER}, frozenset(parent["scopes"]))
    version = await _version(connection, caller, child)
    inputs, problems = complete_inputs(child.inputs, version.spec.get("inputs"))
    if problems:
        messages = "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:3])
        raise NodeFailure("SUBWORKFLOW", f"the inputs are invalid for workflow {child.workflow_id}: {messages}")
    new = admission.new_run(version, inputs)
    options = replace(new.options, priority=parent["priority"], tags=tuple(parent["tags"]))
    parent_node = Parent(child.parent_id, child.key, depth)
    new = replace(new, source=RunSource.SUBWORKFLOW, options=options, parent=parent_node)
    return await admission.accept(connection, caller, new, deadlines)


async def _version(connection: AsyncConnection, caller: Caller, child: ChildRun) -> Version:
    if child.version is None:
        return await versions.get_for_run(connection, caller, child.workflow_id)
    key = (child.workflow_id, child.version)
    version = (await versions.get_by_number(connection, caller, [key])).get(key)
    if version is None:
        raise NotFound(f"{child.workflow_id} version {child.version}")
    return version


async def answer_parents(pool: asyncpg.Pool, child_ids: Sequence[str] | None = None) -> list[str]:
    """Answer the waits of nodes whose child run has ended: for these children, or for all of them.

    Returns:
        The ids of the parents. A WAITING parent is due at once; the worker of a leased one has to
        be notified.
    """
    return [row["id"] for row in await pool.fetch(_ANSWER_PARENTS, child_ids, LIMIT)]


async def cancel_orphans(database: Database) -> list[RunTransition]:
    """Cancel active children whose parent is terminal, or was rewound to before it started them."""
    ids = [row["id"] for row in await database.pool.fetch(_ORPHANS, LIMIT)]
    if not ids:
        return []
    async with database.begin() as connection:
        return await commands.cancel_these(
            connection, ids, "Its parent run does not wait for it any more", database.deadlines
        )


# Parents are locked first and in the order of their ids, as every transaction locks runs.
_ANSWER_PARENTS = f"""
WITH ended AS (
    SELECT w.id, w.run_id, json_build_object('status', coalesce(c.status, 'DELETED'), 'output', c.output, 'error', c.error)
        AS answer
    FROM waits w LEFT JOIN runs c ON c.id = w.child_run_id
    WHERE w.child_run_id IS NOT NULL AND w.answered_at IS NULL AND w.settled_seq IS NULL AND w.superseded_seq IS NULL
        AND (c.id IS NULL OR c.status IN {sql_list(TERMINAL)})
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
WHERE r.id = p.id AND r.id IN (SELECT run_id FROM answered) AND r.status NOT IN {sql_list(TERMINAL)}
RETURNING r.id
"""
_ORPHANS = f"""
SELECT c.id FROM runs c JOIN runs p ON p.id = c.parent_id LEFT JOIN waits w ON w.child_run_id = c.id
WHERE c.parent_id IS NOT NULL AND c.status NOT IN {sql_list(TERMINAL | {RunStatus.CANCELLING})}
    AND (p.status IN {sql_list(TERMINAL)} OR w.settled_seq IS NOT NULL OR w.superseded_seq IS NOT NULL)
LIMIT $1
"""
