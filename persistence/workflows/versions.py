"""Versions: immutable snapshots of specs, except for their layout and labels.

A workflow has one numbered version for each content, and at most one that is PUBLISHED. A run of a draft
without such a version gets a trial version, which has the number 0 and is in no list. Layout and labels do
not change what runs: a version has those of the last draft that was saved with its content. Writers of its
versions lock the row of the workflow, so the numbers have no gaps and a publication is atomic. A
crash leaves the versions as they were before or after the transaction. Used by the
mutations of workflows and by the start of runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg
from sqlalchemy import RowMapping, Select, Text, cast, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.isolation.loop_share import in_turns
from engine.states import VersionStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.ids import new_id
from persistence.db.pagination import Page, PageRange, group_by_parent, make_page, page_of_each
from persistence.db.tables import versions
from persistence.problems import InvalidState, NotFound
from persistence.workflows import drafts, workflows

UNNUMBERED = 0
"""Number of the version of a spec that belongs to no workflow, and of a trial version."""


@dataclass(frozen=True, slots=True)
class Version:
    """One row of `versions`."""

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
    layout_revision: int | None = None
    """The revision of the draft whose layout and labels `spec` has."""
    name: str | None = None
    note: str | None = None

    @property
    def is_trial(self) -> bool:
        """Whether it is the content of a draft that was run and has no numbered version."""
        return self.number == UNNUMBERED and self.workflow_id is not None


def _version_of(row: RowMapping) -> Version:
    return Version(**{**row, "status": VersionStatus(row["status"])})


_IS_NUMBERED = versions.c.number > UNNUMBERED


def _visible(caller: Caller) -> Select[tuple[object, ...]]:
    return select(versions).where(versions.c.project_id.in_(caller.projects))


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Version]:
    """Read the versions that the caller may see, by id."""
    rows = await connection.execute(_visible(caller).where(versions.c.id.in_(ids)))
    return {row["id"]: _version_of(row) async for row in in_turns(rows.mappings())}


async def get(connection: AsyncConnection, caller: Caller, version_id: str) -> Version:
    """Read a version. Raises NotFound."""
    visible = await get_many(connection, caller, [version_id])
    if version_id not in visible:
        raise NotFound(version_id)
    return visible[version_id]


async def get_published(connection: AsyncConnection, caller: Caller, workflow_ids: Sequence[str]) -> dict[str, Version]:
    """Read the published versions by workflow id. A workflow without one is left out."""
    query = _visible(caller).where(versions.c.workflow_id.in_(workflow_ids))
    rows = await connection.execute(query.where(versions.c.status == VersionStatus.PUBLISHED))
    return {row["workflow_id"]: _version_of(row) async for row in in_turns(rows.mappings())}


async def get_by_number(
    connection: AsyncConnection, caller: Caller, keys: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Version]:
    """Read versions by (workflow id, number)."""
    query = _visible(caller).where(_IS_NUMBERED, tuple_(versions.c.workflow_id, versions.c.number).in_(keys))
    visible = [_version_of(row) async for row in in_turns((await connection.execute(query)).mappings())]
    return {(version.workflow_id or "", version.number): version for version in visible}


async def get_by_content(
    connection: AsyncConnection, caller: Caller, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Version]:
    """Read numbered versions by (workflow id, spec hash)."""
    query = _visible(caller).where(
        _IS_NUMBERED,
        versions.c.workflow_id.in_({workflow_id for workflow_id, _ in keys}),
        versions.c.spec_hash.in_({spec_hash for _, spec_hash in keys}),
    )
    visible = [_version_of(row) async for row in in_turns((await connection.execute(query)).mappings())]
    return {(version.workflow_id or "", version.spec_hash): version for version in visible}


@dataclass(frozen=True, slots=True)
class VersionPageRequest:
    """Names a page of the numbered versions of one workflow, newest first."""

    workflow_id: str
    range_: PageRange
    status: VersionStatus | None = None


async def get_pages(
    connection: AsyncConnection, caller: Caller, requests: Sequence[VersionPageRequest]
) -> dict[VersionPageRequest, Page[Version]]:
    """Read pages, with one statement for all requests that differ only in the workflow."""
    pages: dict[VersionPageRequest, Page[Version]] = {}
    for request, workflow_ids in group_by_parent(requests, "workflow_id").items():
        query = _visible(caller).where(_IS_NUMBERED)
        if request.status is not None:
            query = query.where(versions.c.status == request.status)
        items_of: dict[str, list[Version]] = {workflow_id: [] for workflow_id in workflow_ids}
        rows = await connection.execute(page_of_each(query, versions.c.workflow_id, workflow_ids, request.range_))
        async for row in in_turns(rows.mappings()):
            items_of[row["workflow_id"]].append(_version_of(row))
        for workflow_id, items in items_of.items():
            pages[replace(request, workflow_id=workflow_id)] = make_page(items, request.range_)
    return pages


async def freeze(
    connection: AsyncConnection, caller: Caller, draft: drafts.Draft, *, is_trial: bool = False
) -> tuple[Version, bool]:
    """Find or create the version with the content of a draft. It gets the layout of the draft.

    With `is_trial`, content without a numbered version gets a trial version, which uses up no number.

    Returns:
        The version, whatever its status, and whether it was created now.
    """
    existing = await _of_content(connection, caller, draft, is_trial=is_trial)
    if existing is not None and existing.layout_revision == draft.revision:
        return existing, False
    await workflows.lock(connection, caller, draft.workflow_id)
    # Another transaction may have created it while this one waited for the lock.
    if existing := await _of_content(connection, caller, draft, is_trial=is_trial):
        await take_layout(connection, draft)
        return await get(connection, caller, existing.id), False
    row = await connection.execute(
        insert(versions)
        .values(
            id=new_id("ver"),
            project_id=draft.project_id,
            workflow_id=draft.workflow_id,
            number=UNNUMBERED if is_trial else await _next_number(connection, draft.workflow_id),
            spec=draft.spec,
            spec_hash=draft.spec_hash,
            status=VersionStatus.DRAFT,
            created_by=caller.subject,
            layout_revision=draft.revision,
        )
        .returning(versions)
    )
    return _version_of(row.mappings().one()), True


async def _next_number(connection: AsyncConnection, workflow_id: str) -> int:
    highest = select(func.coalesce(func.max(versions.c.number), 0)).where(versions.c.workflow_id == workflow_id)
    return int((await connection.execute(highest)).scalar_one()) + 1


async def _of_content(
    connection: AsyncConnection, caller: Caller, draft: drafts.Draft, *, is_trial: bool
) -> Version | None:
    """Return the numbered version with the content of a draft, or, if `is_trial`, else its trial version."""
    query = _visible(caller).where(versions.c.workflow_id == draft.workflow_id, versions.c.spec_hash == draft.spec_hash)
    if not is_trial:
        query = query.where(_IS_NUMBERED)
    row = (await connection.execute(query.order_by(versions.c.number.desc()).limit(1))).mappings().one_or_none()
    return None if row is None else _version_of(row)


async def take_layout(connection: AsyncConnection, draft: drafts.Draft) -> None:
    """Give the versions with the content of a draft the layout and labels of the draft.

    A version that has those of this or of a later revision keeps them.
    """
    await connection.execute(
        update(versions)
        .where(
            versions.c.workflow_id == draft.workflow_id,
            versions.c.spec_hash == draft.spec_hash,
            func.coalesce(versions.c.layout_revision, 0) < draft.revision,
        )
        .values(spec=draft.spec, layout_revision=draft.revision)
    )


async def describe(
    connection: AsyncConnection, caller: Caller, version_id: str, values: Mapping[str, str | None]
) -> Version:
    """Set name or note of a version. Raises NotFound, and InvalidState for one without a number."""
    version = await get(connection, caller, version_id)
    _require_number(version, "named")
    if not values:
        return version
    row = await connection.execute(
        update(versions).where(versions.c.id == version_id).values(**values).returning(versions)
    )
    return _version_of(row.mappings().one())


def _require_number(version: Version, changed: str) -> None:
    if version.workflow_id is None:
        raise InvalidState(f"An ad hoc version belongs to no workflow and cannot be {changed}.")
    if version.is_trial:
        raise InvalidState(
            f"This version belongs to a trial run and cannot be {changed}: createVersion makes a numbered version of "
            "the draft; restoreVersion brings this content back into the draft."
        )


async def publish(connection: AsyncConnection, caller: Caller, version: Version) -> Version:
    """Publish a version, and archive the one that was published before.

    Raises:
        NotFound: The workflow or the version no longer exists.
        InvalidState: It is an ad hoc version or a trial version.
    """
    _require_number(version, "published")
    assert version.workflow_id is not None
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
    current = await get(connection, caller, version.id)
    if current.status is VersionStatus.PUBLISHED:
        return current
    return await _set_status(connection, version.id, VersionStatus.PUBLISHED)


async def archive(connection: AsyncConnection, caller: Caller, version: Version) -> Version:
    """Archive a version; a second time changes nothing.

    Raises NotFound, InvalidState like `publish`.
    """
    _require_number(version, "archived")
    assert version.workflow_id is not None
    await workflows.lock(connection, caller, version.workflow_id)
    return await _set_status(connection, version.id, VersionStatus.ARCHIVED)


async def _set_status(connection: AsyncConnection, version_id: str, status: VersionStatus) -> Version:
    values = {"published_at": func.now()} if status is VersionStatus.PUBLISHED else {}
    row = await connection.execute(
        update(versions).where(versions.c.id == version_id).values(status=status, **values).returning(versions)
    )
    return _version_of(row.mappings().one())


async def get_for_run(
    connection: AsyncConnection,
    caller: Caller,
    workflow_id: str,
    version_id: str | None = None,
    draft_revision: int | None = None,
) -> Version:
    """Choose the version that a run of the workflow executes.

    If this is the content of the draft, the draft becomes a version first, one without a number if need be.

    Args:
        connection: The transaction of the caller.
        caller: The caller, who has to see the workflow and the version.
        workflow_id: The workflow.
        version_id: Requests this version.
        draft_revision: Requests the draft, and expects it at this revision.

    Returns:
        The requested version. Without a request: the published one, else the draft's.

    Raises:
        NotFound: The workflow does not exist, or the version is not one of its versions.
        Conflict: The draft has another revision.
    """
    if version_id is not None:
        version = await get(connection, caller, version_id)
        if version.workflow_id != workflow_id:
            raise NotFound(version_id)
        return version
    await workflows.get(connection, caller, workflow_id)
    if draft_revision is None and (
        current := (await get_published(connection, caller, [workflow_id])).get(workflow_id)
    ):
        return current
    draft = await drafts.get(connection, caller, workflow_id)
    if draft_revision is not None and draft.revision != draft_revision:
        raise drafts.stale_draft(draft, draft_revision)
    return (await freeze(connection, caller, draft, is_trial=True))[0]


async def current_version_id(pool: asyncpg.Pool, caller: Caller, workflow_id: str) -> tuple[str, str | None]:
    """Find the version that a run of the workflow executes by default, in one round trip.

    Returns:
        The ids of the project and of the version. The version is None if the draft has none yet, or
        one with an older layout.

    Raises:
        NotFound: The caller may not see the workflow, or it does not exist.
    """
    row = await pool.fetchrow(_CURRENT, workflow_id, list(caller.projects))
    if row is None:
        raise NotFound(workflow_id)
    return row["project_id"], row["version_id"]


async def ensure_adhoc(
    connection: AsyncConnection, caller: Caller, project_id: str, content: drafts.Content
) -> Version:
    """Find or create the version of a spec without a workflow: one for each project and content.

    It gets the layout and labels of this spec.
    """
    statement = insert(versions).values(
        id=new_id("ver"),
        project_id=project_id,
        number=UNNUMBERED,
        spec=content.spec,
        spec_hash=content.hash,
        status=VersionStatus.DRAFT,
        created_by=caller.subject,
    )
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[versions.c.project_id, versions.c.spec_hash],
            index_where=versions.c.workflow_id.is_(None),
            set_={
                "spec": statement.excluded.spec,
                "layout_revision": func.coalesce(versions.c.layout_revision, 0) + 1,
            },
            where=cast(versions.c.spec, Text) != cast(statement.excluded.spec, Text),
        )
    )
    query = _visible(caller).where(versions.c.project_id == project_id, versions.c.workflow_id.is_(None))
    row = await connection.execute(query.where(versions.c.spec_hash == content.hash))
    return _version_of(row.mappings().one())


CURRENT = """
SELECT w.project_id, coalesce(p.id, v.id) AS version_id FROM workflows w
LEFT JOIN versions p ON p.workflow_id = w.id AND p.status = 'PUBLISHED'
LEFT JOIN drafts d ON d.workflow_id = w.id AND p.id IS NULL
LEFT JOIN LATERAL (
    SELECT id FROM versions
    WHERE workflow_id = w.id AND spec_hash = d.spec_hash AND layout_revision = d.revision
    ORDER BY number DESC LIMIT 1
) v ON true
"""
"""Workflows with the version that a run executes by default: the published one, else that of the draft."""
_CURRENT = f"{CURRENT} WHERE w.id = $1 AND w.project_id = ANY($2)"
