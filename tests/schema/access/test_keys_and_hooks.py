"""Idempotency keys and addresses of webhooks say nothing about other projects."""

from dataclasses import replace
from typing import Any

import pytest

from engine.triggers.webhook import WebhookMessage
from persistence.caller import Caller, Role
from persistence.workflows import projects
from resolvers.context import Context
from resolvers.triggers.responses import HookResponse
from resolvers.triggers.webhooks import receive
from tests.schema_client import call, mutate, new_workflow
from tests.statement_counter import count_statements


@pytest.fixture
async def outsider(context: Context) -> Context:
    """Another caller, who is admin of another project."""
    async with context.database.begin() as connection:
        own = await projects.create(connection, "of the outsider")
    return replace(context, caller=Caller("outsider", {own.id: Role.ADMIN}))


async def test_a_key_that_another_project_has_used_is_a_new_one(context: Context, outsider: Context) -> None:
    runs = set()
    for caller in (context, outsider):
        workflow_id = await new_workflow(caller)
        input = {"workflowId": workflow_id, "inputs": {"value": 1}}
        payload = await mutate(caller, "runWorkflow", "run { id }", **input, idempotencyKey="the same key")
        assert payload["errors"] == []
        runs.add(payload["run"]["id"])
    assert len(runs) == 2


async def new_webhook(context: Context) -> dict[str, Any]:
    workflow_id = await new_workflow(context)
    await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    input = {"workflowId": workflow_id, "kind": "webhook", "name": "Hook", "config": {}, "inputs": {"value": 1}}
    payload = await mutate(context, "createTrigger", "trigger { id webhookUrl testWebhookUrl }", **input)
    trigger: dict[str, Any] = payload["trigger"]
    return trigger


async def send(context: Context, token: str) -> HookResponse:
    message = WebhookMessage("POST", {"content-type": "application/json"}, {}, b"{}")
    return await receive(lambda caller: replace(context, caller=caller), context, token, message, "192.0.2.1")


async def test_an_address_is_shown_to_editors_only_and_ends_with_its_trigger(context: Context, project: str) -> None:
    trigger = await new_webhook(context)
    query = "query($id: ID!) { trigger(id: $id) { webhookUrl testWebhookUrl } }"
    for role in Role:
        caller = replace(context, caller=Caller("x", {project: role}))
        shown = (await call(caller, query, id=trigger["id"]))["trigger"]
        assert (None not in shown.values()) is role.includes(Role.EDITOR), role
    token = trigger["webhookUrl"].rpartition("/")[2]
    assert (await send(context, token)).status == 202
    await mutate(context, "deleteTrigger", "deletedId", id=trigger["id"])
    async with count_statements(context.database) as statements:
        refused = [await send(context, text) for text in (token, "no-such-token", trigger["id"])]
    assert len(set(statements)) == 1 and len(statements) == len(refused)
    refused += [await send(context, text) for text in ("", "\0", "\ud800", "x" * 10_000, "a b", "ü")]
    assert {(one.status, str(one.body)) for one in refused} == {(404, str(refused[0].body))}


async def test_no_message_to_a_webhook_is_a_fault(context: Context) -> None:
    token = (await new_webhook(context))["webhookUrl"].rpartition("/")[2]
    texts = ("", "\0", "x" * 10_000, "ü", "a\r\nb")
    bodies = (b"", b"\0", b"\xff\xfe", b"[" * 10_000, b'{"a": "\\u0000 \\ud800"}', b'{"a": 1e999}', b"[1]", b"null")
    types = ("application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "a", "\0")
    messages = [
        *(WebhookMessage("POST", {"content-type": type}, {}, body) for type in types for body in bodies),
        *(WebhookMessage("POST", {"content-type": types[0], "x-h": text}, {text: text}, b"{}") for text in texts),
        *(WebhookMessage(method, {}, {}, b"") for method in ("GET", "POST")),
    ]
    for message in messages:
        response = await receive(lambda caller: replace(context, caller=caller), context, token, message, "192.0.2.1")
        assert response.status < 500, message
