"""Webhooks: one run for each message, and a clear answer and a record for each bad one."""

import asyncio
import hashlib
import hmac
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from app.settings import Settings
from engine.triggers.webhook import WebhookMessage
from persistence.caller import Caller, Role
from persistence.runs.queue_limit import QueueLimit
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from resolvers.context import Context
from resolvers.triggers.responses import HookResponse
from resolvers.triggers.webhooks import receive
from tests.schema_client import call, mutate, new_workflow, with_output
from tests.worker.running_worker import running
from worker.listener import listen
from worker.runner import Runner

KEY = "key of the webhook"
SIGNED = {"signature": {"kind": "github", "secret": "hook_key"}}
RUNS = "SELECT id, status FROM runs ORDER BY id"
JSON_TYPE = {"content-type": "application/json"}


@pytest.fixture
async def hooks(context: Context, tmp_path: Path) -> AsyncIterator[Context]:
    """The context of a server with secrets and a public address."""
    secrets = await open_secrets(context.database, KeySource.of(Settings(data_dir=tmp_path)))
    context.resources, context.public_url = {"secrets": secrets}, "https://treadle.example.com"
    await mutate(context, "setSecret", "secret { name }", name="hook_key", value=KEY)
    yield context


async def new_webhook(
    context: Context,
    config: Any = None,
    output: Any = "{{ input.n }}",
    *,
    publish: bool = True,
    spec: Any = None,
    **more: Any,
) -> dict[str, Any]:
    workflow_id = await new_workflow(context, {**with_output(output), **(spec or {})})
    if publish:
        await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    input = {"workflowId": workflow_id, "kind": "webhook", "name": "Hook", "config": config or {}}
    input |= {"inputs": "{{ event.body }}", **more}
    payload = await mutate(context, "createTrigger", "trigger { id webhookUrl testWebhookUrl }", **input)
    assert payload["errors"] == []
    trigger: dict[str, Any] = payload["trigger"]
    return trigger


async def post(
    context: Context,
    url: str,
    body: bytes | Any = b'{"n": 1}',
    headers: dict[str, str] | None = None,
    *,
    method: str = "POST",
    query: dict[str, str] | None = None,
    address: str = "192.0.2.1",
) -> HookResponse:
    message = WebhookMessage(method, {**JSON_TYPE, **(headers or {})}, query or {}, body)
    token = url.rpartition("/hooks/")[2]
    return await receive(lambda caller: replace(context, caller=caller), context, token, message, address)


def signed(body: bytes, id: str = "m-1") -> dict[str, str]:
    return {
        "x-hub-signature-256": "sha256=" + hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest(),
        "x-github-delivery": id,
    }


async def record(context: Context, trigger_id: str) -> tuple[list[Any], list[Any], str | None]:
    """Return events (status, error), deliveries (verdict, body) and last error, oldest first."""
    query = """query($id: ID!) { trigger(id: $id) { lastError events { nodes { status error } }
      webhookDeliveries { nodes { verdict body event { status } } } } }"""
    trigger = (await call(context, query, id=trigger_id))["trigger"]
    events = [(one["status"], one["error"]) for one in reversed(trigger["events"]["nodes"])]
    deliveries = [(one["verdict"], one["body"]) for one in reversed(trigger["webhookDeliveries"]["nodes"])]
    return events, deliveries, trigger["lastError"]


async def test_a_message_starts_one_run_also_if_it_comes_a_hundred_times(hooks: Context) -> None:
    trigger = await new_webhook(hooks, {**SIGNED, "ratePerMinute": 60_000})
    assert trigger["webhookUrl"].startswith("https://treadle.example.com/hooks/")
    body = b'{"n": 7}'
    answers = await asyncio.gather(*(post(hooks, trigger["webhookUrl"], body, signed(body)) for _ in range(100)))
    assert {answer.status for answer in answers} == {202}
    [run_id] = {orjson.loads(orjson.dumps(answer.body))["runId"] for answer in answers}
    statuses = [answer.body["status"] for answer in answers]  # type: ignore[index, call-overload]
    assert sorted(statuses) == ["DUPLICATE"] * 99 + ["FIRED"]
    assert await hooks.database.pool.fetchval("SELECT count(*) FROM runs") == 1
    second = await post(hooks, trigger["webhookUrl"], body, signed(body, "m-2"))
    assert second.body["runId"] != run_id  # type: ignore[index, call-overload]
    run = (await call(hooks, "query($id: ID!) { run(id: $id) { inputs source trigger { id } } }", id=run_id))["run"]
    assert run == {"inputs": {"n": 7}, "source": "TRIGGER", "trigger": {"id": trigger["id"]}}


