"""Each trigger kind has an example in the folder `examples/triggers`, and it runs on real processes."""

import base64
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import httpx
from redis.asyncio import Redis

from engine.triggers.registry import BUILT_IN
from persistence.analytics.publisher import stream_of
from tests.conftest import DEFAULT_PROJECT
from tests.end_to_end.support.client_actions import mutate
from tests.end_to_end.support.system import ROOT, SystemUnderTest
from tests.executor_worker import eventually
from tests.peers.http import Peer
from tests.peers.redis_proxy import redis_at_tcp

EXAMPLES = ROOT / "examples" / "triggers"
EVENTS = "subscription ($id: ID) { triggerEvents(triggerId: $id) { status error run { id } } }"


RUNS_OF = "query ($id: ID) { runs(filter: {triggerId: $id}) { nodes { id } } }"


def example_of(kind: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EXAMPLES / f"{kind}.json").read_text("utf-8"))
    return content


async def new_trigger(system: SystemUnderTest, example: dict[str, Any], **config: Any) -> dict[str, Any]:
    """Publish the workflow of an example, and create its trigger with some fields of its config changed."""
    workflow = await mutate(system, "createWorkflow", "workflow { id }", name=example["name"], spec=example["spec"])
    workflow_id = workflow["workflow"]["id"]
    await mutate(system, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    changed = {name: value for name, value in {**example["config"], **config}.items() if value is not None}
    answer = "trigger { id nextTimes webhookUrl }" if example["kind"] == "webhook" else "trigger { id nextTimes }"
    input = {"kind": example["kind"], "name": example["name"], "inputs": example["inputs"], "config": changed}
    created = await mutate(system, "createTrigger", answer, workflowId=workflow_id, **input)
    trigger: dict[str, Any] = created["trigger"]
    return trigger


def test_every_kind_has_an_example() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.json")} == {kind.name for kind in BUILT_IN}


async def test_a_webhook_answers_a_signed_message_with_the_output_of_the_run(system: SystemUnderTest) -> None:
    key = base64.b64encode(b"a key of the shop, 32 bytes long").decode()
    await mutate(system, "setSecret", "secret { name }", name="shop_webhook", value=f"whsec_{key}")
    url = (await new_trigger(system, example_of("webhook")))["webhookUrl"]
    assert url.startswith(f"http://127.0.0.1:{system.port}/hooks/")
    body, time = b'{"id": "A-7", "total": 1200}', str(int(datetime.now(UTC).timestamp()))
    signature = hmac.new(base64.b64decode(key), f"msg_1.{time}.".encode() + body, "sha256").digest()
    headers = {
        "Content-Type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": time,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        for _ in range(2):
            answer = await client.post(url, content=body, headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"order": "A-7", "decision": "review"})
            assert answer.headers["Content-Security-Policy"].startswith("sandbox")
        assert (await client.post(url, content=b"{}", headers=headers)).status_code == 401
        assert (await client.get(url)).status_code == 405
        assert (await client.post(url + "x", content=body)).json() == {"error": "There is no webhook at this address."}


async def test_a_schedule_starts_runs_at_its_times(system: SystemUnderTest) -> None:
    example = example_of("schedule")
    assert len((await new_trigger(system, example))["nextTimes"]) == 10
    trigger = await new_trigger(system, example, cron=None, intervalS=1)
    runs: list[str] = []
    async for data in system.subscribe(EVENTS, id=trigger["id"]):
        event = data["triggerEvents"]
        if event["status"] == "FIRED":
            runs.append(event["run"]["id"])
        if len(runs) == 2:
            break
    await mutate(system, "deleteTrigger", "deletedId", id=trigger["id"])
    run = await system.wait_for_end(runs[0])
    assert run["status"] == "COMPLETED" and run["output"]["text"].startswith("Report of 20")


async def test_a_poll_starts_a_run_for_each_entry_of_a_feed(system: SystemUnderTest, peer: Peer) -> None:
    peer.media = "application/atom+xml"
    peer.document = b"<feed><entry><id>1</id><title>News</title><link href='https://e.com/1'/></entry></feed>"
    trigger = await new_trigger(system, example_of("poll"), url=peer.url + "/list", firstPoll="fire")

    async def started() -> list[dict[str, str]]:
        return list((await system.execute(RUNS_OF, id=trigger["id"]))["runs"]["nodes"])

    [started_run] = await eventually(started)
    assert (await system.wait_for_end(started_run["id"]))["output"] == {"note": "News: https://e.com/1"}
    await mutate(system, "deleteTrigger", "deletedId", id=trigger["id"])


async def test_an_entry_of_a_stream_starts_a_run_and_is_acknowledged(system: SystemUnderTest) -> None:
    async with redis_at_tcp(system.redis_url) as url, Redis.from_url(url) as redis:
        trigger = await new_trigger(system, example_of("redis_stream"), url=url, start="all")
        await redis.xadd("orders", {"order": "A-7"})

        async def started() -> list[dict[str, str]]:
            return list((await system.execute(RUNS_OF, id=trigger["id"]))["runs"]["nodes"])

        [started_run] = await eventually(started)
        assert (await system.wait_for_end(started_run["id"]))["output"] == {"note": "Order A-7"}

        async def acknowledged() -> bool:
            return (await redis.xpending("orders", "treadle"))["pending"] == 0

        await eventually(acknowledged)
        await mutate(system, "deleteTrigger", "deletedId", id=trigger["id"])


async def test_a_failed_run_starts_the_error_workflow(system: SystemUnderTest) -> None:
    trigger = await new_trigger(system, example_of("run_finished"))
    failing = {
        "nodes": [{"id": "fail", "type": "fail", "config": {"code": "NO_STOCK", "message": "none"}}],
        "edges": [],
    }
    failed = (await system.run(failing))["run"]

    async def started() -> list[dict[str, str]]:
        return list((await system.execute(RUNS_OF, id=trigger["id"]))["runs"]["nodes"])

    # The run may have started before a subscription could begin.
    runs = await eventually(started)
    run = await system.wait_for_end(runs[0]["id"])
    assert run["output"] == {"alert": f"{failed['id']} ended with NO_STOCK"}
    await mutate(system, "deleteTrigger", "deletedId", id=trigger["id"])


async def test_a_run_that_has_ended_is_an_analytics_event(system: SystemUnderTest) -> None:
    spec = {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}
    run = (await system.run(spec))["run"]
    await system.wait_for_end(run["id"])
    async with Redis.from_url(system.redis_url) as redis:

        async def executed() -> list[dict[str, Any]]:
            entries = await redis.xrange(stream_of(DEFAULT_PROJECT))
            events = [json.loads(fields[b"data"]) for _, fields in entries if fields[b"type"] == b"workflow_executed"]
            return [event for event in events if event["runId"] == run["id"]]

        [event] = await eventually(executed)
    assert event["status"] == "COMPLETED"
