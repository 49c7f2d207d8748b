"""Workflows as rows, and the locks for their deletion. Used by the mutations of workflows and runs.

A workflow is created in one transaction with its draft, and deleted in one transaction with its
draft, versions and runs. So a crash leaves it whole or leaves nothing of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, and_, func, insert, or_, select, union_all, update
from sqlalchemy import delete as delete_from
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import TERMINAL
from persistence.caller import Caller
from persistence.db.ids import new_id
from persistence.db.pagination import Page, PageRange, make_page, to_count
from persistence.db.tables import runs, workflows
from persistence.events.publisher import STREAM_TTL_S
from persistence.problems import NotFound
from persistence.workflows import drafts

_child, _parent = runs.alias("child"), runs.alias("parent")


@dataclass(frozen=True, slots=True)
class Workflow:
    """One row of `workflows`."""

    id: str
    project_id: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime


async def create(
    connection: AsyncConnection,
    caller: Caller,
    project_id: str,
    *,
    name: str,
    description: str,
    content: drafts.Content,
) -> Workflow:
    """Create a workflow and its draft. The calling code has checked the role."""
    values = {"id": new_id("wf"), "project_id": project_id, "name": name, "description": description}
    row = await connection.execute(insert(workflows).values(values).returning(workflows))
    workflow = Workflow(**row.mappings().one())
    await drafts.create(connection, caller, project_id, workflow.id, content)
    return workflow


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Workflow]:
    """Read the workflows that the caller may see, by id."""
    rows = await connection.execute(
        select(workflows).where(workflows.c.id.in_(ids), workflows.c.project_id.in_(caller.projects))
    )
    return {row["id"]: Workflow(**row) for row in rows.mappings()}


async def get(connection: AsyncConnection, caller: Caller, workflow_id: str) -> Workflow:
    """Read a workflow. Raises NotFound."""
    visible = await get_many(connection, caller, [workflow_id])
    if workflow_id not in visible:
        raise NotFound(workflow_id)
    return visible[workflow_id]


async def page(
    connection: AsyncConnection,
    caller: Caller,
    range_: PageRange,
    *,
    project_id: str | None = None,
    search: str | None = None,
) -> Page[Workflow]:
    """Read a page of workflows, newest first.

    `search` is a literal text that name or description contains, in upper or lower case.
    """
    query = select(workflows).where(workflows.c.project_id.in_(caller.projects))
    if project_id is not None:
        query = query.where(workflows.c.project_id == project_id)
    if search:
        text = workflows.c.name + "\n" + workflows.c.description
        query = query.where(text.icontains(search, autoescape=True))
    rows = await connection.execute(range_.limited(query, workflows.c.id))
    return make_page([Workflow(**row) for row in rows.mappings()], range_, to_count(query))


async def change(connection: AsyncConnection, caller: Caller, workflow_id: str, values: Mapping[str, str]) -> Workflow:
    """Set the columns in `values`, and no others. Raises NotFound."""
    row = await connection.execute(
        update(workflows)
        .where(workflows.c.id == workflow_id, workflows.c.project_id.in_(caller.projects))
        .values(**values, updated_at=func.now())
        .returning(workflows)
    )
    changed = row.mappings().one_or_none()
    if changed is None:
        raise NotFound(workflow_id)
    return Workflow(**changed)


async def lock(connection: AsyncConnection, caller: Caller, workflow_id: str, *, exclusive: bool = False) -> Workflow:
    """Lock the row of the workflow until the end of the transaction.

    No other transaction can write versions of the workflow meanwhile. With `exclusive`, no row can
    be added that refers to the workflow, such as a run. Raises NotFound.
    """
    query = select(workflows).where(workflows.c.id == workflow_id, workflows.c.project_id.in_(caller.projects))
    row = (await connection.execute(query.with_for_update(key_share=not exclusive))).mappings().one_or_none()
    if row is None:
        raise NotFound(workflow_id)
    return Workflow(**row)


async def lock_against_deletion(connection: AsyncConnection, workflow_id: str | None) -> None:
    """Prevent the deletion of the workflow until the end of the transaction.

    Call it before any of its runs is locked: a deletion locks the workflow first, then its runs.
    """
    query = select(workflows.c.id).where(workflows.c.id == workflow_id)
    await connection.execute(query.with_for_update(read=True, key_share=True))


async def active_run_ids(connection: AsyncConnection, caller: Caller, workflow_id: str) -> list[str]:
    """List the runs of the workflow that have not ended."""
    ids = await connection.execute(
        select(runs.c.id).where(
            runs.c.workflow_id == workflow_id,
            runs.c.project_id.in_(caller.projects),
            runs.c.status.not_in(TERMINAL),
        )
    )
    return list(ids.scalars())


async def lock_runs(connection: AsyncConnection, caller: Caller, workflow_id: str) -> list[str]:
    """Lock all runs that a deletion of the workflow changes: its runs and their child runs.

    They are locked in the order of their ids, as everywhere, so that no deadlock is possible. Ended
    runs are locked too: a transaction that read them before they ended may hold the lock of an
    ended run while it waits for the lock of an active one.

    Returns:
        The ids of the workflow's own runs that may still have a Redis stream, for
        `publisher.forget`.
    """
    own = and_(runs.c.workflow_id == workflow_id, runs.c.project_id.in_(caller.projects))
    streamed_since = func.now() - timedelta(seconds=STREAM_TTL_S * 2)
    streamed = or_(runs.c.finished_at.is_(None), runs.c.finished_at > streamed_since)
    affected = union_all(select(runs.c.id).where(own), _children(workflow_id))
    query = select(runs.c.id, and_(own, streamed).label("streamed")).where(runs.c.id.in_(affected))
    locked = query.order_by(runs.c.id).with_for_update().cte("locked")
    return list((await connection.execute(select(locked.c.id).where(locked.c.streamed))).scalars())


async def active_child_ids(connection: AsyncConnection, workflow_id: str) -> list[str]:
    """List the active runs of other workflows that runs of this one have started.

    Recovery cancels the children of these runs.
    """
    active = _children(workflow_id).where(_child.c.status.not_in(TERMINAL))
    return list((await connection.execute(active)).scalars())


def _children(workflow_id: str) -> Select[str]:
    query = select(_child.c.id).join(_parent, _parent.c.id == _child.c.parent_id)
    others = or_(_child.c.workflow_id.is_(None), _child.c.workflow_id != workflow_id)
    return query.where(_parent.c.workflow_id == workflow_id, others)


async def delete(connection: AsyncConnection, caller: Caller, workflow_id: str) -> None:
    """Delete the workflow with its draft, versions and runs."""
    await connection.execute(
        delete_from(workflows).where(workflows.c.id == workflow_id, workflows.c.project_id.in_(caller.projects))
    )
