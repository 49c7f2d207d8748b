"""Versions of workflows: create from the draft, publish, archive, list.

Each change is one transaction.
"""

from collections.abc import Mapping
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import VersionStatus
from persistence import mutation_keys
from persistence.audit_log import record
from persistence.db.ids import Prefix
from persistence.db.pagination import Page, PageArguments
from persistence.runs.listing import RunsQuery
from persistence.runs.run import Run
from persistence.runs.run_filter import RunFilter
from persistence.runs.run_order import NEWEST_FIRST, RunOrder
from persistence.workflows import drafts, versions, workflows
from persistence.workflows.versions import Version, VersionPageRequest
from resolvers.authorise import require
from resolvers.checks import checked_description, checked_name
from resolvers.context import Context
from resolvers.permissions import MUTATIONS
from resolvers.workflows.specs import check_runnable


async def version_page(
    context: Context, workflow_id: str, arguments: PageArguments, *, status: VersionStatus | None
) -> Page[Version]:
    query = VersionPageRequest(workflow_id, arguments.checked(Prefix.VERSION), status)
    page = await context.loaders.versions.load(query)
    assert page is not None
    return page


async def run_page_of(
    context: Context,
    of: Literal["workflow_id", "version_id"],
    id: str,
    arguments: PageArguments,
    *,
    where: RunFilter = RunFilter(),
    order: RunOrder = NEWEST_FIRST,
) -> Page[Run]:
    """Return a page of the runs of one workflow or version."""
    where.check()
    page = await context.loaders.runs.load(RunsQuery(of, id, order.checked(arguments), where))
    assert page is not None
    return page


async def version_by_number(context: Context, workflow_id: str, number: int) -> Version | None:
    return await context.loaders.by_number.load((workflow_id, number))


async def create_version(
    context: Context,
    workflow_id: str,
    expected_revision: int | None,
    *,
    publish: bool,
    texts: Mapping[str, str | None] | None = None,
) -> tuple[Version, bool]:
    """Create a version from the draft, or return the one that has the same content.

    Args:
        context: The caller and the stores.
        workflow_id: The workflow.
        expected_revision: The revision that the draft must have; None for any.
        publish: Whether to publish the version in the same transaction.
        texts: Its `name` and `note`, as in `update_version`. A version that exists already gets them too.

    Returns:
        The version, and whether it is new.

    Raises:
        Invalid: The draft has errors, or the name or the note is too long.
        Conflict: The draft has another revision.
    """
    values = _checked_texts(texts or {})
    async with context.database.begin() as connection:
        workflow = await workflows.get(connection, context.caller, workflow_id)
        require(context.caller, MUTATIONS["createVersion"], workflow.project_id)
        draft = await drafts.get(connection, context.caller, workflow_id)
        if expected_revision is not None and draft.revision != expected_revision:
            raise drafts.stale_draft(draft, expected_revision)
        await check_runnable(context, draft.spec)
        version, created = await versions.freeze(connection, context.caller, draft)
        mutation_keys.note(created=created)
        before = None if created else _settings(version)
        if values:
            version = await versions.describe(connection, context.caller, version.id, values)
        if publish:
            version = await versions.publish(connection, context.caller, version)
        if created or publish or values:
            await _record(connection, context, "createVersion", version, before)
        return version, created


def _settings(version: Version) -> dict[str, object]:
    """Return what the audit log shows of a version."""
    texts = {name: text for name, text in (("name", version.name), ("note", version.note)) if text is not None}
    return {"number": version.number, "status": version.status, "specHash": version.spec_hash, **texts}


async def _locked(connection: AsyncConnection, context: Context, version: Version) -> Version:
    """Return a version as it is while its workflow is locked."""
    if version.workflow_id is None:
        return version
    await workflows.lock(connection, context.caller, version.workflow_id)
    return await versions.get(connection, context.caller, version.id)


async def _record(
    connection: AsyncConnection, context: Context, action: str, version: Version, before: dict[str, object] | None
) -> None:
    after = {**_settings(version), "workflowId": version.workflow_id}
    await record(connection, context.caller, action, version.project_id, version.id, before=before, after=after)


async def update_version(context: Context, version_id: str, texts: Mapping[str, str | None]) -> Version:
    """Set the name or the note of a version; `texts` holds the fields to change, and None clears one.

    Raises:
        NotFound, Forbidden: It is hidden, or the caller is no editor of its project.
        Invalid: A text is too long.
        InvalidState: It has no number.
    """
    values = _checked_texts(texts)
    async with context.database.begin() as connection:
        version = await versions.get(connection, context.caller, version_id)
        require(context.caller, MUTATIONS["updateVersion"], version.project_id)
        before = await _locked(connection, context, version)
        changed = await versions.describe(connection, context.caller, version_id, values)
        await _record(connection, context, "updateVersion", changed, _settings(before))
        return changed


def _checked_texts(texts: Mapping[str, str | None]) -> dict[str, str | None]:
    checks = {"name": checked_name, "note": checked_description}
    return {name: checks[name](f"input.{name}", text) if text else None for name, text in texts.items()}


async def publish_version(context: Context, version_id: str) -> Version:
    """Publish a version, also an archived one, and archive the version that was published before.

    Raises:
        Invalid: The spec has errors with the node types of this server.
    """
    async with context.database.begin() as connection:
        version = await versions.get(connection, context.caller, version_id)
        require(context.caller, MUTATIONS["publishVersion"], version.project_id)
        await check_runnable(context, version.spec)
        before = await _locked(connection, context, version)
        published = await versions.publish(connection, context.caller, version)
        await _record(connection, context, "publishVersion", published, _settings(before))
        return published


async def archive_version(context: Context, version_id: str) -> Version:
    async with context.database.begin() as connection:
        version = await versions.get(connection, context.caller, version_id)
        require(context.caller, MUTATIONS["archiveVersion"], version.project_id)
        before = await _locked(connection, context, version)
        archived = await versions.archive(connection, context.caller, version)
        await _record(connection, context, "archiveVersion", archived, _settings(before))
        return archived
