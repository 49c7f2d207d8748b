"""Create, change and delete triggers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.problems import FieldProblem
from engine.types import JSON
from persistence.audit_log import record
from persistence.db.ids import Prefix, new_id
from persistence.problems import Invalid, invalid
from persistence.runs.idempotency import MAX_KEY_LENGTH, arguments_hash
from persistence.triggers import trigger as triggers
from persistence.triggers import webhooks
from persistence.triggers.trigger import EVENT_AS_INPUT, NewTrigger, Trigger
from persistence.triggers.webhooks import new_token
from persistence.workflows import workflows
from resolvers.authorise import require
from resolvers.checks import checked_name
from resolvers.context import Context
from resolvers.permissions import MUTATIONS
from resolvers.triggers.checks import ABSENT, caught, check_workflow, checked_all, checked_kind, first_times


async def create_trigger(
    context: Context,
    *,
    workflow_id: str,
    kind: str,
    name: str,
    config: JSON,
    inputs: JSON = ABSENT,
    enabled: bool,
    idempotency_key: str | None,
) -> Trigger:
    """Create a trigger of a workflow.

    Raises:
        NotFound, Forbidden: The workflow is hidden, or the caller is no editor of its project.
        Invalid: With all problems of the name, the kind, the config and the inputs.
        Conflict: The idempotency key was used with other arguments.
    """
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= MAX_KEY_LENGTH:
        raise invalid("input.idempotencyKey", "LENGTH", f"must have 1 to {MAX_KEY_LENGTH} characters")
    mapping = EVENT_AS_INPUT if inputs is ABSENT else inputs
    async with context.database.begin() as connection:
        workflow = await workflows.get(connection, context.caller, workflow_id)
        require(context.caller, MUTATIONS["createTrigger"], workflow.project_id)
        title, chosen, parsed = checked_all(name, kind, config, mapping)
        await check_workflow(connection, context.caller, parsed, workflow.project_id)
        hashed = arguments_hash("createTrigger", [workflow_id, kind, title, config, mapping, enabled])
        key_hash = None if idempotency_key is None else hashed
        trigger_id = new_id(Prefix.TRIGGER)
        times = await first_times(connection, chosen, parsed, trigger_id) if enabled else (None, None)
        new = NewTrigger(
            workflow_id, kind, title, config, mapping, enabled, *times, idempotency_key, key_hash, id=trigger_id
        )
        if kind == webhooks.KIND:
            new = replace(new, webhook_token=new_token(), test_token=new_token())
        created = await triggers.create(connection, context.caller, workflow.project_id, new)
        if created.id == trigger_id:  # Else a call with the same idempotency key has created it.
            await _record(connection, context, "createTrigger", created, after=created)
    await context.notifier.notify_triggers()
    return created


async def _record(
    connection: AsyncConnection,
    context: Context,
    action: str,
    trigger: Trigger,
    *,
    before: Trigger | None = None,
    after: Trigger | None = None,
) -> None:
    values = [None if one is None else {name: getattr(one, name) for name in _SETTINGS} for one in (before, after)]
    await record(connection, context.caller, action, trigger.project_id, trigger.id, before=values[0], after=values[1])


_SETTINGS = ("name", "kind", "enabled", "config", "inputs")
"""What the audit log shows of a trigger."""


async def update_trigger(context: Context, trigger_id: str, changes: Mapping[str, Any]) -> Trigger:
    """Change a trigger; `changes` has the fields to change.

    A change of config or inputs, and enabling, clear the failures. A change of config or inputs makes
    the caller the one whose scopes the runs have.

    Raises:
        NotFound, Forbidden: It is hidden, or the caller is no editor of its project.
        Invalid: With all problems of the new values.
    """
    async with context.database.begin() as connection:
        trigger = await triggers.get(connection, context.caller, trigger_id, lock=True)
        require(context.caller, MUTATIONS["updateTrigger"], trigger.project_id)
        values = await _new_values(context, connection, trigger, changes)
        changed = await triggers.change(connection, trigger_id, values) if values else trigger
        if values:
            await _record(connection, context, "updateTrigger", trigger, before=trigger, after=changed)
    await context.notifier.notify_triggers()
    return changed


async def _new_values(
    context: Context, connection: AsyncConnection, trigger: Trigger, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the columns to write."""
    values: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    if "name" in changes:
        values["name"] = caught(problems, checked_name, "input.name", changes["name"] or "")
    if changes.get("enabled") is not None:
        values["enabled"] = changes["enabled"]
    edited = {name: changes[name] for name in ("config", "inputs") if name in changes}
    is_enabled = values.get("enabled", trigger.enabled)
    if edited:
        values |= edited | {"scopes": sorted(context.caller.scopes_in(trigger.project_id))}
    if edited or values.get("enabled") not in (None, trigger.enabled):
        config, mapping = edited.get("config", trigger.config), edited.get("inputs", trigger.inputs)
        is_read = bool(edited) or is_enabled
        found = caught(problems, checked_kind, trigger.kind, config, mapping) if is_read else None
        if problems:
            raise Invalid(problems)
        kind, parsed = found or (None, None)
        values |= {"failures": 0, "last_error": None, "planned_at": None, "next_fire_at": None}
        if kind is not None:
            await check_workflow(connection, context.caller, parsed, trigger.project_id)
        if "config" in edited and edited["config"] != trigger.config:
            values["state"] = None  # It is the position in another source.
        if is_enabled and kind is not None:
            times = await first_times(connection, kind, parsed, trigger.id)
            values |= {"planned_at": times[0], "next_fire_at": times[1]}
    if problems:
        raise Invalid(problems)
    return values


async def delete_trigger(context: Context, trigger_id: str) -> str:
    """Delete a trigger with its events, and return its id. Its runs stay. Raises NotFound, Forbidden."""
    async with context.database.begin() as connection:
        trigger = await triggers.get(connection, context.caller, trigger_id, lock=True)
        require(context.caller, MUTATIONS["deleteTrigger"], trigger.project_id)
        await triggers.remove(connection, trigger_id)
        await _record(connection, context, "deleteTrigger", trigger, before=trigger)
    return trigger_id
