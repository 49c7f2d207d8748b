"""Workflows and their drafts: every call is one transaction; who watches the draft is told after the commit."""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.types import JSON
from persistence.caller import Role
from persistence.db.pagination import Page, checked_first
from persistence.events.publisher import announce, delete_streams, draft_channel
from persistence.events.run_transition import RunTransition
from persistence.problems import InvalidState, invalid
from persistence.runs import commands
from persistence.workflows import drafts, versions, workflows
from persistence.workflows.drafts import Content, Draft
from persistence.workflows.workflows import Workflow
from resolvers import catalog
from resolvers.authorise import project_for, require
from resolvers.checks import checked_description, checked_name
from resolvers.context import Context
from resolvers.idempotent import publish_transitions, shielded
from resolvers.runs import control
from resolvers.workflows.specs import content_to_save

DELETED = "Its workflow is deleted"
STARTER: dict[str, JSON] = {
    "nodes": [
        {"id": "start", "type": "start", "config": {}, "position": {"x": 0, "y": 0}},
        {"id": "end", "type": "end", "config": {}, "position": {"x": 240, "y": 0}},
    ],
    "edges": [{"source": "start", "target": "end"}],
}
"""What a workflow begins with where nothing is given: it runs."""


async def workflow(context: Context, workflow_id: str) -> Workflow | None:
    return await context.loaders.workflow.load(workflow_id)


async def workflow_page(
    context: Context, *, project_id: str | None, first: int | None, after: str | None, search: str | None
) -> Page[Workflow]:
    """Raises NotFound for a project that the caller does not have."""
    if project_id is not None:
        require(context.caller, Role.VIEWER, project_id)
    async with context.database.connect() as connection:
        return await workflows.page(
            connection,
            context.caller,
            first=checked_first(first),
            after=after,
            project_id=project_id,
            search=search,
        )


async def create_workflow(
    context: Context,
    *,
    project_id: str | None,
    name: str,
    description: str | None,
    spec: JSON,
    template: str | None,
) -> Workflow:
    """`spec` None: the template's, else the starter's."""
    content = content_to_save(_first_spec(context, spec, template))
    async with context.database.begin() as connection:
        chosen = await project_for(connection, context.caller, Role.EDITOR, project_id)
        return await workflows.create(
            connection,
            context.caller,
            chosen,
            name=checked_name("input.name", name),
            description=checked_description("input.description", description or ""),
            content=content,
        )


def _first_spec(context: Context, spec: JSON, template: str | None) -> JSON:
    if template is None:
        return STARTER if spec is None else spec
    if spec is not None:
        raise invalid("input.template", "EXCLUSIVE", "spec and template cannot be given together")
    found = catalog.template(context, template)
    if found is None:
        raise invalid(
            "input.template", "UNKNOWN", f"There is no template named {template!r}; the query `templates` lists them."
        )
    return found.spec


async def update_workflow(context: Context, workflow_id: str, changes: Mapping[str, str | None]) -> Workflow:
    """`changes` holds what was given, `name` or `description`; null clears a description and is no name."""
    values: dict[str, str] = {}
    if "name" in changes:
        values["name"] = checked_name("input.name", changes["name"] or "")
    if "description" in changes:
        values["description"] = checked_description("input.description", changes["description"] or "")
    async with context.database.begin() as connection:
        stands = await workflows.get(connection, context.caller, workflow_id)
        require(context.caller, Role.EDITOR, stands.project_id)
        if not values:
            return stands
        return await workflows.change(connection, context.caller, workflow_id, values)


async def duplicate_workflow(context: Context, workflow_id: str, name: str | None) -> Workflow:
    """A new workflow in the same project, with a copy of the draft."""
    async with context.database.begin() as connection:
        source = await workflows.get(connection, context.caller, workflow_id)
        require(context.caller, Role.EDITOR, source.project_id)
        draft = await drafts.get(connection, context.caller, workflow_id)
        return await workflows.create(
            connection,
            context.caller,
            source.project_id,
            name=checked_name("input.name", name if name is not None else f"{source.name[:190]} (copy)"),
            description=source.description,
            content=Content(draft.spec, draft.spec_hash),
        )


async def delete_workflow(context: Context, workflow_id: str, *, cancel_runs: bool) -> str:
    """Refused while runs are active; with `cancel_runs` they are cancelled first, and their code has stopped."""
    async with context.database.connect() as connection:
        stands = await workflows.get(connection, context.caller, workflow_id)
    require(context.caller, Role.EDITOR, stands.project_id)
    if cancel_runs:
        await control.stop_runs(context, workflow_id, DELETED)
    await shielded(_delete(context, workflow_id, cancel_runs=cancel_runs))
    return workflow_id


async def _delete(context: Context, workflow_id: str, *, cancel_runs: bool) -> None:
    deadlines = context.database.deadlines
    async with context.database.begin() as connection:
        await workflows.lock(connection, context.caller, workflow_id, exclusive=True)
        if not cancel_runs:
            await _need_none_active(connection, context, workflow_id)  # And none can become so: its workflow is held.
        held = await workflows.lock_runs(connection, context.caller, workflow_id)
        late: list[RunTransition] = []
        if cancel_runs:
            # Runs that were accepted while the others stopped: nobody has begun with them.
            late += await commands.cancel_all(connection, context.caller, workflow_id, DELETED, deadlines)
            await _need_none_active(connection, context, workflow_id)
        # Once their parents are gone, nothing would tell that nobody waits for them.
        children = await workflows.active_child_ids(connection, workflow_id)
        late += await commands.cancel_these(connection, children, DELETED, deadlines)
        await workflows.delete(connection, context.caller, workflow_id)
    await publish_transitions(context, late)
    await delete_streams(context.redis, held)


async def _need_none_active(connection: AsyncConnection, context: Context, workflow_id: str) -> None:
    active = await workflows.active_run_ids(connection, context.caller, workflow_id)
    if active:
        raise InvalidState(f"{len(active)} of its runs are active, {active[0]} among them.")


async def save_draft(context: Context, workflow_id: str, spec: JSON, expected_revision: int) -> Draft:
    """Raises Conflict with what stands, if somebody saved first."""
    return await shielded(_save(context, workflow_id, content_to_save(spec), expected_revision))


async def restore_version(context: Context, version_id: str, expected_revision: int) -> Draft:
    """Copies the version's spec into its workflow's draft."""
    async with context.database.connect() as connection:
        version = await versions.get(connection, context.caller, version_id)
    if version.workflow_id is None:
        raise InvalidState("An ad hoc version belongs to no workflow: there is no draft to restore it to.")
    content = Content(version.spec, version.spec_hash)
    return await shielded(_save(context, version.workflow_id, content, expected_revision))


async def _save(context: Context, workflow_id: str, content: Content, expected_revision: int) -> Draft:
    async with context.database.begin() as connection:
        stands = await workflows.get(connection, context.caller, workflow_id)
        require(context.caller, Role.EDITOR, stands.project_id)
        draft, changed = await drafts.save(connection, context.caller, workflow_id, content, expected_revision)
    if changed:
        await announce(context.redis, draft_channel(workflow_id), str(draft.revision))
    return draft
