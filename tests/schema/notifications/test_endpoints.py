"""Endpoints over the API: all problems at once, what each role sees, and what the audit log has."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from persistence.caller import Caller, Role
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from resolvers.context import Context
from tests.persistence.notifications.stored_endpoints import set_status
from tests.schema_client import LINEAR, call, mutate, new_workflow

URL = "https://hooks.example.com/services/T0/secret-path"
FIELDS = "endpoint { id url events description tags secret enabled workflows { id } lastError failingSince }"
DELIVERIES = """query($status: DeliveryStatus) { endpoints { url deliveries(status: $status) {
  nodes { id event status attempts subjectId payload endpoint { id } } } } }"""


@pytest.fixture
async def host(context: Context, tmp_path: Path) -> AsyncIterator[Context]:
    secrets = await open_secrets(context.database, KeySource.of(Settings(data_dir=tmp_path)))
    context.resources = {"secrets": secrets}
    await mutate(context, "setSecret", "secret { name }", name="hook_key", value="the key of the hook")
    yield context


async def test_all_problems_are_reported_at_once(host: Context) -> None:
    wrong: dict[str, Any] = {
        "url": "ftp://example.com",
        "events": [],
        "secret": "the key itself",
        "tags": ["ok", " "],
        "workflowIds": ["wf_unknown"],
        "description": "x" * 10_001,
    }
    payload = await mutate(host, "createEndpoint", FIELDS, **wrong)
    found = {(one["field"], one["code"]) for one in payload["errors"][0]["errors"]}
    assert found == {
        ("input.url", "URL"),
        ("input.events", "LENGTH"),
        ("input.secret", "UNKNOWN"),
        ("input.tags[1]", "FORMAT"),
        ("input.workflowIds[0]", "UNKNOWN"),
        ("input.description", "LENGTH"),
    }
    assert "the key itself" not in str(payload)
    for url in (
        "",
        "example.com",
        "https://user:key@example.com/",
        "https://",
        "http://x/" + "a" * 2000,
        "http://[/",
        "https://x.test/\u202e",
    ):
        payload = await mutate(host, "createEndpoint", FIELDS, url=url, events=["RUN_FAILED"], secret="hook_key")
        assert [one["field"] for one in payload["errors"][0]["errors"]] == ["input.url"], url


async def test_the_life_of_an_endpoint_and_its_deliveries(host: Context) -> None:
    workflow_id = await new_workflow(host)
    made = (await mutate(host, "createEndpoint", FIELDS, url=URL, events=["RUN_FAILED"], secret="hook_key"))["endpoint"]
    assert made == {
        "id": made["id"],
        "url": URL,
        "events": ["RUN_FAILED"],
        "description": "",
        "tags": [],
        "secret": "hook_key",
        "enabled": True,
        "workflows": [],
        "lastError": None,
        "failingSince": None,
    }
    run_id = (await mutate(host, "runAdhoc", "run { id }", spec=LINEAR, inputs={}))["run"]["id"]
    await set_status(host.database, run_id, "FAILED", "NODE")
    [listed] = (await call(host, DELIVERIES))["endpoints"]
    [message] = listed["deliveries"]["nodes"]
    assert (message["event"], message["status"], message["subjectId"]) == ("RUN_FAILED", "PENDING", run_id)
    refused = await mutate(host, "resendDelivery", "delivery { id }", id=message["id"])
    assert refused["errors"][0]["code"] == "INVALID_STATE"
    failed = "UPDATE deliveries SET status = 'FAILED', attempts = 11"
    await host.database.pool.execute(failed)
    assert [
        len(one["deliveries"]["nodes"]) for one in (await call(host, DELIVERIES, status="PENDING"))["endpoints"]
    ] == [0]
    resent = await mutate(host, "resendDelivery", "delivery { status attempts nextAttemptAt }", id=message["id"])
    assert (resent["delivery"]["status"], resent["delivery"]["attempts"]) == ("PENDING", 11)
    await host.database.pool.execute("UPDATE endpoints SET enabled = false, failing_since = now(), last_error = 'e'")
    edited = {"workflowIds": [workflow_id], "tags": ["a"], "description": "d", "events": ["RUN_WAITING", "RUN_WAITING"]}
    changed = (await mutate(host, "updateEndpoint", FIELDS, id=made["id"], enabled=True, **edited))["endpoint"]
    assert (changed["enabled"], changed["lastError"], changed["failingSince"]) == (True, None, None)
    assert (changed["url"], changed["events"], changed["workflows"]) == (URL, ["RUN_WAITING"], [{"id": workflow_id}])
    cleared = await mutate(host, "updateEndpoint", FIELDS, id=made["id"], tags=None, workflowIds=None, description=None)
    assert [cleared["endpoint"][name] for name in ("tags", "workflows", "description")] == [[], [], ""]
    entries = (await call(host, "{ auditLog(first: 10) { nodes { action before after } } }"))["auditLog"]["nodes"]
    assert {"createEndpoint", "updateEndpoint", "resendDelivery"} <= {one["action"] for one in entries}
    assert "secret-path" not in str(entries)
    assert (await mutate(host, "deleteEndpoint", "deletedId", id=made["id"]))["deletedId"] == made["id"]
    assert (await call(host, DELIVERIES))["endpoints"] == []


async def test_viewers_do_not_see_the_path_and_a_project_has_a_limit(host: Context, project: str) -> None:
    input = {"url": URL, "events": ["RUN_FAILED"], "secret": "hook_key"}
    for _ in range(50):
        assert (await mutate(host, "createEndpoint", "endpoint { id }", **input))["errors"] == []
    assert (await mutate(host, "createEndpoint", "endpoint { id }", **input))["errors"][0]["code"] == "LIMIT"
    for role, shown in ((Role.VIEWER, "https://hooks.example.com/•••"), (Role.EDITOR, URL)):
        context = replace(host, caller=Caller("someone", {project: role}))
        seen = (await call(context, "{ endpoints { url } }"))["endpoints"]
        assert {one["url"] for one in seen} == {shown}
