"""A version has the newest layout and labels of its content, and shows them in its runs."""

from typing import Any

from resolvers.context import Context
from tests.schema_client import LINEAR, call, mutate, new_workflow

START, END = LINEAR["nodes"]
SPEC = "draft { revision spec }"
VERSION = "version { id number spec } created"


def laid_out(x: int, label: str, output: object = "{{ input.value }}") -> dict[str, Any]:
    """Return LINEAR with a position and a label at its first node."""
    first = {**START, "position": {"x": x, "y": 0}, "label": label}
    return {**LINEAR, "nodes": [first, {**END, "config": {"output": output}}]}


def first_node(spec: Any) -> tuple[int, str]:
    return spec["nodes"][0]["position"]["x"], spec["nodes"][0]["label"]


async def save(context: Context, workflow_id: str, spec: object, revision: int) -> None:
    payload = await mutate(context, "saveDraft", SPEC, workflowId=workflow_id, spec=spec, expectedRevision=revision)
    assert payload["draft"]["revision"] == revision + 1


async def test_a_restored_version_has_the_newest_layout_of_its_content(context: Context) -> None:
    workflow_id = await new_workflow(context, laid_out(1, "old"))
    first = (await mutate(context, "createVersion", VERSION, workflowId=workflow_id))["version"]
    await save(context, workflow_id, laid_out(2, "new"), 1)
    again = await mutate(context, "createVersion", VERSION, workflowId=workflow_id)
    assert (again["created"], again["version"]["id"]) == (False, first["id"])
    assert first_node(again["version"]["spec"]) == (2, "new")
    await save(context, workflow_id, laid_out(3, "newer"), 2)
    await save(context, workflow_id, laid_out(4, "other", output="other"), 3)
    second = (await mutate(context, "createVersion", VERSION, workflowId=workflow_id))["version"]
    restored = await mutate(context, "restoreVersion", SPEC, versionId=first["id"], expectedRevision=4)
    assert first_node(restored["draft"]["spec"]) == (3, "newer")
    restored = await mutate(context, "restoreVersion", SPEC, versionId=second["id"], expectedRevision=5)
    assert first_node(restored["draft"]["spec"]) == (4, "other")


RUN = "run { id version { spec } nodeStates { label } } errors { code }"


async def test_a_run_shows_the_labels_of_the_draft_that_it_runs(context: Context) -> None:
    workflow_id = await new_workflow(context, laid_out(1, "old"))
    for revision, label in enumerate(("new", "newer"), start=1):
        await mutate(context, "runWorkflow", RUN, workflowId=workflow_id, inputs={"value": 1})
        await save(context, workflow_id, laid_out(revision, label), revision)
        run = (await mutate(context, "runWorkflow", RUN, workflowId=workflow_id, inputs={"value": 1}))["run"]
        assert run["nodeStates"][0]["label"] == label
        assert first_node(run["version"]["spec"]) == (revision, label)
    versions = await call(
        context, "query ($id: ID!) { workflow(id: $id) { versions { nodes { id } } } }", id=workflow_id
    )
    assert versions["workflow"]["versions"]["nodes"] == []


async def test_an_ad_hoc_run_shows_its_own_labels(context: Context) -> None:
    for number, label in enumerate(("one", "two")):
        spec = laid_out(number, label)
        run = (await mutate(context, "runAdhoc", RUN, spec=spec, inputs={"value": 1}))["run"]
        assert run["nodeStates"][0]["label"] == label
