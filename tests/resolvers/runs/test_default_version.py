"""A run executes the version that is the default one when it is accepted, whatever the server remembers."""

from dataclasses import replace
from typing import Any

import pytest

from engine.types import JSON
from persistence.caller import Role
from persistence.problems import Forbidden, Invalid, NotFound
from resolvers.context import Context
from resolvers.runs import start
from resolvers.runs.start import StartArguments
from resolvers.workflows import versions, workflows

NODES: dict[str, JSON] = {"nodes": [{"id": "end", "type": "end", "config": {}}], "edges": []}


def spec_with(name: str) -> dict[str, JSON]:
    """A spec whose runs need the input `name`."""
    schema: dict[str, Any] = {"type": "object", "properties": {name: {"type": "number"}}, "required": [name]}
    return {**NODES, "inputs": {**schema, "additionalProperties": False}}


async def test_a_run_executes_the_version_that_is_the_default_at_its_start(context: Context, project: str) -> None:
    workflow = await workflows.create_workflow(
        context, project_id=project, name="Default", description="", spec=spec_with("a"), template=None
    )
    arguments = StartArguments(workflow_id=workflow.id)

    async def version(name: str, **changes: Any) -> str:
        # Twice: the first run of a version is accepted without a guess, and the second one with it.
        runs = [await start.run_workflow(context, replace(arguments, inputs={name: 1}, **changes)) for _ in range(2)]
        assert runs[0].version_id == runs[1].version_id
        return runs[0].version_id

    first = await version("a")
    numbered, _ = await versions.create_version(context, workflow.id, None, publish=False)
    assert await version("a") == numbered.id
    await workflows.save_draft(context, workflow.id, spec_with("b"), 1)
    with pytest.raises(Invalid):
        await start.run_workflow(context, replace(arguments, inputs={"a": 1}))
    second = await version("b")
    assert second != first
    assert await version("a", version_id=first) == first
    await versions.publish_version(context, numbered.id)
    assert await version("a") == numbered.id
    viewer = replace(context, caller=replace(context.caller, roles={project: Role.VIEWER}))
    with pytest.raises(Forbidden):
        await start.run_workflow(viewer, replace(arguments, inputs={"a": 1}))
    with pytest.raises(NotFound):
        await start.run_workflow(
            replace(context, caller=replace(context.caller, roles={})), replace(arguments, inputs={"a": 1})
        )
    await workflows.delete_workflow(context, workflow.id, cancel_runs=True)
    with pytest.raises(NotFound):
        await start.run_workflow(context, replace(arguments, inputs={"a": 1}))
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == 0
