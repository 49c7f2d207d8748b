"""The operations of docs/triggers.md work in their order, and their inputs are those of the page."""

import re
from pathlib import Path
from typing import Any

from app.settings import Settings
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from resolvers.context import Context
from tests.paths import ROOT
from tests.schema_client import call, mutate, new_workflow, with_output

PAGE = (ROOT / "docs" / "triggers.md").read_text("utf-8")
OPERATIONS = re.findall(r"```graphql\n(.*?)```", PAGE, re.DOTALL)
FINISHED = {"workflowId": "", "kind": "run_finished", "name": "On failure"}


async def test_the_operations_of_the_page_work_in_their_order(context: Context, tmp_path: Path) -> None:
    secrets = await open_secrets(context.database, KeySource.of(Settings(data_dir=tmp_path)))
    context.resources, context.public_url = {"secrets": secrets}, "https://treadle.example.com"
    workflow_id = await new_workflow(context, with_output("{{ input }}"))
    await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    trigger_id = ""
    answers: dict[str, list[dict[str, Any]]] = {}
    for operation in OPERATIONS:
        text = (
            operation.replace("wf_…", workflow_id).replace("trg_…", trigger_id).replace("whsec_…", "whsec_" + "a" * 44)
        )
        for name, value in (await call(context, text)).items():
            assert (value.get("errors", []), value.get("warnings", [])) == ([], []), (name, value)
            answers.setdefault(name, []).append(value)
            trigger_id = (value.get("trigger") or {}).get("id", trigger_id)
    [tested], [updated], [deleted] = answers["testTrigger"], answers["updateTrigger"], answers["deleteTrigger"]
    assert (tested["inputs"], tested["wouldFire"]) == ({"day": "2030-01-01T09:00:00Z"}, True)
    assert updated["trigger"]["config"]["cron"] == "0 8 * * *"
    assert deleted["deletedId"] == updated["trigger"]["id"]
    assert any("webhookUrl" in created["trigger"] for created in answers["createTrigger"])


async def test_a_code_that_looks_like_a_known_one_has_a_warning_with_a_suggestion(context: Context) -> None:
    workflow_id = await new_workflow(context)
    codes = ["CRASH_LOOP", "timeout", "HTTP_STATE", "MY_OWN_CODE", "DEADLINE"]
    input: dict[str, Any] = {**FINISHED, "workflowId": workflow_id, "config": {"codes": codes}, "enabled": False}
    created = await mutate(context, "createTrigger", "trigger { id } warnings { field code message }", **input)
    found = [(warning["field"], warning["code"], warning["message"]) for warning in created["warnings"]]
    assert created["errors"] == []
    assert [(field, code) for field, code, _ in found] == [
        ("input.config.codes[1]", "UNKNOWN_CODE"),
        ("input.config.codes[2]", "UNKNOWN_CODE"),
    ]
    assert "`TIMEOUT`" in found[0][2] and "`HTTP_STATUS`" in found[1][2]
