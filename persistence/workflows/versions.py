"""Immutable snapshots of specs: one for each workflow and content, whatever its status; at most one is PUBLISHED.

Writers of one workflow's versions take turns by locking its row, so numbers have no gaps and publishing is one step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg
from sqlalchemy import RowMapping, Select, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import VersionStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.ids import Prefix, new_id
from persistence.db.pagination import Page, decode_cursor, first_rows_of_each, group_by_parent, make_page
from persistence.db.tables import versions
from persistence.problems import InvalidState, NotFound
from persistence.workflows import drafts, workflows

ADHOC_NUMBER = 0
"""The version of a spec that belongs to no workflow."""


@dataclass(frozen=True, slots=True)
class Version:
    id: str
    project_id: str
    workflow_id: str | None
    number: int
    spec: JSON
    spec_hash: str
    status: VersionStatus
    created_at: datetime
    created_by: str
    published_at: datetime | None


def _version(row: RowMapping) -> Version:
    return Version(**{**row, "status": VersionStatus(row["status"])})


def _visible(caller: Caller) -> Select[tuple[object, ...]]:
    return select(versions).where(versions.c.project_id.in_(caller.projects))


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Version]:
    found = await connection.execute(_visible(caller).where(versions.c.id.in_(ids)))
    return {row["id"]: _version(row) for row in found.mappings()}


async def get(connection: AsyncConnection, caller: Caller, version_id: str) -> Version:
    """Raises NotFound."""
    found = await get_many(connection, caller, [version_id])
    if version_id not in found:
        raise NotFound(version_id)
    return found[version_id]


async def published(connection: AsyncConnection, caller: Caller, workflow_ids: Sequence[str]) -> dict[str, Version]:
    """By workflow id; a workflow without a published version is left out."""
    query = _visible(caller).where(versions.c.workflow_id.in_(workflow_ids))
    found = await connection.execute(query.where(versions.c.status == VersionStatus.PUBLISHED))
    return {row["workflow_id"]: _version(row) for row in found.mappings()}


async def by_number(
    connection: AsyncConnection, caller: Caller, keys: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Version]:
    """By (workflow id, number)."""
    query = _visible(caller).where(tuple_(versions.c.workflow_id, versions.c.number).in_(keys))
    found = [_version(row) for row in (await connection.execute(query)).mappings()]
    return {(version.workflow_id or "", version.number): version for version in found}


async def by_content(
    connection: AsyncConnection, caller: Caller, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Version]:
    """By (workflow id, spec hash)."""
    query = _visible(caller).where(
        versions.c.workflow_id.in_({workflow_id for workflow_id, _ in keys}),
        versions.c.spec_hash.in_({spec_hash for _, spec_hash in keys}),
    )
    found = [_version(row) for row in (await connection.execute(query)).mappings()]
    return {(version.workflow_id or "", version.spec_hash): version for version in found}


@dataclass(frozen=True, slots=True)
class VersionsAsked:
    """A page of one workflow's versions, newest first."""

    workflow_id: str
    first: int
    after: str | None = None
    status: VersionStatus | None = None


async def pages(
    connection: AsyncConnection, caller: Caller, asks: Sequence[VersionsAsked]
) -> dict[VersionsAsked, Page[Version]]:
    """A statement for all that differ in the workflow alone."""
    pages: dict[VersionsAsked, Page[Version]] = {}
    for ask, workflow_ids in group_by_parent(asks, "workflow_id").items():
        query = _visible(caller)
        if ask.status is not None:
            query = query.where(versions.c.status == ask.status)
        if ask.after is not None:
            query = query.where(versions.c.id < decode_cursor(ask.after, Prefix.VERSION))
        found: dict[str, list[Version]] = {workflow_id: [] for workflow_id in workflow_ids}
        rows = await connection.execute(first_rows_of_each(query, versions.c.workflow_id, workflow_ids, ask.first))
        for row in rows.mappings():
            found[row["workflow_id"]].append(_version(row))
        for workflow_id, items in found.items():
            pages[replace(ask, workflow_id=workflow_id)] = make_page(items, first=ask.first, after=ask.after)
    return pages