@pytest.mark.parametrize("on_limit", ["cancelOldest", "reject"])
async def test_a_repeated_message_is_a_duplicate_whatever_limits_its_workflow(hooks: Context, on_limit: str) -> None:
    limited = {"concurrency": {"limit": 1, "onLimit": on_limit}}
    trigger = await new_webhook(hooks, {**SIGNED, "ratePerMinute": 60_000}, spec=limited)
    body = b'{"n": 7}'

    async def send(id: str) -> Any:
        return (await post(hooks, trigger["webhookUrl"], body, signed(body, id))).body

    answers = await asyncio.gather(*(send("m-1") for _ in range(10)))
    assert sorted(answer["status"] for answer in answers) == ["DUPLICATE"] * 9 + ["FIRED"]
    [run_id] = {answer["runId"] for answer in answers}
    assert [tuple(row) for row in await hooks.database.pool.fetch(RUNS)] == [(run_id, "QUEUED")]
    hooks.queue_limit = QueueLimit(1)
    assert await send("m-1") | {"eventId": None} == {"runId": run_id, "status": "DUPLICATE", "eventId": None}
    assert (await post(hooks, trigger["webhookUrl"], body, signed(body, "m-2"))).status == 429
    assert [tuple(row) for row in await hooks.database.pool.fetch(RUNS)] == [(run_id, "QUEUED")]


@pytest.mark.parametrize(
    ("on_limit", "statuses", "runs"),
    [
        ("queue", {202: 10}, {"QUEUED": 10}),
        ("cancelOldest", {202: 10}, {"QUEUED": 1, "CANCELLED": 9}),
        ("reject", {202: 1, 429: 9}, {"QUEUED": 1}),
    ],
)
async def test_different_messages_at_once_have_a_run_each_within_the_limit_of_the_workflow(
    hooks: Context, on_limit: str, statuses: dict[int, int], runs: dict[str, int]
) -> None:
    limited = {"concurrency": {"limit": 1, "onLimit": on_limit}}
    trigger = await new_webhook(hooks, {"ratePerMinute": 60_000}, spec=limited)
    bodies = [orjson.dumps({"n": number}) for number in range(10)]
    answers = await asyncio.gather(*(post(hooks, trigger["webhookUrl"], body) for body in bodies))
    assert Counter(answer.status for answer in answers) == statuses
    stored = [dict(row) for row in await hooks.database.pool.fetch("SELECT id, status, inputs FROM runs")]
    assert Counter(row["status"] for row in stored) == runs
    inputs = {row["id"]: row["inputs"] for row in stored}
    for number, answer in enumerate(answers):
        body: Any = answer.body
        assert answer.status == 429 or inputs[body["runId"]] == {"n": number}
    linked = "SELECT count(*) FROM webhook_deliveries d JOIN trigger_events e ON e.id = d.event_id"
    assert await hooks.database.pool.fetchval(linked) == 10


@pytest.mark.parametrize(
    ("table", "check"),
    [("webhook_deliveries", "query->>'id' <> 'bad'"), ("trigger_events", "dedupe_key <> 'message:bad'")],
)
async def test_a_message_that_postgres_refuses_affects_no_other_of_its_batch(
    hooks: Context, table: str, check: str
) -> None:
    trigger = await new_webhook(hooks, {"dedupe": {"template": "{{ event.query.id }}"}})
    ids, pool = ["1", "2", "bad", "3", "4"], hooks.database.pool
    await pool.execute(f"ALTER TABLE {table} ADD CONSTRAINT refused CHECK ({check})")
    try:
        posts = (post(hooks, trigger["webhookUrl"], query={"id": id}) for id in ids)
        answers = await asyncio.gather(*posts, return_exceptions=True)
    finally:
        await pool.execute(f"ALTER TABLE {table} DROP CONSTRAINT refused")
    assert [type(answer) for answer in answers].count(HookResponse) == 4
    assert "refused" in str(answers[2])
    assert await pool.fetchval("SELECT count(*) FROM runs") == 4
    assert (await post(hooks, trigger["webhookUrl"], query={"id": "bad"})).status == 202


