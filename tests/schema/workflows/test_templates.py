"""Workflow templates: the list of them, and workflows created from one."""

from resolvers.context import Context
from tests.schema_client import call, mutate


async def test_a_workflow_can_start_from_a_template(context: Context) -> None:
    listed = (await call(context, "{ templates { name title description spec exampleInputs } }"))["templates"]
    triage = next(template for template in listed if template["name"] == "support_triage")
    answer = "workflow { name draft { spec } }"
    payload = await mutate(context, "createWorkflow", answer, name="Mine", template="support_triage")
    assert payload["errors"] == []
    spec = payload["workflow"]["draft"]["spec"]
    assert spec["nodes"] == triage["spec"]["nodes"] and spec["inputs"] == triage["spec"]["inputs"]


async def test_an_unknown_template_is_named_in_the_error(context: Context) -> None:
    payload = await mutate(context, "createWorkflow", "workflow { id }", name="Mine", template="nope")
    [problem] = payload["errors"][0]["errors"]
    assert (problem["field"], problem["code"]) == ("input.template", "UNKNOWN") and "'nope'" in problem["message"]
    both = await mutate(context, "createWorkflow", "workflow { id }", name="Mine", template="nope", spec={})
    assert both["errors"][0]["errors"][0]["code"] == "EXCLUSIVE"
