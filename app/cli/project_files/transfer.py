"""Exports a project to files, and carries an import plan out.

An import that stops at any point is repeated: what is equal already is left alone.
"""

from collections.abc import Sequence
from pathlib import Path

from app.cli.arguments import ArgumentError
from app.cli.client import RunRefused
from app.cli.project_files.plan import ImportStep
from app.cli.project_files.portable import PortableTrigger, foreign_ids, with_ids, write_files
from app.cli.project_files.remote import RemoteProject, change

PLACEHOLDER = "wf_" + 26 * "0"
"""The id of a workflow that does not exist yet."""
_VALIDATE = "query ($spec: JSON!) { validateSpec(spec: $spec) { errors { field message } } }"


def export(project: RemoteProject, folder: Path, *, drafts: bool) -> list[str]:
    """Write the published content of each workflow, or its draft.

    Returns:
        Warnings, one sentence each.
    """
    chosen = [
        one.published if one.published is not None and not drafts else one.draft
        for one in sorted(project.workflows.values(), key=lambda one: one.draft.name)
    ]
    write_files(folder, chosen, project.secrets)
    return [
        f"{workflow.name} refers to workflows that are not in the project, and that other environments do not have: "
        f"{', '.join(ids)}"
        for workflow in chosen
        if (ids := foreign_ids(workflow))
    ]


def check_plan(plan: Sequence[ImportStep]) -> None:
    """Refuse to overwrite drafts that nobody has published. Raises ArgumentError."""
    if edited := [step.wanted.name for step in plan if step.loses_draft]:
        raise ArgumentError(
            f"the drafts of {', '.join(edited)} have changes that no version has: make versions of them, or overwrite them with "
            "--force. Nothing was changed"
        )


async def carry_out(project: RemoteProject, plan: Sequence[ImportStep], *, prune: bool) -> None:
    """Create and change what the plan says. Raises RunRefused, which names the workflow."""
    ids = {name: one.id for name, one in project.workflows.items()}
    await _check_specs(project, plan, ids)
    for step in plan:
        if step.present is None:
            with_name = {"name": step.wanted.name, "description": step.wanted.description}
            payload = await change(
                project.client, "createWorkflow", "workflow { id }", projectId=project.id, **with_name
            )
            ids[step.wanted.name] = payload["workflow"]["id"]
    for step in plan:
        try:
            await _change_workflow(project, step, ids)
        except RunRefused as error:
            raise RunRefused(f"{step.wanted.name}: {error}. Import again: what is equal is left alone") from error
    for step in plan:
        await _change_triggers(project, step, ids, prune=prune)


async def _check_specs(project: RemoteProject, plan: Sequence[ImportStep], ids: dict[str, str]) -> None:
    """Check what is to be published, before anything is changed. Raises RunRefused."""
    known = {step.wanted.name: PLACEHOLDER for step in plan} | ids
    for step in plan:
        if step.publishes:
            spec = with_ids(step.wanted.spec, known)
            report = (await project.client.execute(_VALIDATE, spec=spec))["validateSpec"]
            if report["errors"]:
                problems = "; ".join(f"{one['field']}: {one['message']}" for one in report["errors"])
                raise RunRefused(
                    f"{step.wanted.name}: {problems}. Correct the file, and import again. Nothing was changed"
                )


async def _change_workflow(project: RemoteProject, step: ImportStep, ids: dict[str, str]) -> None:
    id, revision = ids[step.wanted.name], 1 if step.present is None else step.present.revision
    if step.describes:
        await change(project.client, "updateWorkflow", "workflow { id }", id=id, description=step.wanted.description)
    if step.exposes:
        await change(project.client, "updateWorkflow", "workflow { id }", id=id, expose=step.wanted.expose)
    if step.saves_draft:
        spec = with_ids(step.wanted.spec, ids)
        saved = {"workflowId": id, "spec": spec, "expectedRevision": revision}
        revision = (await change(project.client, "saveDraft", "draft { revision }", **saved))["draft"]["revision"]
    if step.publishes:
        new = {"workflowId": id, "expectedRevision": revision, "publish": True}
        await change(project.client, "createVersion", "version { id }", **new)


async def _change_triggers(project: RemoteProject, step: ImportStep, ids: dict[str, str], *, prune: bool) -> None:
    existing = {} if step.present is None else step.present.trigger_ids
    kinds = {} if step.present is None else {one.name: one.kind for one in step.present.draft.triggers}
    for trigger in step.wanted.triggers:
        if trigger.name not in step.triggers:
            continue
        values = _values(trigger, ids)
        try:
            if trigger.name in existing and kinds[trigger.name] == trigger.kind:
                await change(project.client, "updateTrigger", "trigger { id }", id=existing[trigger.name], **values)
                continue
            if trigger.name in existing:
                await change(project.client, "deleteTrigger", "deletedId", id=existing[trigger.name])
            new = {"workflowId": ids[step.wanted.name], "kind": trigger.kind, **values}
            await change(project.client, "createTrigger", "trigger { id }", **new)
        except RunRefused as error:
            raise RunRefused(f"{step.wanted.name}, trigger {trigger.name}: {error}") from error
    for name in step.surplus if prune else ():
        await change(project.client, "deleteTrigger", "deletedId", id=existing[name])


def _values(trigger: PortableTrigger, ids: dict[str, str]) -> dict[str, object]:
    return {
        "name": trigger.name,
        "config": with_ids(trigger.config, ids),
        "inputs": trigger.inputs,
        "enabled": trigger.enabled,
    }