@pytest.mark.parametrize(
    ("config", "request_", "status", "error", "verdict"),
    [
        (SIGNED, {}, 401, "The request has no signature, or no time.", "MISSING"),
        (SIGNED, {"headers": signed(b"other")}, 401, "The signature does not match", "INVALID"),
        ({"signature": {"kind": "github", "secret": "none"}}, {}, 503, "there is no secret 'none'", None),
        ({}, {"body": b'{"n": '}, 400, "The body is no JSON (it ends too early)", "UNSIGNED"),
        ({}, {"body": b'{"n": 12345678901234567890123}'}, 400, "is beyond 64 bits", "UNSIGNED"),
        ({"content": "form"}, {"body": b"&".join([b"n=1"] * 1001)}, 400, "more than 1,000 fields", "UNSIGNED"),
        ({"content": "form"}, {"body": b"n=\xff"}, 400, "byte 2 is not UTF-8", "UNSIGNED"),
        ({}, {"body": b'{"n": "\\u0000"}'}, 400, "", "UNSIGNED"),
        ({"dedupe": {"template": "{{ event.body.id }}"}}, {}, 400, "`dedupe.template`", "UNSIGNED"),
        ({"maxBodyBytes": 5}, {}, 413, "The body has 8 bytes, over the limit of 5", None),
        ({}, {"body": b"[1]"}, 422, "cannot be rendered", "UNSIGNED"),
    ],
)
async def test_a_bad_message_gets_a_clear_answer_and_a_record(
    hooks: Context, config: Any, request_: dict[str, Any], status: int, error: str, verdict: str | None
) -> None:
    mapping = {"n": "{{ event.body.n }}"}
    trigger = await new_webhook(hooks, config, inputs=mapping)
    answer = await post(hooks, trigger["webhookUrl"], **request_)
    assert answer.status == status and error in str(answer.body)
    events, deliveries, last_error = await record(hooks, trigger["id"])
    assert [one for one, _ in events] == ["FAILED"] and error.rstrip(".").lower() in str(events[0][1]).lower()
    assert [one for one, _ in deliveries] == ([] if verdict is None else [verdict])
    assert last_error == events[0][1]
    assert await hooks.database.pool.fetchval("SELECT count(*) FROM runs") == 0
    good = await hooks.database.pool.fetchrow("SELECT enabled, failures FROM triggers")
    assert tuple(good) == (True, 0)


async def test_a_byte_order_mark_and_a_large_body_are_read(hooks: Context) -> None:
    trigger = await new_webhook(hooks, {"signature": {"kind": "github", "secret": "hook_key"}})
    for id, body in (("m-1", b'\xef\xbb\xbf{"n": 1}'), ("m-2", b'{"n": "' + b"x" * 200_000 + b'"}')):
        assert (await post(hooks, trigger["webhookUrl"], body, signed(body, id))).status == 202
    sizes = await hooks.database.pool.fetch("SELECT length(inputs::text) FROM runs ORDER BY id")
    assert [size > 200_000 for (size,) in sizes] == [False, True]


async def test_a_heavy_template_for_the_id_of_a_message_waits_for_a_helper(hooks: Context) -> None:
    template = "{{ range(100000) | sum }}"
    trigger = await new_webhook(hooks, {"dedupe": {"template": template}})
    statuses = [(await post(hooks, trigger["webhookUrl"])).body["status"] for _ in range(2)]  # type: ignore[index, call-overload]
    assert statuses == ["FIRED", "DUPLICATE"]


async def test_refusals_before_a_message_is_read(hooks: Context) -> None:
    trigger = await new_webhook(hooks, {"allowedIps": ["198.51.100.0/24"], "ratePerMinute": 2})
    url, allowed = trigger["webhookUrl"], {"address": "198.51.100.7"}
    assert (await post(hooks, url)).status == 403
    assert (await post(hooks, f"{url}x")).status == 404
    assert (await post(hooks, url, method="GET", **allowed)).status == 405
    statuses = [(await post(hooks, url, **allowed)).status for _ in range(3)]
    assert statuses == [202, 202, 429]
    await mutate(hooks, "updateTrigger", "trigger { id }", id=trigger["id"], enabled=False, config={})
    assert (await post(hooks, url)).status == 409
    unpublished = await new_webhook(hooks, publish=False)
    answer = await post(hooks, unpublished["webhookUrl"])
    assert answer.status == 422 and "no published version" in str(answer.body)


async def test_challenges(hooks: Context) -> None:
    challenge = {"parameter": "hub.challenge", "verifyParameter": "hub.verify_token", "secret": "hook_key"}
    url = (await new_webhook(hooks, {"challenge": challenge}))["webhookUrl"]
    good = {"hub.challenge": "42", "hub.verify_token": KEY}
    answer = await post(hooks, url, method="GET", query=good)
    assert (answer.status, answer.body) == (200, "42")
    assert (await post(hooks, url, method="GET", query={**good, "hub.verify_token": "x"})).status == 403
    assert (await post(hooks, url, method="GET", query={"hub.verify_token": KEY})).status == 400


