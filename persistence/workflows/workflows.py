"""Workflows as rows: created together with their draft in one transaction, deleted together with all that is theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, and_, func, insert, or_, select, union_all, update
from sqlalchemy import delete as delete_from
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import TERMINAL
from persistence.caller import Caller
from persistence.db.ids import Prefix, new_id
from persistence.db.pagination import Page, decode_cursor, make_page
from persistence.db.tables import runs, workflows
from persistence.events.publisher import STREAM_TTL_S
from persistence.problems import NotFound
from persistence.workflows import drafts

_child, _parent = runs.alias("child"), runs.alias("parent")


@dataclass(frozen=True, slots=True)
class Workflow:
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
    """The caller of this has checked the role."""
    values = {"id": new_id("wf"), "project_id": project_id, "name": name, "description": description}
    row = await connection.execute(insert(workflows).values(values).returning(workflows))
    workflow = Workflow(**row.mappings().one())
    await drafts.create(connection, caller, project_id, workflow.id, content)
    return workflow


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Workflow]:
    found = await connection.execute(
        select(workflows).where(workflows.c.id.in_(ids), workflows.c.project_id.in_(caller.projects))
    )
    return {row["id"]: Workflow(**row) for row in found.mappings()}


async def get(connection: AsyncConnection, caller: Caller, workflow_id: str) -> Workflow:
    """Raises NotFound."""
    found = await get_many(connection, caller, [workflow_id])
    if workflow_id not in found:
        raise NotFound(workflow_id)
    return found[workflow_id]


async def page(
    connection: AsyncConnection,
    caller: Caller,
    *,
    first: int,
    after: str | None = None,
    project_id: str | None = None,
    search: str | None = None,
) -> Page[Workflow]:
    """Newest first. `search` is looked for in name and description, as it is written, whatever the case."""
    query = select(workflows).where(workflows.c.project_id.in_(caller.projects))
    if project_id is not None:
        query = query.where(workflows.c.project_id == project_id)
    if search:
        text = workflows.c.name + "\n" + workflows.c.description
        query = query.where(text.icontains(search, autoescape=True))
    if after is not None:
        query = query.where(workflows.c.id < decode_cursor(after, Prefix.WORKFLOW))
    found = await connection.execute(query.order_by(workflows.c.id.desc()).limit(first + 1))
    return make_page([Workflow(**row) for row in found.mappings()], first=first, after=after)


async def change(connection: AsyncConnection, caller: Caller, workflow_id: str, values: Mapping[str, str]) -> Workflow:
    """Sets the columns in `values`; what is left out stays. Raises NotFound."""
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


async def lock(connection: AsyncConnection, caller: Caller, workflow_id: str, *, alone: bool = False) -> Workflow:
    """Holds the workflow's row to the end of the transaction: no other writer of its versions comes between.

    With `alone` nothing at all is added to the workflow meanwhile, runs included. Raises NotFound.
    """
    query = select(workflows).where(workflows.c.id == workflow_id, workflows.c.project_id.in_(caller.projects))
    row = (await connection.execute(query.with_for_update(key_share=not alone))).mappings().one_or_none()
    if row is None:
        raise NotFound(workflow_id)
    return Workflow(**row)


async def keep(connection: AsyncConnection, workflow_id: str | None) -> None:
    """Nobody deletes the workflow before the transaction ends. To be called before any of its runs is locked."""
    standing = select(workflows.c.id).where(workflows.c.id == workflow_id)
    await connection.execute(standing.with_for_update(read=True, key_share=True))


async def active_runs(connection: AsyncConnection, caller: Caller, workflow_id: str) -> list[str]:
    found = await connection.execute(
        select(runs.c.id).where(
            runs.c.workflow_id == workflow_id,
            runs.c.project_id.in_(caller.projects),
            runs.c.status.not_in(TERMINAL),
        )
    )
    return list(found.scalars())


async def hold_runs(connection: AsyncConnection, caller: Caller, workflow_id: str) -> list[str]:
    """Locks all that a delete of the workflow changes: its runs and their child runs, in the order in which everybody does.

    Those that are over as well: whoever looked before they ended may hold one that is over while it waits for one that is not.
    Answers with those of the workflow itself that may still have a stream: `publish.forget` them.
    """
    own = and_(runs.c.workflow_id == workflow_id, runs.c.project_id.in_(caller.projects))
    streamed_since = func.now() - timedelta(seconds=STREAM_TTL_S * 2)
    streamed = or_(runs.c.finished_at.is_(None), runs.c.finished_at > streamed_since)
    all_of_it = union_all(select(runs.c.id).where(own), _children(workflow_id))
    query = select(runs.c.id, and_(own, streamed).label("streamed")).where(runs.c.id.in_(all_of_it))
    held = query.order_by(runs.c.id).with_for_update().cte("held")
    return list((await connection.execute(select(held.c.id).where(held.c.streamed))).scalars())


async def active_children(connection: AsyncConnection, workflow_id: str) -> list[str]:
    """Runs of other workflows that runs of this one have started. Recovery cancels what those have started in turn."""
    active = _children(workflow_id).where(_child.c.status.not_in(TERMINAL))
    return list((await connection.execute(active)).scalars())


def _children(workflow_id: str) -> Select[str]:
    query = select(_child.c.id).join(_parent, _parent.c.id == _child.c.parent_id)
    others = or_(_child.c.workflow_id.is_(None), _child.c.workflow_id != workflow_id)
    return query.where(_parent.c.workflow_id == workflow_id, others)


async def delete(connection: AsyncConnection, caller: Caller, workflow_id: str) -> None:
    """Its draft, versions and runs go with it."""
    await connection.execute(
        delete_from(workflows).where(workflows.c.id == workflow_id, workflows.c.project_id.in_(caller.projects))
    )
