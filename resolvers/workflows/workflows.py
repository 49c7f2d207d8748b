"""Workflows and their drafts.

Each change is one transaction, and subscribers are notified after its commit.
"""

from collections.abc import Mapping
from types import EllipsisType

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.types import JSON
from persistence.audit_log import record
from persistence.db.ids import Prefix
from persistence.db.pagination import Page, PageArguments
from persistence.events.publisher import announce, delete_streams, draft_channel
from persistence.events.run_transition import RunTransition
from persistence.problems import InvalidState, invalid
from persistence.runs import commands
from persistence.workflows import drafts, versions, workflows
from persistence.workflows.drafts import Content, Draft
from persistence.workflows.workflows import Workflow
from resolvers import catalog
from resolvers.authorise import project_for, require
from resolvers.checks import checked_description, checked_name, visible
from resolvers.context import Context
from resolvers.idempotent import publish_transitions, shielded
from resolvers.permissions import MUTATIONS, QUERIES
from resolvers.runs import control
from resolvers.workflows import exposures
from resolvers.workflows.exposures import ExposureArguments
from resolvers.workflows.specs import content_to_save

DELETED = "Its workflow is deleted"
STARTER: dict[str, JSON] = {
    "nodes": [
        {"id": "start", "type": "start", "config": {}, "position": {"x": 0, "y": 0}},
        {"id": "end", "type": "end", "config": {}, "position": {"x": 240, "y": 0}},
    ],
    "edges": [{"source": "start", "target": "end"}],
}
"""The draft of a workflow that is created without a spec or template. It can run."""


async def workflow(context: Context, workflow_id: str) -> Workflow | None:
    return await context.loaders.workflow.load(workflow_id)


async def workflow_page(
    context: Context, arguments: PageArguments, *, project_id: str | None, search: str | None
) -> Page[Workflow]:
    """Return a page of workflows, newest first.

    Raises NotFound for a project that the caller may not see.
    """
    if project_id is not None:
        require(context.caller, QUERIES["workflows"], project_id)
    range_ = arguments.checked(Prefix.WORKFLOW)
    async with context.read() as connection:
        return await workflows.page(connection, context.caller, range_, project_id=project_id, search=search)


async def create_workflow(
    context: Context,
    *,
    project_id: str | None,
    name: str,
    description: str | None,
    spec: JSON,
    template: str | None,
) -> Workflow:
    """Create a workflow with a draft: `spec`, or that of the template, or else STARTER.

    Raises:
        Invalid: Name, description or spec are out of range, or both spec and template are given.
        NotFound, Forbidden: The caller has no role in the project, or a lower one than editor.
    """
    content = content_to_save(context, _first_spec(context, spec, template))
    async with context.database.begin() as connection:
        chosen = await project_for(connection, context.caller, MUTATIONS["createWorkflow"], project_id)
        created = await workflows.create(
            connection,
            context.caller,
            chosen,
            name=checked_name("input.name", name),
            description=checked_description("input.description", description or ""),
            content=content,
        )
        after = {**_settings(created), "specHash": content.hash}
        await record(connection, context.caller, "createWorkflow", chosen, created.id, after=after)
        return created


def _settings(workflow: Workflow) -> dict[str, str]:
    """Return what the audit log shows of a workflow."""
    return {"name": workflow.name, "description": workflow.description}


def _first_spec(context: Context, spec: JSON, template: str | None) -> JSON:
    if template is None:
        return STARTER if spec is None else spec
    if spec is not None:
        raise invalid("input.template", "EXCLUSIVE", "spec and template cannot be given together")
    chosen = catalog.template(context, template)
    if chosen is None:
        raise invalid(
            "input.template", "UNKNOWN", f"There is no template named {template!r}; the query `templates` lists them."
        )
    return chosen.spec


async def update_workflow(
    context: Context,
    workflow_id: str,
    changes: Mapping[str, str | None],
    expose: ExposureArguments | EllipsisType | None = ...,
) -> Workflow:
    """Change name, description or exposure.

    `changes` holds the fields to change; None clears the description. `expose` None removes the
    exposure, and an ellipsis leaves it unchanged.

    Raises:
        Invalid: The name is empty or too long, the description too long, or the exposure not valid.
    """
    values: dict[str, str] = {}
    if "name" in changes:
        values["name"] = checked_name("input.name", changes["name"] or "")
    if "description" in changes:
        values["description"] = checked_description("input.description", changes["description"] or "")
    async with context.database.begin() as connection:
        workflow = await workflows.get(connection, context.caller, workflow_id)
        require(context.caller, MUTATIONS["updateWorkflow"], workflow.project_id)
        if not values and expose is ...:
            return workflow
        locked = await workflows.lock(connection, context.caller, workflow_id)
        before, after = dict[str, JSON](_settings(locked)), dict[str, JSON]()
        if expose is not ...:
            exposure = None if expose is None else exposures.checked(locked, expose)
            before["expose"], after["expose"] = await exposures.change(connection, context.caller, locked, exposure)
        changed = await workflows.change(connection, context.caller, workflow_id, values)
        after = {**_settings(changed), **after}
        await record(
            connection, context.caller, "updateWorkflow", workflow.project_id, workflow_id, before=before, after=after
        )
        return changed