async def test_a_delivery_is_replayed_once_for_each_key(hooks: Context) -> None:
    trigger = await new_webhook(hooks, SIGNED)
    body = b'{"n": 5}'
    await post(hooks, trigger["webhookUrl"], body, signed(body))
    await post(hooks, trigger["webhookUrl"], body, {"authorization": "Bearer secret"})
    query = "query($id: ID!) { trigger(id: $id) { webhookDeliveries { nodes { id verdict headers } } } }"
    unsigned, good = (await call(hooks, query, id=trigger["id"]))["trigger"]["webhookDeliveries"]["nodes"]
    assert "authorization" not in unsigned["headers"]
    answer = "run { id inputs triggerEvent { status } }"
    first, again = [
        await mutate(hooks, "replayWebhookDelivery", answer, id=good["id"], idempotencyKey="key-1") for _ in range(2)
    ]
    assert first == again and first["run"]["inputs"] == {"n": 5}
    assert await hooks.database.pool.fetchval("SELECT count(*) FROM runs") == 2
    refused = await mutate(hooks, "replayWebhookDelivery", answer, id=unsigned["id"])
    assert refused["errors"][0]["code"] == "INVALID_STATE"


async def test_a_rotation_keeps_the_old_address_for_a_while(hooks: Context, project: str) -> None:
    trigger = await new_webhook(hooks)
    rotated = await mutate(hooks, "rotateWebhookToken", "trigger { webhookUrl }", id=trigger["id"])
    new = rotated["trigger"]["webhookUrl"]
    assert new != trigger["webhookUrl"]
    assert [(await post(hooks, url)).status for url in (new, trigger["webhookUrl"])] == [202, 202]
    assert (await post(hooks, trigger["testWebhookUrl"])).status == 404
    await hooks.database.pool.execute("UPDATE triggers SET previous_until = now()")
    assert (await post(hooks, trigger["webhookUrl"])).status == 404
    last = await mutate(hooks, "rotateWebhookToken", "trigger { webhookUrl }", id=trigger["id"], overlapS=0)
    assert [(await post(hooks, url)).status for url in (new, last["trigger"]["webhookUrl"])] == [404, 202]
    bad = await mutate(hooks, "rotateWebhookToken", "trigger { webhookUrl }", id=trigger["id"], overlapS=-1)
    assert bad["errors"][0]["errors"][0]["field"] == "input.overlapS"
    viewer = replace(hooks, caller=Caller("viewer", {project: Role.VIEWER}))
    query = "query($id: ID!) { trigger(id: $id) { webhookUrl testWebhookUrl } }"
    assert (await call(viewer, query, id=trigger["id"]))["trigger"] == {"webhookUrl": None, "testWebhookUrl": None}


async def test_the_test_address_runs_the_draft_and_fires_nothing(hooks: Context) -> None:
    trigger = await new_webhook(hooks, publish=False, enabled=False)
    answers = [await post(hooks, trigger["testWebhookUrl"]) for _ in range(2)]
    assert [answer.status for answer in answers] == [202, 202]
    events, _, _ = await record(hooks, trigger["id"])
    assert [status for status, _ in events] == ["TEST", "TEST"]
    assert await hooks.database.pool.fetchval("SELECT count(*) FROM runs") == 2


@asynccontextmanager
async def polling(context: Context, runner: Runner) -> AsyncIterator[None]:
    """Let a runner hear of new runs, as a worker does."""

    async def poll(_: str | None) -> None:
        runner.poll()

    task = asyncio.create_task(listen(context.feed.channels, {context.notifier.queue_channel: poll}))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_sync_responses_come_from_the_workflow(hooks: Context, redis: Redis) -> None:
    sync = {"respond": "sync", "dedupe": {"header": "x-id"}}
    plain = await new_webhook(hooks, sync)
    output = {
        "status": 201,
        "headers": {"Location": "/x/{{ input.n }}", "Set-Cookie": "a=b", "X-Bad": "a\nb"},
        "body": {"n": "{{ input.n }}"},
    }
    shaped = await new_webhook(hooks, sync, output)
    failing = await new_webhook(hooks, sync, "{{ input.none.none }}")
    async with running(hooks.database, redis) as runner, polling(hooks, runner):
        first, repeat = [await post(hooks, plain["webhookUrl"], headers={"x-id": "1"}) for _ in range(2)]
        assert first == repeat == HookResponse(200, 1)
        assert await post(hooks, shaped["webhookUrl"]) == HookResponse(201, {"n": 1}, {"Location": "/x/1"})
        failed = await post(hooks, failing["webhookUrl"])
        assert failed.status == 500 and failed.body["status"] == "FAILED"  # type: ignore[index, call-overload]
    late = await new_webhook(hooks, {**sync, "timeoutS": 0.05})
    assert (await post(hooks, late["webhookUrl"])).status == 202
