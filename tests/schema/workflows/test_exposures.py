"""`Workflow.expose`: the name by which other systems and agents run a workflow."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from persistence.caller import Caller, Role
from persistence.problems import Limit
from persistence.workflows import exposures
from resolvers.context import Context
from resolvers.workflows.exposures import list_exposed, schemas_of
from tests.schema_client import LINEAR, call, mutate, new_workflow

EXPOSE = "workflow { expose { name description mcp http } }"
TOOL = {"name": "summarise", "description": "Summarises a text.", "mcp": True, "http": False}


async def expose(context: Context, workflow_id: str, value: object) -> dict[str, Any]:
    return await mutate(context, "updateWorkflow", EXPOSE, id=workflow_id, expose=value)


async def publish(context: Context, workflow_id: str) -> None:
    payload = await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    assert payload["errors"] == []


async def names(context: Context, **where: str) -> list[str]:
    return [one.exposure.name for one in await list_exposed(context, **where)]


async def test_an_exposure_is_set_kept_replaced_and_cleared(context: Context) -> None:
    workflow_id = await new_workflow(context)
    assert (await expose(context, workflow_id, TOOL))["workflow"]["expose"] == TOOL
    renamed = await mutate(context, "updateWorkflow", EXPOSE, id=workflow_id, name="Other")
    assert renamed["workflow"]["expose"] == TOOL
    other = {"name": "other-name", "description": "", "mcp": False, "http": True}
    changed = await expose(context, workflow_id, {"name": "other-name", "http": True})
    assert changed["workflow"]["expose"] == other
    assert (await expose(context, workflow_id, None))["workflow"]["expose"] is None
    entries = await call(context, '{ auditLog(filter: {action: ["updateWorkflow"]}) { nodes { before after } } }')
    cleared, replaced, _, first = entries["auditLog"]["nodes"]
    assert (first["before"]["expose"], first["after"]["expose"]) == (None, TOOL)
    assert (replaced["before"]["expose"], replaced["after"]["expose"]) == (TOOL, other)
    assert (cleared["before"]["expose"], cleared["after"]["expose"]) == (other, None)


@pytest.mark.parametrize(
    ("value", "field", "code"),
    [
        ({"name": ""}, "name", "FORMAT"),
        ({"name": "Ünicode"}, "name", "FORMAT"),
        ({"name": "two words"}, "name", "FORMAT"),
        ({"name": "a/b"}, "name", "FORMAT"),
        ({"name": "1st"}, "name", "FORMAT"),
        ({"name": "a" * 49}, "name", "FORMAT"),
        ({"name": "line\n"}, "name", "FORMAT"),
        ({"name": "runs"}, "name", "RESERVED"),
        ({"name": "treadle_list_runs"}, "name", "RESERVED"),
        ({"name": "a", "description": "d" * 2001}, "description", "LENGTH"),
    ],
)
async def test_a_name_is_one_part_of_an_address_and_of_a_function(
    context: Context, value: dict[str, str], field: str, code: str
) -> None:
    workflow_id = await new_workflow(context)
    [problem] = (await expose(context, workflow_id, value))["errors"]
    assert [(one["field"], one["code"]) for one in problem["errors"]] == [(f"input.expose.{field}", code)]
    found = await call(context, "query ($id: ID!) { workflow(id: $id) { expose { name } } }", id=workflow_id)
    assert found["workflow"]["expose"] is None


async def test_one_of_two_simultaneous_calls_gets_a_name_and_another_project_may_use_it_too(context: Context) -> None:
    first, second = await new_workflow(context), await new_workflow(context)
    payloads = await asyncio.gather(*(expose(context, one, TOOL) for one in (first, second)))
    problems = [problem["errors"][0] for payload in payloads for problem in payload["errors"]]
    assert [(one["field"], one["code"]) for one in problems] == [("input.expose.name", "TAKEN")]
    created = await mutate(context, "createProject", "project { id }", name="another")
    project_id = created["project"]["id"]
    elsewhere = await mutate(context, "createWorkflow", "workflow { id }", projectId=project_id, name="w")
    assert (await expose(context, elsewhere["workflow"]["id"], TOOL))["errors"] == []


async def test_only_published_workflows_that_the_caller_may_run_are_exposed(context: Context) -> None:
    workflow_id = await new_workflow(context)
    await expose(context, workflow_id, TOOL)
    assert await names(context) == []
    await publish(context, workflow_id)
    assert await names(context) == await names(context, project="default") == ["summarise"]
    assert await names(context, name="another") == []
    project_id = context.caller.projects[0]
    for role, expected in ((Role.VIEWER, []), (Role.RUNNER, ["summarise"])):
        other = replace(context, caller=Caller("other", {project_id: role}))
        assert await names(other) == expected
    await mutate(context, "deleteWorkflow", "deletedId", id=workflow_id)
    assert await names(context) == []


async def test_large_schemas_are_refused_before_they_are_read(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"type": "object", "description": "é" * 100}
    spec = {**LINEAR, "inputs": inputs, "outputs": {"total": "{{ end.output }}"}}
    created = await mutate(context, "createWorkflow", "workflow { id }", name="w", spec=spec)
    await expose(context, created["workflow"]["id"], TOOL)
    await publish(context, created["workflow"]["id"])
    chosen = await list_exposed(context)
    [schemas] = await schemas_of(context, chosen)
    assert (schemas.inputs, schemas.output["required"]) == (inputs, ["total"])
    monkeypatch.setattr(exposures, "MAX_SPEC_BYTES", 200)
    with pytest.raises(Limit, match="choose a project"):
        await schemas_of(context, chosen)
