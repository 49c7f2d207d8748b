"""Versions: frozen from the draft, published, archived. Each call is one transaction."""

from typing import Literal

from engine.states import VersionStatus
from persistence.caller import Role
from persistence.db.ids import Prefix
from persistence.db.pagination import Page, checked_after, checked_first
from persistence.runs.listing import RunFilter, RunsQuery
from persistence.runs.run import Run
from persistence.workflows import drafts, versions, workflows
from persistence.workflows.versions import Version, VersionPageRequest
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.workflows.specs import check_runnable


async def version_page(
    context: Context, workflow_id: str, *, first: int | None, after: str | None, status: VersionStatus | None
) -> Page[Version]:
    asked = VersionPageRequest(workflow_id, checked_first(first), checked_after(after, Prefix.VERSION), status)
    page = await context.loaders.versions.load(asked)
    assert page is not None
    return page


async def run_page_of(
    context: Context,
    of: Literal["workflow_id", "version_id"],
    id: str,
    *,
    first: int | None,
    after: str | None,
    where: RunFilter = RunFilter(),
) -> Page[Run]:
    """The runs of one workflow or version."""
    page = await context.loaders.runs.load(
        RunsQuery(of, id, checked_first(first), checked_after(after, Prefix.RUN), where)
    )
    assert page is not None
    return page


async def version_by_number(context: Context, workflow_id: str, number: int) -> Version | None:
    return await context.loaders.by_number.load((workflow_id, number))


async def create_version(
    context: Context, workflow_id: str, expected_revision: int | None, *, publish: bool
) -> tuple[Version, bool]:
    """The version, and whether it is new. Raises Invalid for a draft that cannot run, Conflict if it has moved on."""
    async with context.database.begin() as connection:
        workflow = await workflows.get(connection, context.caller, workflow_id)
        require(context.caller, Role.EDITOR, workflow.project_id)
        draft = await drafts.get(connection, context.caller, workflow_id)
        if expected_revision is not None and draft.revision != expected_revision:
            raise drafts.stale_draft(draft, expected_revision)
        check_runnable(context, draft.spec)
        version, created = await versions.freeze(connection, context.caller, draft)
        if publish:
            version = await versions.publish(connection, context.caller, version)
        return version, created


async def publish_version(context: Context, version_id: str) -> Version:
    """Archives the one published before; an archived one can be published again. Raises Invalid if it cannot run."""
    async with context.database.begin() as connection:
        version = await versions.get(connection, context.caller, version_id)
        require(context.caller, Role.EDITOR, version.project_id)
        check_runnable(context, version.spec)
        return await versions.publish(connection, context.caller, version)


async def archive_version(context: Context, version_id: str) -> Version:
    async with context.database.begin() as connection:
        version = await versions.get(connection, context.caller, version_id)
        require(context.caller, Role.EDITOR, version.project_id)
        return await versions.archive(connection, context.caller, version)
