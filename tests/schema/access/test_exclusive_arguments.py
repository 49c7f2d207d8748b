"""Arguments that exclude each other are refused together: none of them is ignored."""

from typing import Any

import pytest

from resolvers.context import Context
from tests.schema_client import LINEAR, mutate, new_workflow

CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "createRun",
        {"workflowId": "{workflow}", "versionId": "ver_x", "draftRevision": 1},
        ["versionId", "draftRevision"],
    ),
    (
        "runWorkflow",
        {"workflowId": "{workflow}", "versionId": "ver_x", "draftRevision": 1},
        ["versionId", "draftRevision"],
    ),
    ("createWorkflow", {"name": "w", "spec": LINEAR, "template": "draft_and_revise"}, ["template"]),
    ("resumeRun", {"runId": "run_x", "checkpointId": "chk_x", "waitId": "wait_x"}, ["waitId"]),
    ("sendEvent", {"runId": "run_x", "workflowId": "{workflow}", "key": "k", "name": "n"}, ["runId"]),
    ("testTrigger", {"id": "{trigger}", "workflowId": "wf_x"}, ["workflowId"]),
    ("testTrigger", {"id": "{trigger}", "kind": "webhook"}, ["kind"]),
]


@pytest.fixture
async def ids(context: Context) -> dict[str, str]:
    workflow_id = await new_workflow(context)
    input = {"workflowId": workflow_id, "kind": "schedule", "name": "t", "config": {"cron": "0 * * * *"}}
    made = await mutate(context, "createTrigger", "trigger { id }", **input)
    return {"{workflow}": workflow_id, "{trigger}": made["trigger"]["id"]}


async def test_exclusive_arguments_are_refused(context: Context, ids: dict[str, str]) -> None:
    for name, arguments, fields in CASES:
        input = {key: ids.get(value, value) if isinstance(value, str) else value for key, value in arguments.items()}
        payload = await mutate(context, name, "__typename", **input)
        [problem] = payload["errors"]
        found = [(error["field"], error["code"]) for error in problem["errors"]]
        assert found == [(f"input.{field}", "EXCLUSIVE") for field in fields], (name, problem)
