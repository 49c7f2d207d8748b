"""The defaults of the `inputs` schema complete the input of every run that is created."""

from resolvers.context import Context
from tests.schema_client import LINEAR, mutate, new_workflow

WITH_DEFAULTS = {
    **LINEAR,
    "inputs": {
        "type": "object",
        "required": ["value", "options"],
        "properties": {
            "value": {"type": "integer", "default": 5},
            "options": {"type": "object", "default": {}, "properties": {"limit": {"default": 10}}},
        },
    },
}
INPUTS = "run { id inputs }"
COMPLETE = {"value": 5, "options": {"limit": 10}}


async def test_defaults_complete_the_input_wherever_a_run_is_created(context: Context) -> None:
    workflow_id = await new_workflow(context, WITH_DEFAULTS)
    for _ in range(2):  # The second run takes the version from the cache.
        run = (await mutate(context, "runWorkflow", INPUTS, workflowId=workflow_id))["run"]
        assert run["inputs"] == COMPLETE
    run = (await mutate(context, "runAdhoc", INPUTS, spec=WITH_DEFAULTS, inputs={"value": 1}))["run"]
    assert run["inputs"] == {**COMPLETE, "value": 1}
    created = (await mutate(context, "createRun", INPUTS, workflowId=workflow_id))["run"]
    assert created["inputs"] == COMPLETE
    executed = await mutate(context, "executeRun", INPUTS, runId=created["id"], inputs={"options": {"limit": 1}})
    assert executed["run"]["inputs"] == {"value": 5, "options": {"limit": 1}}
    refused = await mutate(context, "runWorkflow", INPUTS, workflowId=workflow_id, inputs={"value": "x"})
    assert [problem["field"] for problem in refused["errors"][0]["errors"]] == ["inputs.value"]