async def freeze(connection: AsyncConnection, caller: Caller, draft: drafts.Draft) -> tuple[Version, bool]:
    """The version with the draft's content, and whether it was made now. Archived or not, what stands is found."""
    key = (draft.workflow_id, draft.spec_hash)
    if stands := (await by_content(connection, caller, [key])).get(key):
        return stands, False
    await workflows.lock(connection, caller, draft.workflow_id)
    # Somebody may have made it while this transaction waited for the lock.
    if stands := (await by_content(connection, caller, [key])).get(key):
        return stands, False
    highest = select(func.coalesce(func.max(versions.c.number), 0)).where(versions.c.workflow_id == draft.workflow_id)
    number = (await connection.execute(highest)).scalar_one() + 1
    row = await connection.execute(
        insert(versions)
        .values(
            id=new_id("ver"),
            project_id=draft.project_id,
            workflow_id=draft.workflow_id,
            number=number,
            spec=draft.spec,
            spec_hash=draft.spec_hash,
            status=VersionStatus.DRAFT,
            created_by=caller.subject,
        )
        .returning(versions)
    )
    return _version(row.mappings().one()), True


async def publish(connection: AsyncConnection, caller: Caller, version: Version) -> Version:
    """Archives the one published before. Raises InvalidState for an ad hoc version."""
    if version.workflow_id is None:
        raise InvalidState("An ad hoc version belongs to no workflow and cannot be published.")
    await workflows.lock(connection, caller, version.workflow_id)
    await connection.execute(
        update(versions)
        .where(
            versions.c.workflow_id == version.workflow_id,
            versions.c.status == VersionStatus.PUBLISHED,
            versions.c.id != version.id,
        )
        .values(status=VersionStatus.ARCHIVED)
    )
    stands = await get(connection, caller, version.id)
    if stands.status is VersionStatus.PUBLISHED:
        return stands
    return await _set(connection, version.id, VersionStatus.PUBLISHED)


async def archive(connection: AsyncConnection, caller: Caller, version: Version) -> Version:
    """Archiving twice changes nothing. Raises InvalidState for an ad hoc version."""
    if version.workflow_id is None:
        raise InvalidState("An ad hoc version belongs to no workflow and cannot be archived.")
    await workflows.lock(connection, caller, version.workflow_id)
    return await _set(connection, version.id, VersionStatus.ARCHIVED)


async def _set(connection: AsyncConnection, version_id: str, status: VersionStatus) -> Version:
    moment = {"published_at": func.now()} if status is VersionStatus.PUBLISHED else {}
    row = await connection.execute(
        update(versions).where(versions.c.id == version_id).values(status=status, **moment).returning(versions)
    )
    return _version(row.mappings().one())


async def for_run(
    connection: AsyncConnection,
    caller: Caller,
    workflow_id: str,
    version_id: str | None = None,
    draft_revision: int | None = None,
) -> Version:
    """What a run of the workflow executes: the version named, the draft at exactly this revision, else the published
    version, else the draft. A draft is frozen to a version first. Raises NotFound, Conflict.
    """
    if version_id is not None:
        version = await get(connection, caller, version_id)
        if version.workflow_id != workflow_id:
            raise NotFound(version_id)
        return version
    await workflows.get(connection, caller, workflow_id)
    if draft_revision is None and (live := (await published(connection, caller, [workflow_id])).get(workflow_id)):
        return live
    draft = await drafts.get(connection, caller, workflow_id)
    if draft_revision is not None and draft.revision != draft_revision:
        raise drafts.stale(draft, draft_revision)
    return (await freeze(connection, caller, draft))[0]


async def current_id(pool: asyncpg.Pool, caller: Caller, workflow_id: str) -> tuple[str, str | None]:
    """(project, version) that a run of the workflow executes by default; no version where its draft has none yet.

    One round trip, as every run that names no version asks it. Raises NotFound.
    """
    row = await pool.fetchrow(_CURRENT, workflow_id, list(caller.projects))
    if row is None:
        raise NotFound(workflow_id)
    return row["project_id"], row["version_id"]


async def adhoc(connection: AsyncConnection, caller: Caller, project_id: str, content: drafts.Content) -> Version:
    """The version of a spec without a workflow: one for each project and content."""
    made = insert(versions).values(
        id=new_id("ver"),
        project_id=project_id,
        number=ADHOC_NUMBER,
        spec=content.spec,
        spec_hash=content.hash,
        status=VersionStatus.DRAFT,
        created_by=caller.subject,
    )
    await connection.execute(made.on_conflict_do_nothing())
    query = _visible(caller).where(versions.c.project_id == project_id, versions.c.workflow_id.is_(None))
    row = await connection.execute(query.where(versions.c.spec_hash == content.hash))
    return _version(row.mappings().one())


_CURRENT = """
SELECT w.project_id, coalesce(p.id, v.id) AS version_id FROM workflows w
LEFT JOIN versions p ON p.workflow_id = w.id AND p.status = 'PUBLISHED'
LEFT JOIN drafts d ON d.workflow_id = w.id AND p.id IS NULL
LEFT JOIN versions v ON v.workflow_id = w.id AND v.spec_hash = d.spec_hash
WHERE w.id = $1 AND w.project_id = ANY($2)
"""
