"""Triggers over the API: create, change, delete, list, run, test, backfill and follow."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from engine.triggers.registry import installed_trigger_kinds
from persistence.caller import Caller, Role
from persistence.runs.queue_limit import QueueLimit
from persistence.triggers.due import DueTriggers
from resolvers.context import Context
from schema.schema import schema
from tests.schema_client import PROBLEM, call, mutate, new_workflow

TRIGGER = "trigger { id kind name config inputs enabled nextFireAt lastError failures workflow { id } createdBy }"
DAILY = {"cron": "0 9 * * *"}


async def new_trigger(context: Context, workflow_id: str, config: Any = DAILY, **more: Any) -> dict[str, Any]:
    input = {"workflowId": workflow_id, "kind": "schedule", "name": "Daily", "config": config, **more}
    payload = await mutate(context, "createTrigger", TRIGGER, **input)
    assert payload["errors"] == []
    trigger: dict[str, Any] = payload["trigger"]
    return trigger


def deduplicated(template: str) -> dict[str, Any]:
    return {"kind": "webhook", "config": {"dedupe": {"template": template}}}


async def published(context: Context) -> str:
    workflow_id = await new_workflow(context)
    created = await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    assert created["errors"] == []
    return workflow_id


def due(context: Context) -> DueTriggers:
    return DueTriggers(context.database, installed_trigger_kinds(), max_failures=20, queue_limit=QueueLimit())


async def test_a_trigger_of_a_workflow_without_a_published_version_has_a_warning(context: Context) -> None:
    workflow_id = await new_workflow(context)
    input = {"workflowId": workflow_id, "kind": "schedule", "name": "Daily", "config": DAILY}
    answer = "trigger { id } warnings { field code severity }"
    created = await mutate(context, "createTrigger", answer, **input)
    warning = {"field": "input.workflowId", "code": "NOT_PUBLISHED", "severity": "WARNING"}
    assert (created["warnings"], created["errors"]) == ([warning], [])
    id = created["trigger"]["id"]
    off = await mutate(context, "updateTrigger", answer, id=id, enabled=False)
    assert (off["warnings"], off["errors"]) == ([], [])
    await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    on = await mutate(context, "updateTrigger", answer, id=id, enabled=True)
    assert (on["warnings"], on["errors"]) == ([], [])


async def test_all_problems_of_a_trigger_are_reported_at_once(context: Context) -> None:
    config = {"cron": "61 * * * *", "timezone": "Mars/Base", "start": "2030-01-02", "end": "2030-01-01", "typo": 1}
    input = {"workflowId": await new_workflow(context), "kind": "schedule", "name": " ", "config": config}
    payload = await mutate(context, "createTrigger", TRIGGER, **input, inputs="{{ nope }}")
    fields = {error["field"] for error in payload["errors"][0]["errors"]}
    names = ("config.cron", "config.timezone", "config.typo", "config", "inputs", "name")
    assert fields == {f"input.{name}" for name in names}
    id = (await new_trigger(context, input["workflowId"]))["id"]
    changed = await mutate(context, "updateTrigger", TRIGGER, id=id, name=" ", config=config, inputs="{{ nope }}")
    assert {error["field"] for error in changed["errors"][0]["errors"]} == fields
    named = await mutate(context, "updateTrigger", TRIGGER, id=id, name=" ")
    assert [error["field"] for error in named["errors"][0]["errors"]] == ["input.name"]


async def test_a_trigger_is_created_listed_and_deleted(context: Context) -> None:
    workflow_id = await new_workflow(context)
    trigger = await new_trigger(context, workflow_id)
    assert (trigger["kind"], trigger["enabled"], trigger["inputs"]) == ("schedule", True, "{{ event }}")
    next_fire_at = datetime.fromisoformat(trigger["nextFireAt"])
    assert (next_fire_at.hour, next_fire_at.minute) == (9, 0) and next_fire_at > datetime.now(UTC)
    other = await new_trigger(context, workflow_id, {"intervalS": 60}, enabled=False)
    assert other["nextFireAt"] is None
    query = """query($id: ID!, $workflow: ID!) {
      node(id: $id) { ... on Trigger { name nextTimes(first: 3) events { nodes { id } } } }
      trigger(id: $id) { id } triggers { nodes { id } }
      workflows { nodes { triggers { nodes { id } } } } runs(filter: {triggerId: $id}) { nodes { id } }
      workflow(id: $workflow) { triggers(first: 1) { nodes { id } pageInfo { hasNextPage } } } }"""
    data = await call(context, query, id=trigger["id"], workflow=workflow_id)
    times = [datetime.fromisoformat(time) for time in data["node"]["nextTimes"]]
    assert times == [next_fire_at + timedelta(days=day) for day in range(3)]
    ids = [{"id": other["id"]}, {"id": trigger["id"]}]
    assert data["triggers"]["nodes"] == ids == data["workflows"]["nodes"][0]["triggers"]["nodes"]
    assert data["workflow"]["triggers"] == {"nodes": ids[:1], "pageInfo": {"hasNextPage": True}}
    assert (data["node"]["events"]["nodes"], data["runs"]["nodes"]) == ([], [])
    deleted = await mutate(context, "deleteTrigger", "deletedId", id=trigger["id"])
    assert deleted == {"deletedId": trigger["id"], "errors": []}
    assert (await call(context, "query($id: ID!) { trigger(id: $id) { id } }", id=trigger["id"]))["trigger"] is None
    again = await mutate(context, "deleteTrigger", "deletedId", id=trigger["id"])
    assert again["errors"][0]["code"] == "NOT_FOUND"


async def test_create_trigger_is_idempotent(context: Context) -> None:
    workflow_id = await new_workflow(context)
    first, second = await asyncio.gather(*(new_trigger(context, workflow_id, idempotencyKey="key-1") for _ in range(2)))
    assert first == second
    input = {"workflowId": workflow_id, "kind": "schedule", "name": "Other", "config": DAILY, "idempotencyKey": "key-1"}
    conflict = await mutate(context, "createTrigger", TRIGGER, **input)
    assert conflict["errors"][0]["code"] == "CONFLICT"
    assert len((await call(context, "{ triggers { nodes { id } } }"))["triggers"]["nodes"]) == 1


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"kind": "cron"}, "input.kind", "there is no trigger kind 'cron'; this host has"),
        ({"name": " "}, "input.name", "must have 1 to 200 characters"),
        ({"config": "daily"}, "input.config", "must be an object"),
        ({"config": {"cron": "0 0 30 2 *"}}, "input.config.cron", "never fires"),
        (
            {"config": {"cron": "0 9 * * *", "timezone": "Mars/Olympus"}},
            "input.config.timezone",
            "there is no time zone",
        ),
        (
            {"config": {"cron": "0 9 * * *", "end": "2020-01-01T00:00:00Z"}},
            "input.config",
            "no planned time in the future",
        ),
        ({"config": {"intervalS": 5, "jitterS": 60}}, "input.config", "`jitterS` must be at most `intervalS`"),
        ({"config": {"cron": "0 9 * * *", "overlap": "wait"}}, "input.config.overlap", "must be"),
        ({"config": {"cron": "x" * 70_000}}, "input.config", "over the limit"),
        ({"inputs": {"a": ["{{ event.x"]}}, "input.inputs.a[0]", ""),
        ({"inputs": {"a": "{{ secrets.key }}"}}, "input.inputs.a", "there is no name `secrets` here"),
        ({"inputs": {"a": "{{ event.x | frob }}"}}, "input.inputs.a", "there is no filter `frob`"),
        ({"inputs": {"a": "{{ event.x is match('a') }}"}}, "input.inputs.a", "there is no test `match`"),
        (deduplicated("{{ secrets.key }}"), "input.config.dedupe.template", "there is no name `secrets` here"),
        (deduplicated("{{ event.x is not match('a') }}"), "input.config.dedupe.template", "there is no test `match`"),
        ({"idempotencyKey": ""}, "input.idempotencyKey", "must have 1 to 255 characters"),
    ],
)
async def test_a_bad_trigger_is_refused_with_the_field(
    context: Context, changes: dict[str, Any], field: str, message: str
) -> None:
    input = {"workflowId": await new_workflow(context), "kind": "schedule", "name": "Daily", "config": DAILY}
    payload = await mutate(context, "createTrigger", TRIGGER, **{**input, **changes})
    assert payload["trigger"] is None
    problems = payload["errors"][0]["errors"]
    assert any(problem["field"] == field and message in problem["message"] for problem in problems), problems


async def test_an_error_workflow_follows_a_workflow_of_its_project(context: Context) -> None:
    workflow_id = await new_workflow(context)
    input = {"workflowId": workflow_id, "kind": "run_finished", "name": "Errors"}
    unknown = await mutate(context, "createTrigger", TRIGGER, **input, config={"workflowId": "wf_none"})
    assert unknown["errors"][0]["errors"][0]["field"] == "input.config.workflowId"
    good = await mutate(context, "createTrigger", TRIGGER, **input, config={"workflowId": workflow_id})
    assert good["errors"] == [] and good["trigger"]["nextFireAt"] is None


async def test_roles(context: Context, caller: Caller, project: str) -> None:
    trigger = await new_trigger(context, workflow_id := await published(context))
    ids = {"id": trigger["id"]}
    new = {"workflowId": workflow_id, "kind": "schedule", "name": "N", "config": DAILY}
    calls: list[tuple[str, str, dict[str, Any], Role]] = [
        ("createTrigger", "trigger { id }", new, Role.EDITOR),
        ("updateTrigger", "trigger { id }", {**ids, "name": "Other"}, Role.EDITOR),
        ("testTrigger", "wouldFire", ids, Role.EDITOR),
        ("runTrigger", "run { id }", ids, Role.RUNNER),
        ("deleteTrigger", "deletedId", ids, Role.EDITOR),
    ]
    for role in (Role.VIEWER, Role.RUNNER):
        as_role = replace(context, caller=Caller("other", {project: role}))
        for name, answer, input, needed in calls:
            payload = await mutate(as_role, name, answer, **input)
            codes = [error["code"] for error in payload["errors"]]
            assert codes == ([] if role.includes(needed) else ["FORBIDDEN"]), (role, name)
    stranger = replace(context, caller=Caller("stranger", {"prj_other": Role.ADMIN}))
    for name, answer, input, _ in calls:
        payload = await mutate(stranger, name, answer, **input)
        assert [error["code"] for error in payload["errors"]] == ["NOT_FOUND"], name


async def test_update_trigger_plans_anew_and_clears_failures(context: Context, project: str) -> None:
    trigger = await new_trigger(context, await published(context))
    failed = "UPDATE triggers SET failures = 20, last_error = 'x', enabled = false, next_fire_at = NULL"
    await context.database.pool.execute(failed)
    renamed = (await mutate(context, "updateTrigger", TRIGGER, id=trigger["id"], name="Night"))["trigger"]
    assert (renamed["name"], renamed["failures"], renamed["enabled"]) == ("Night", 20, False)
    enabled = (await mutate(context, "updateTrigger", TRIGGER, id=trigger["id"], enabled=True))["trigger"]
    assert (enabled["failures"], enabled["lastError"]) == (0, None)
    assert enabled["nextFireAt"] == trigger["nextFireAt"]
    editor = replace(context, caller=Caller("editor", {project: Role.EDITOR}))
    config = {"cron": "30 10 * * *"}
    changed = (await mutate(editor, "updateTrigger", TRIGGER, id=trigger["id"], config=config))["trigger"]
    assert changed["config"] == config and changed["nextFireAt"].endswith("10:30:00Z")
    assert (await context.database.pool.fetchval("SELECT scopes FROM triggers")) == ["read", "run", "write"]
    off = (await mutate(context, "updateTrigger", TRIGGER, id=trigger["id"], enabled=False))["trigger"]
    assert (off["enabled"], off["nextFireAt"]) == (False, None)
    bad = await mutate(context, "updateTrigger", TRIGGER, id=trigger["id"], config={"cron": "no"}, inputs="{{ x }}")
    assert {problem["field"] for problem in bad["errors"][0]["errors"]} == {"input.config.cron", "input.inputs"}


async def test_run_trigger_starts_one_run_for_each_key(context: Context) -> None:
    trigger = await new_trigger(context, workflow_id := await new_workflow(context), inputs={"value": "{{ event.n }}"})
    answer = "run { id source inputs trigger { id } triggerEvent { status payload dedupeKey run { id } } }"
    refused = await mutate(context, "runTrigger", answer, id=trigger["id"], payload={"n": 1})
    assert (refused["errors"][0]["code"], refused["run"]) == ("INVALID_STATE", None)
    await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    bad = await mutate(context, "runTrigger", answer, id=trigger["id"], payload={})
    assert bad["errors"][0]["errors"][0]["field"] == "input.payload"
    input = {"id": trigger["id"], "payload": {"n": 1}, "idempotencyKey": "key-1"}
    first, second = await asyncio.gather(*(mutate(context, "runTrigger", answer, **input) for _ in range(2)))
    run = first["run"]
    assert run == second["run"] and run["inputs"] == {"value": 1}
    assert run["source"] == "TRIGGER" and run["trigger"] == {"id": trigger["id"]}
    assert run["triggerEvent"]["payload"] == {"n": 1} and run["triggerEvent"]["run"] == {"id": run["id"]}
    query = "query($id: ID!) { runs(filter: {triggerId: $id}) { nodes { id } } trigger(id: $id) { events { nodes { status } } } }"
    data = await call(context, query, id=trigger["id"])
    assert data["runs"]["nodes"] == [{"id": run["id"]}]
    assert data["trigger"]["events"]["nodes"] == [{"status": "FIRED"}]


async def test_test_trigger_shows_the_inputs_and_starts_nothing(context: Context) -> None:
    workflow_id = await published(context)
    trigger = await new_trigger(context, workflow_id, inputs={"value": "{{ event.scheduledAt }}"})
    answer = "wouldFire inputs payloads"
    tested = await mutate(context, "testTrigger", answer, id=trigger["id"])
    [payload] = tested["payloads"]
    assert tested["wouldFire"] and tested["inputs"] == {"value": payload["scheduledAt"]}
    unsaved = {"workflowId": workflow_id, "kind": "schedule", "config": DAILY, "inputs": {"v": "{{ event.a.b }}"}}
    failing = await mutate(context, "testTrigger", answer, **unsaved, payload={"n": 2})
    assert not failing["wouldFire"] and failing["errors"][0]["errors"][0]["field"] == "input.inputs"
    draft = await mutate(context, "testTrigger", answer, **{**unsaved, "workflowId": await new_workflow(context)})
    assert [error["code"] for error in draft["errors"]] == ["INVALID_STATE", "VALIDATION"]
    assert (await mutate(context, "testTrigger", answer))["errors"][0]["errors"][0]["field"] == "input.id"
    data = await call(context, "{ runs { nodes { id } } triggers { nodes { events { nodes { status error } } } } }")
    events = data["triggers"]["nodes"][0]["events"]["nodes"]
    assert data["runs"]["nodes"] == [] and events == [{"status": "TEST", "error": None}]


async def test_a_backfill_fires_each_planned_time_once(context: Context) -> None:
    trigger = await new_trigger(context, await published(context), {"intervalS": 3600})
    query = f"""mutation($id: ID!, $from: DateTime!, $to: DateTime!) {{
      backfillTrigger(input: {{id: $id, from: $from, to: $to}}) {{ accepted {PROBLEM} }} }}"""

    async def backfill(start: str, end: str) -> dict[str, Any]:
        data = await call(context, query, **{"id": trigger["id"], "from": start, "to": end})
        return cast(dict[str, Any], data["backfillTrigger"])

    period = "2026-01-01T00:30:00Z", "2026-01-01T03:00:00Z"
    assert await backfill(*period) == {"accepted": 3, "errors": []}
    assert (await backfill(*period))["accepted"] == 0
    fired = (await due(context).fire_pending(datetime.now(UTC) + timedelta(seconds=1))).fired
    assert [one.event.dedupe_key for one in fired] == [f"2026-01-01T0{hour}:00:00Z" for hour in (1, 2, 3)]
    assert (await backfill(*period))["accepted"] == 0
    for bad in (period[::-1], ("2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"), ("2020-01-01T00:00:00Z", period[1])):
        assert (await backfill(*bad))["errors"][0]["errors"][0]["field"] == "input.to"
    await new_trigger(context, await published(context), {"intervalS": 3600})


async def test_subscribers_see_new_events(context: Context) -> None:
    trigger = await new_trigger(context, await published(context))
    other = await new_trigger(context, await published(context))
    query = "subscription($id: ID!) { triggerEvents(triggerId: $id) { status trigger { id } run { id } } }"
    stream = cast(
        AsyncGenerator[Any, None],
        await schema.subscribe(query, context_value=context, variable_values={"id": trigger["id"]}),
    )
    coming = asyncio.ensure_future(anext(stream))
    channel = f"trigger_events:{await context.database.pool.fetchval('SELECT project_id FROM triggers LIMIT 1')}"
    async with asyncio.timeout(10):
        while channel not in context.feed.channels.confirmed_channels:  # noqa: ASYNC110 (Redis sends no signal)
            await asyncio.sleep(0.005)
        await mutate(context, "runTrigger", "run { id }", id=other["id"], payload={"value": 1})
        run = (await mutate(context, "runTrigger", "run { id }", id=trigger["id"], payload={"value": 1}))["run"]
        event = (await coming).data["triggerEvents"]
    assert event == {"status": "FIRED", "trigger": {"id": trigger["id"]}, "run": run}
    await stream.aclose()


async def test_the_kinds_have_forms_and_examples(context: Context) -> None:
    kinds = (await call(context, "{ triggerKinds { name title configSchema eventSchema example } }"))["triggerKinds"]
    [schedule] = [kind for kind in kinds if kind["name"] == "schedule"]
    assert set(schedule["configSchema"]["properties"]) >= {"cron", "intervalS", "timezone", "onMissed", "overlap"}
    assert "scheduledAt" in schedule["eventSchema"]["properties"]
    await new_trigger(context, await new_workflow(context), schedule["example"])
