"""No mutation accepts a name, tag or address whose text could mislead: controls, directions, invisible characters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from resolvers.context import Context
from schema.schema import schema
from tests.schema.triggers.test_triggers import DAILY
from tests.schema_client import mutate, new_workflow

GRAPH = schema._schema
REFUSED = (
    "\x1b[31m",
    "\n",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u200b",
    "\ufeff",
    "\U000e0041",
)
ACCEPTED = ("Zoë’s №1 – 工作", "خط\u200cکش", "👩\u200d💻", "a\u00a0b")


async def inputs(context: Context) -> Mapping[str, dict[str, Any]]:
    """Return an input of every mutation that takes a name or tags, by mutation, without them."""
    workflow_id = await new_workflow(context)
    await mutate(context, "setSecret", "secret { name }", name="hook_key", value="the key of the hook")
    endpoint = {"url": "https://example.com/hook", "events": ["RUN_FAILED"], "secret": "hook_key"}
    hook = await mutate(context, "createEndpoint", "endpoint { id }", **endpoint)
    alert = await mutate(context, "createAlertRule", "alertRule { id }", name="a", metric="NO_RUNS")
    trigger = {"workflowId": workflow_id, "kind": "schedule", "config": DAILY}
    created = await mutate(context, "createTrigger", "trigger { id }", name="t", **trigger)
    version = await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    return {
        "createWorkflow": {},
        "updateWorkflow": {"id": workflow_id},
        "duplicateWorkflow": {"id": workflow_id},
        "createVersion": {"workflowId": workflow_id},
        "updateVersion": {"versionId": version["version"]["id"]},
        "createProject": {},
        "createApiKey": {"role": "VIEWER"},
        "createTrigger": trigger,
        "updateTrigger": {"id": created["trigger"]["id"]},
        "setSecret": {"value": "a value of a secret"},
        "sendEvent": {"workflowId": workflow_id, "key": "k", "payload": 1},
        "createEndpoint": endpoint,
        "updateEndpoint": {"id": hook["endpoint"]["id"]},
        "createAlertRule": {"metric": "NO_RUNS"},
        "updateAlertRule": {"id": alert["alertRule"]["id"]},
        "runWorkflow": {"workflowId": workflow_id},
    }


def with_name(mutation: str, input: dict[str, Any], name: str) -> dict[str, Any]:
    if mutation in ("createEndpoint", "updateEndpoint"):
        return input | {"tags": [name]}
    return input | ({"options": {"tags": [name]}} if mutation == "runWorkflow" else {"name": name})


def taking_a_name_or_tags() -> set[str]:
    """Return the mutations that set a name or tags by themselves. Those with `options` share one check."""
    fields = {name: field.args["input"].type.of_type.fields for name, field in GRAPH.mutation_type.fields.items()}  # type: ignore[union-attr]
    return {name for name, of_input in fields.items() if {"name", "tags"} & set(of_input)} - {"deleteSecret"}


async def test_no_mutation_accepts_a_name_with_hidden_characters(context: Context, tmp_path: Path) -> None:
    context.resources = {"secrets": await open_secrets(context.database, KeySource.of(Settings(data_dir=tmp_path)))}
    table = await inputs(context)
    assert set(table) - {"runWorkflow"} == taking_a_name_or_tags()
    for mutation, input in table.items():
        for text in REFUSED:
            payload = await mutate(context, mutation, "__typename", **with_name(mutation, input, f"a{text}b"))
            [error] = payload["errors"][0]["errors"]
            assert error["field"] in ("input.name", "input.tags[0]", "input.options.tags[0]"), (mutation, text)
            # The message of a secret quotes nothing of the name.
            assert f"U+{ord(text[0]):04X}" in error["message"] or mutation == "setSecret", (mutation, error)
        for text in ACCEPTED if mutation != "setSecret" else ():
            payload = await mutate(context, mutation, "__typename", **with_name(mutation, input, f"{text} {mutation}"))
            assert payload["errors"] == [], (mutation, text)


async def test_a_copy_of_a_workflow_with_an_old_name_has_a_visible_one(context: Context) -> None:
    workflow_id = await new_workflow(context, name="plain")
    await context.database.pool.execute("UPDATE workflows SET name = $2 WHERE id = $1", workflow_id, "a\u202eb")
    copy = await mutate(context, "duplicateWorkflow", "workflow { name }", id=workflow_id)
    assert (copy["workflow"]["name"], copy["errors"]) == ("ab (copy)", [])


@pytest.mark.parametrize("mutation", ["createWorkflow", "createApiKey"])
async def test_a_message_says_which_character_is_wrong(context: Context, mutation: str) -> None:
    payload = await mutate(
        context, mutation, "__typename", **({"role": "VIEWER"} if mutation == "createApiKey" else {}), name="ab\u202ecd"
    )
    [error] = payload["errors"][0]["errors"]
    message = "must have visible characters only: character 3 is U+202E RIGHT-TO-LEFT OVERRIDE; remove it"
    assert (error["code"], error["message"]) == ("FORMAT", message)