async def duplicate_workflow(context: Context, workflow_id: str, name: str | None) -> Workflow:
    """Create a workflow in the same project with a copy of the draft."""
    async with context.database.begin() as connection:
        source = await workflows.get(connection, context.caller, workflow_id)
        require(context.caller, MUTATIONS["duplicateWorkflow"], source.project_id)
        draft = await drafts.get(connection, context.caller, workflow_id)
        created = await workflows.create(
            connection,
            context.caller,
            source.project_id,
            name=checked_name("input.name", name if name is not None else f"{visible(source.name)[:190]} (copy)"),
            description=source.description,
            content=Content(draft.spec, draft.spec_hash),
        )
        after = {**_settings(created), "specHash": draft.spec_hash, "copyOf": workflow_id}
        await record(connection, context.caller, "duplicateWorkflow", source.project_id, created.id, after=after)
        return created


async def delete_workflow(context: Context, workflow_id: str, *, cancel_runs: bool) -> str:
    """Delete a workflow with its versions and runs, and return its id.

    With `cancel_runs`, active runs are cancelled first, and the call waits until their code has
    stopped.

    Raises:
        InvalidState: Runs are active.
    """
    async with context.read() as connection:
        workflow = await workflows.get(connection, context.caller, workflow_id)
    require(context.caller, MUTATIONS["deleteWorkflow"], workflow.project_id)
    if cancel_runs:
        await control.stop_runs(context, workflow_id, DELETED)
    await shielded(_delete(context, workflow_id, cancel_runs=cancel_runs))
    return workflow_id


async def _delete(context: Context, workflow_id: str, *, cancel_runs: bool) -> None:
    deadlines = context.database.deadlines
    async with context.database.begin() as connection:
        workflow = await workflows.lock(connection, context.caller, workflow_id, exclusive=True)
        if not cancel_runs:
            # The lock on the workflow prevents new runs after this check.
            await _require_no_active_runs(connection, context, workflow_id)
        run_ids = await workflows.lock_runs(connection, context.caller, workflow_id)
        late: list[RunTransition] = []
        if cancel_runs:
            # Runs that were accepted while the others stopped: no worker has claimed them yet.
            late += await commands.cancel_all(connection, context.caller, workflow_id, DELETED, deadlines)
            await _require_no_active_runs(connection, context, workflow_id)
        # Child runs in other workflows: once their parents are deleted, nothing would ever cancel
        # them.
        children = await workflows.active_child_ids(connection, workflow_id)
        late += await commands.cancel_these(connection, children, DELETED, deadlines)
        await workflows.delete(connection, context.caller, workflow_id)
        before = _settings(workflow)
        await record(connection, context.caller, "deleteWorkflow", workflow.project_id, workflow_id, before=before)
    await publish_transitions(context, late)
    await delete_streams(context.redis, run_ids)
    await announce(context.redis, draft_channel(workflow_id), "deleted")


async def _require_no_active_runs(connection: AsyncConnection, context: Context, workflow_id: str) -> None:
    active = await workflows.active_run_ids(connection, context.caller, workflow_id)
    if active:
        raise InvalidState(f"{len(active)} runs of the workflow are active, for example {active[0]}.")


async def save_draft(context: Context, workflow_id: str, spec: JSON, expected_revision: int) -> Draft:
    """Save a draft.

    Raises Conflict with the current draft if it has another revision than expected.
    """
    content = content_to_save(context, spec)
    return await shielded(_save(context, "saveDraft", workflow_id, content, expected_revision, None))


async def restore_version(context: Context, version_id: str, expected_revision: int) -> Draft:
    """Copy the spec of a version into the draft of its workflow.

    Raises Conflict as `save_draft`.
    """
    async with context.read() as connection:
        version = await versions.get(connection, context.caller, version_id)
    if version.workflow_id is None:
        raise InvalidState("An ad hoc version belongs to no workflow, so there is no draft to restore it to.")
    content = Content(version.spec, version.spec_hash)
    return await shielded(_save(context, "restoreVersion", version.workflow_id, content, expected_revision, version_id))


async def _save(
    context: Context,
    operation: str,
    workflow_id: str,
    content: Content,
    expected_revision: int,
    version_id: str | None,
) -> Draft:
    """Save a draft. `version_id` is the version that its content comes from."""
    async with context.database.begin() as connection:
        workflow = await workflows.get(connection, context.caller, workflow_id)
        require(context.caller, MUTATIONS[operation], workflow.project_id)
        draft, changed = await drafts.save(connection, context.caller, workflow_id, content, expected_revision)
        if changed:
            await versions.take_layout(connection, draft)
            before = {"revision": draft.revision - 1}
            after = {"revision": draft.revision, "specHash": draft.spec_hash, "versionId": version_id}
            await record(
                connection, context.caller, operation, workflow.project_id, workflow_id, before=before, after=after
            )
    if changed:
        await announce(context.redis, draft_channel(workflow_id), str(draft.revision))
    return draft
