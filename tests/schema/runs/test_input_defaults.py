"""The defaults of the `inputs` schema complete the input of every run, whatever creates it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from engine.states import RunSource
from engine.triggers.registry import installed_trigger_kinds
from engine.triggers.webhook import WebhookMessage
from persistence.runs.children import Children
from persistence.runs.queue_limit import QueueLimit
from persistence.triggers.due import DueTriggers
from resolvers.context import Context
from resolvers.runs import bulk
from resolvers.triggers.webhooks import receive
from tests.executor_worker import ExecutorWorker
from tests.peers.http import Peer
from tests.peers.redis_proxy import redis_at_tcp
from tests.schema_client import LINEAR, call, mutate, new_workflow

INPUTS = {
    "type": "object",
    "required": ["value", "options"],
    "properties": {
        "value": {"type": "integer", "default": 5},
        "options": {"type": "object", "default": {}, "properties": {"limit": {"default": 10}}},
    },
}
WITH_DEFAULTS = {**LINEAR, "inputs": INPUTS}
RUN = "run { id inputs }"
COMPLETE = {"value": 5, "options": {"limit": 10}}
PAST = datetime(2026, 1, 1, tzinfo=UTC)

Start = Callable[[Context, str], Awaitable[Any]]
"""Starts a run without inputs of the workflow with this id, or of WITH_DEFAULTS."""


async def _by(mutation: str, context: Context, workflow_id: str, **arguments: Any) -> str:
    return str((await mutate(context, mutation, RUN, workflowId=workflow_id, **arguments))["run"]["id"])


async def _cached(context: Context, workflow_id: str) -> None:
    for _ in range(2):  # The second run takes the version from the cache.
        await _by("runWorkflow", context, workflow_id)


async def _of_version(context: Context, workflow_id: str) -> None:
    payload = await mutate(context, "createVersion", "version { id }", workflowId=workflow_id)
    await _by("runWorkflow", context, workflow_id, versionId=payload["version"]["id"])


async def _by_agent(context: Context, workflow_id: str) -> None:
    agent = replace(context, caller=replace(context.caller, is_agent=True))
    await _by("runWorkflow", agent, workflow_id)


async def _adhoc(context: Context, _: str) -> None:
    await mutate(context, "runAdhoc", RUN, spec=WITH_DEFAULTS)


async def _executed(context: Context, workflow_id: str) -> None:
    await mutate(context, "executeRun", RUN, runId=await _by("createRun", context, workflow_id), inputs={})


async def _cancelled(context: Context, run_id: str) -> str:
    await mutate(context, "cancelRun", "run { id }", runId=run_id)
    return run_id


async def _retried(context: Context, workflow_id: str) -> None:
    run_id = await _cancelled(context, await _by("runWorkflow", context, workflow_id))
    await mutate(context, "retryRun", RUN, runId=run_id, **{"from": "START"})


async def _retried_in_bulk(context: Context, workflow_id: str) -> None:
    await _cancelled(context, await _by("runWorkflow", context, workflow_id))
    mutation = "mutation($w: ID!) { retryRuns(input: {filter: {workflowId: $w}}) { job { id } errors { detail } } }"
    assert (await call(context, mutation, w=workflow_id))["retryRuns"]["errors"] == []
    assert await bulk.work(lambda caller: context, context)


async def _forked(context: Context, workflow_id: str) -> None:
    """Fork a run of a version without `inputs` to the version that has them."""
    other = await new_workflow(context, LINEAR)
    run_id = await _by("runWorkflow", context, other)
    async with ExecutorWorker(context.database, context.redis) as worker:
        await (await worker.claim(run_id)).run()
    await mutate(context, "saveDraft", "draft { revision }", workflowId=other, spec=WITH_DEFAULTS, expectedRevision=1)
    version = (await mutate(context, "createVersion", "version { id }", workflowId=other))["version"]["id"]
    query = "query($id: ID!) { run(id: $id) { checkpoints(last: 1) { nodes { id } } } }"
    [checkpoint] = (await call(context, query, id=run_id))["run"]["checkpoints"]["nodes"]
    forked = await mutate(context, "forkRun", RUN, checkpointId=checkpoint["id"], versionId=version)
    assert forked["errors"] == []
    await context.database.pool.execute("DELETE FROM runs WHERE id = $1", run_id)


async def _child(context: Context, workflow_id: str) -> None:
    async def no_signal() -> None:
        """No worker waits."""

    config = {"workflow": workflow_id, "inputs": {}}
    spec = {"nodes": [{"id": "child", "type": "subworkflow", "config": config}], "edges": []}
    run_id = (await mutate(context, "runAdhoc", RUN, spec=spec, inputs=COMPLETE))["run"]["id"]
    resources = {"runs": Children(context.database, context.redis, no_signal)}
    async with ExecutorWorker(context.database, context.redis, resources=resources) as worker:
        await (await worker.claim(run_id)).run()


async def _triggered(kind: str, config: Any, context: Context, workflow_id: str) -> dict[str, Any]:
    """Create a trigger that makes an empty input."""
    await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
    input = {"workflowId": workflow_id, "kind": kind, "name": "T", "config": config, "inputs": {}}
    payload = await mutate(context, "createTrigger", "trigger { id webhookUrl }", **input)
    assert payload["errors"] == []
    trigger: dict[str, Any] = payload["trigger"]
    return trigger


async def _fire(context: Context, *, days: int = 1) -> None:
    http = GuardedHttp(Allowed.parse("127.0.0.1"))
    limit, resources = QueueLimit(1000), {"http": http, "secrets": object()}
    due = DueTriggers(
        context.database, installed_trigger_kinds(), max_failures=3, queue_limit=limit, resources=resources
    )
    ready = asyncio.Event()
    due.when_ready(ready.set)
    for fire in (due.fire_pending, due.fire_batch):
        await fire(datetime.now(UTC) + timedelta(days=days))
    while due._preparations.left_out().triggers:
        await asyncio.wait_for(ready.wait(), 60)
        ready.clear()
        await due.fire_ready()


async def _by_hand(context: Context, workflow_id: str) -> None:
    trigger = await _triggered("schedule", {"intervalS": 3600}, context, workflow_id)
    assert (await mutate(context, "testTrigger", "inputs", id=trigger["id"]))["inputs"] == COMPLETE
    await mutate(context, "runTrigger", RUN, id=trigger["id"])


async def _backfill(context: Context, workflow_id: str) -> None:
    trigger = await _triggered("schedule", {"intervalS": 3600}, context, workflow_id)
    period = {"from": PAST.isoformat(), "to": (PAST + timedelta(hours=2)).isoformat()}
    await mutate(context, "backfillTrigger", "accepted", id=trigger["id"], **period)
    await _fire(context, days=0)


async def _schedule(context: Context, workflow_id: str) -> None:
    await _triggered("schedule", {"intervalS": 3600}, context, workflow_id)
    await _fire(context)


async def _webhook(context: Context, workflow_id: str) -> None:
    context.resources, context.public_url = {"secrets": object()}, "https://treadle.example.com"
    trigger = await _triggered("webhook", {}, context, workflow_id)
    token = trigger["webhookUrl"].rpartition("/hooks/")[2]
    await receive(lambda _: context, context, token, WebhookMessage("POST", {}, {}, b""), "192.0.2.1")


async def _run_finished(context: Context, workflow_id: str) -> None:
    await _triggered("run_finished", {"statuses": ["CANCELLED"]}, context, workflow_id)
    await _cancelled(context, await _by("runWorkflow", context, await new_workflow(context), inputs=COMPLETE))
    await _fire(context, days=0)


async def _poll(peer: Peer, context: Context, workflow_id: str) -> None:
    peer.document = orjson.dumps([{"id": 1}])
    await _triggered("poll", {"url": peer.url + "/list", "everyS": 60, "firstPoll": "fire"}, context, workflow_id)
    await _fire(context)


async def _stream(redis: Redis, redis_url: str, context: Context, workflow_id: str) -> None:
    await redis.xadd("orders", {"n": "1"})
    async with redis_at_tcp(redis_url) as url:
        await _triggered("redis_stream", {"url": url, "stream": "orders", "start": "all"}, context, workflow_id)
        await _fire(context)


STARTS: dict[tuple[RunSource, str], Start] = {
    (RunSource.MANUAL, "runWorkflow, twice"): _cached,
    (RunSource.MANUAL, "a draft"): partial(_by, "runWorkflow", draftRevision=1),
    (RunSource.MANUAL, "with a key"): partial(_by, "runWorkflow", idempotencyKey="k"),
    (RunSource.MANUAL, "a version"): _of_version,
    (RunSource.MANUAL, "runAdhoc"): _adhoc,
    (RunSource.MANUAL, "createRun"): partial(_by, "createRun"),
    (RunSource.MANUAL, "executeRun"): _executed,
    (RunSource.AGENT, "an agent"): _by_agent,
    (RunSource.RETRY, "retryRun"): _retried,
    (RunSource.RETRY, "retryRuns"): _retried_in_bulk,
    (RunSource.FORK, "forkRun"): _forked,
    (RunSource.SUBWORKFLOW, "subworkflow"): _child,
    (RunSource.TRIGGER, "runTrigger"): _by_hand,
    (RunSource.TRIGGER, "backfillTrigger"): _backfill,
    (RunSource.TRIGGER, "schedule"): _schedule,
    (RunSource.TRIGGER, "webhook"): _webhook,
    (RunSource.TRIGGER, "run_finished"): _run_finished,
}


@pytest.fixture
def starts(peer: Peer, redis: Redis, redis_url: str) -> dict[tuple[RunSource, str], Start]:
    polled: dict[tuple[RunSource, str], Start] = {
        (RunSource.TRIGGER, "poll"): partial(_poll, peer),
        (RunSource.TRIGGER, "redis_stream"): partial(_stream, redis, redis_url),
    }
    return STARTS | polled


async def test_defaults_complete_the_input_of_every_start(
    context: Context, starts: dict[tuple[RunSource, str], Start]
) -> None:
    assert {source for source, _ in starts} == set(RunSource)
    assert set(installed_trigger_kinds()) <= {name for _, name in starts}
    known: set[str] = set()
    for (source, name), start in starts.items():
        await start(context, await new_workflow(context, WITH_DEFAULTS))
        rows = await context.database.pool.fetch("SELECT id, source, inputs FROM runs")
        new = [row for row in rows if row["id"] not in known]
        assert source in {row["source"] for row in new}, name
        assert [row["inputs"] for row in new] == [COMPLETE] * len(new), name
        known = {row["id"] for row in rows}
        await context.database.pool.execute("UPDATE triggers SET enabled = false")


async def test_inputs_replace_defaults_and_have_to_match_the_schema(context: Context) -> None:
    workflow_id = await new_workflow(context, WITH_DEFAULTS)
    created = await _by("createRun", context, workflow_id)
    executed = await mutate(context, "executeRun", RUN, runId=created, inputs={"options": {"limit": 1}})
    assert executed["run"]["inputs"] == {"value": 5, "options": {"limit": 1}}
    refused = await mutate(context, "runWorkflow", RUN, workflowId=workflow_id, inputs={"value": "x"})
    assert [problem["field"] for problem in refused["errors"][0]["errors"]] == ["inputs.value"]
