"""Events that end the wait of a run: by sendEvent or a callback address, early, late, twice, or forged."""

import asyncio
import base64
import linecache
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

import persistence.signals
from app.settings import Settings
from engine.triggers.webhook import WebhookMessage
from persistence.db.deadlines import Deadlines
from persistence.maintenance.retention import prune_signals
from persistence.maintenance.timers import wake_due
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from persistence.signals.callback import CallbackSigner
from persistence.signals.matching import match_waits
from resolvers.context import Context
from resolvers.runs.signals import receive_callback
from resolvers.triggers.responses import HookResponse
from tests.executor_worker import eventually
from tests.schema_client import call, mutate, new_workflow
from tests.worker.running_worker import ended, running
from worker.listener import listen
from worker.runner import Runner

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SENT = "runs { id } kept signal { id status error }"
SIGNALS = "query($id: ID!) { run(id: $id) { status output signals { nodes { status error payload } } } }"


def waiting(**config: Any) -> dict[str, Any]:
    """A spec whose first node tells the callback address of the second one."""
    ask = {"id": "ask", "type": "transform", "config": {"output": "{{ callback_url }}"}}
    wait = {"id": "wait", "type": "wait_event", "config": {"name": "paid", **config}}
    nodes = [ask, wait, *({"id": id, "type": "transform", "config": {"output": text}} for id, text in ENDS.items())]
    edges = [
        {"source": "ask", "target": "wait"},
        {"source": "wait", "target": "got", "port": "received"},
        {"source": "wait", "target": "late", "port": "expired"},
    ]
    return {"nodes": nodes, "edges": edges}


ENDS = {"got": "{{ wait.output }}", "late": "too late"}


@pytest.fixture
async def server(context: Context, tmp_path: Path) -> AsyncIterator[Context]:
    secrets = await open_secrets(context.database, KeySource.of(Settings(data_dir=tmp_path)))
    callbacks = CallbackSigner(secrets.keys, "https://treadle.example.com")
    context.resources = {"secrets": secrets, "callbacks": callbacks}
    yield context


@asynccontextmanager
async def working(context: Context, redis: Redis) -> AsyncIterator[Runner]:
    """A worker that hears of queued runs. It has no recovery."""
    async with running(context.database, redis, resources=context.resources) as runner:

        async def poll(_: str | None) -> None:
            runner.poll()

        task = asyncio.create_task(listen(context.feed.channels, {context.notifier.queue_channel: poll}))
        try:
            yield runner
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def start(context: Context, workflow_id: str) -> str:
    run = await mutate(context, "runWorkflow", "run { id }", workflowId=workflow_id)
    run_id: str = run["run"]["id"]
    return run_id


async def waits_of(context: Context, run_id: str) -> list[dict[str, Any]]:
    query = "query($id: ID!) { run(id: $id) { status waits { ... on EventWait { name key callbackUrl } } } }"
    run = (await call(context, query, id=run_id))["run"]
    return run["waits"] if run["status"] == "WAITING" else []


async def new_wait(context: Context, redis: Redis, **config: Any) -> str:
    """Start a run, and return its id when it is WAITING. No worker is left."""
    workflow_id = await new_workflow(context, waiting(**config))
    async with working(context, redis):
        run_id = await start(context, workflow_id)
        await eventually(lambda: waits_of(context, run_id))
    return run_id


async def finish(context: Context, redis: Redis, run_id: str) -> Any:
    """Let a worker execute the run to its end, and return it with its signals."""
    async with working(context, redis) as runner:
        await wake_due(context.database)
        runner.poll()
        await ended(context.database, run_id)
    run = (await call(context, SIGNALS, id=run_id))["run"]
    return run["output"], [one["status"] for one in run["signals"]["nodes"]]


async def post(context: Context, url: str, body: bytes | object) -> HookResponse:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    message = WebhookMessage("POST", {"content-type": "application/json"}, {}, content)
    token = url.rpartition("/callbacks/")[2]
    return await receive_callback(lambda caller: replace(context, caller=caller), context, token, message)


async def refused(context: Context, run_id: str) -> list[tuple[str, str | None]]:
    run = (await call(context, SIGNALS, id=run_id))["run"]
    return [(one["status"], one["error"]) for one in reversed(run["signals"]["nodes"])]


async def test_an_event_ends_the_wait_of_its_run_once_for_fifty_calls_with_one_key(
    server: Context, redis: Redis
) -> None:
    run_id = await new_wait(server, redis, schema=SCHEMA)
    event = {"runId": run_id, "name": "paid", "payload": {"n": 7}, "idempotencyKey": "k"}
    bad = await mutate(server, "sendEvent", SENT, **event | {"payload": {"n": "7"}, "idempotencyKey": None})
    assert [(one["field"], one["code"]) for one in bad["errors"][0]["errors"]] == [("input.payload.n", "TYPE")]
    sent = await asyncio.gather(*(mutate(server, "sendEvent", SENT, **event) for _ in range(50)))
    assert {one["signal"]["id"] for one in sent} == {sent[0]["signal"]["id"]}
    assert all(one["errors"] == [] and one["runs"] == [{"id": run_id}] and not one["kept"] for one in sent)
    other = await mutate(server, "sendEvent", SENT, **event | {"payload": {"n": 8}})
    assert other["errors"][0]["code"] == "CONFLICT"
    assert await finish(server, redis, run_id) == ({"got": {"n": 7}}, ["DELIVERED"])
    late = await mutate(server, "sendEvent", SENT, runId=run_id, name="paid")
    assert (late["errors"][0]["code"], late["errors"][0]["runStatus"]) == ("INVALID_STATE", "COMPLETED")


async def test_an_event_for_a_key_reaches_all_runs_that_wait_with_it(server: Context, redis: Redis) -> None:
    workflow_id = await new_workflow(server, waiting(key="A-1"))
    async with working(server, redis) as runner:
        runs = sorted([await start(server, workflow_id) for _ in range(2)])
        for run_id in runs:
            await eventually(lambda run_id=run_id: waits_of(server, run_id))
        event = {"workflowId": workflow_id, "key": "A-1", "name": "paid", "payload": 1}
        for wrong in ({"key": "A-2"}, {"name": "other"}):
            assert (await mutate(server, "sendEvent", SENT, **event | wrong))["kept"]
        sent = await mutate(server, "sendEvent", SENT, **event)
        assert sorted(one["id"] for one in sent["runs"]) == runs and sent["signal"]["status"] == "DELIVERED"
        runner.poll()
        assert [(await ended(server.database, run_id))["output"] for run_id in runs] == [{"got": 1}] * 2


@pytest.mark.parametrize("is_keyed", [False, True])
async def test_an_early_event_is_kept_and_goes_to_one_wait(server: Context, redis: Redis, is_keyed: bool) -> None:
    workflow_id = await new_workflow(server, waiting(key="A-1", schema=SCHEMA))
    runs = [await start(server, workflow_id) for _ in range(2)]
    target = {"workflowId": workflow_id, "key": "A-1"} if is_keyed else {"runId": runs[0]}
    for payload in ({"n": "x"}, {"n": 1}):
        sent = await mutate(server, "sendEvent", SENT, **target, name="paid", payload=payload)
        assert (sent["errors"], sent["runs"], sent["kept"]) == ([], [], True)
    async with working(server, redis) as runner:
        statuses = "SELECT count(*) FROM runs WHERE status = 'WAITING' OR status = 'COMPLETED'"

        async def both() -> bool:
            # As recovery does: a run that is not WAITING yet is woken afterwards.
            await match_waits(server.database)
            await wake_due(server.database)
            runner.poll()
            done = await server.database.pool.fetchval("SELECT count(*) FROM runs WHERE status = 'COMPLETED'")
            return bool(done == 1 and await server.database.pool.fetchval(statuses) == 2)

        await eventually(both)
    rows = await server.database.pool.fetch("SELECT status, error FROM signals ORDER BY id")
    assert [row["status"] for row in rows] == ["REFUSED", "DELIVERED"]
    assert rows[0]["error"].startswith("does not match the schema of the node: payload.n")


async def test_a_wait_expires_by_its_port_and_a_kept_event_of_an_ended_run_expires(
    server: Context, redis: Redis
) -> None:
    workflow_id = await new_workflow(server, waiting(expiresS=0.5))
    async with working(server, redis) as runner:
        run_id = await start(server, workflow_id)
        await mutate(server, "sendEvent", SENT, runId=run_id, name="other")
        url = server.resources["callbacks"].address(run_id, "wait", 1)

        async def is_over() -> bool:
            await wake_due(server.database)
            runner.poll()
            return bool(await server.database.pool.fetchval("SELECT finished_at FROM runs"))

        await eventually(is_over)
    assert (await call(server, SIGNALS, id=run_id))["run"]["output"] == {"late": "too late"}
    assert (await post(server, url, {"n": 1})).status == 410
    assert await prune_signals(server.database.pool, None) == 1
    assert [status for status, _ in await refused(server, run_id)] == ["EXPIRED", "REFUSED"]


def token(run_id: str, node_id: str) -> str:
    """Return an address that anybody can make who knows the id of a run."""
    data = base64.urlsafe_b64encode(orjson.dumps([run_id, node_id, 1]) + b"x" * 32).decode().rstrip("=")
    return f"https://treadle.example.com/callbacks/{data}"


async def test_a_callback_address_works_once_and_each_misuse_is_answered_and_recorded(
    server: Context, redis: Redis
) -> None:
    run_id = await new_wait(server, redis, schema=SCHEMA)
    [wait] = await waits_of(server, run_id)
    shown = await server.database.pool.fetchval("SELECT output FROM node_outputs WHERE node_id = 'ask'")
    url = wait["callbackUrl"]
    assert shown == url and url.startswith("https://treadle.example.com/callbacks/")
    forged = url[:-2] + ("AA" if url[-2:] != "AA" else "BB")
    answers = [
        (forged, {"n": 1}, 401, "The signature of the address is not valid."),
        (url, b'{"n": ', 400, "The body is no JSON"),
        (url, {"n": "x"}, 422, "The payload does not match: payload.n"),
        (url, b"x" * (1024 * 1024 + 1), 413, "The body has more than 1,048,576 bytes."),
        (url, {"n": 1}, 202, "'status': 'delivered'"),
        (url, {"n": 1}, 202, "'status': 'duplicate'"),
        (url, {"n": 2}, 409, "The address was used at "),
        (f"{url}/../x", {}, 404, "There is no callback at this address."),
        *(
            (token(run_id + end, node_id), {}, 404, "There is no callback")
            for end, node_id in (("\0", "a"), ("", "\0"))
        ),
        (token(run_id, "\x1b[2J"), {}, 404, "There is no callback at this address."),
    ]
    for address, body, status, text in answers:
        answer = await post(server, address, body)
        assert (answer.status, text in str(answer.body)) == (status, True), answer
    statuses = [status for status, _ in await refused(server, run_id)]
    assert statuses == ["REFUSED"] * 4 + ["DELIVERED", "DUPLICATE", "REFUSED"]
    assert (await finish(server, redis, run_id))[0] == {"got": {"n": 1}}
    assert (await post(server, url, {"n": 3})).status == 410
    await server.database.pool.execute("DELETE FROM runs")
    assert (await post(server, url, {"n": 3})).status == 410
    assert (await post(server, forged, {"n": 3})).status == 404


async def test_a_callback_that_comes_before_the_wait_is_kept(server: Context, redis: Redis) -> None:
    workflow_id = await new_workflow(server, waiting())
    run_id = await start(server, workflow_id)
    url = server.resources["callbacks"].address(run_id, "wait", 1)
    assert (await post(server, url, {"n": 1})).body == {"runId": run_id, "status": "kept"}
    assert (await post(server, url, {"n": 1})).body == {"runId": run_id, "status": "duplicate"}
    assert (await post(server, url, {"n": 2})).status == 409
    async with working(server, redis):
        assert (await ended(server.database, run_id))["output"] == {"got": {"n": 1}}


async def test_a_flood_of_forged_addresses_leaves_a_bounded_record(server: Context, redis: Redis) -> None:
    run_id = await start(server, await new_workflow(server, waiting()))
    url = server.resources["callbacks"].address(run_id, "wait", 1)
    statuses = [(await post(server, url[:-4] + f"{number:04}", {})).status for number in range(120)]
    assert set(statuses) == {401}
    assert await server.database.pool.fetchval("SELECT count(*) FROM signals") == 100


class _Killed(BaseException):
    """The process has died."""


async def _dies_at(line: int, action: Any) -> bool:
    """Run an action that dies before the given line of `persistence/signals`. Return whether it got there."""
    folder, seen = str(Path(persistence.signals.__path__[0])), 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.startswith(folder):
            return None
        # The exit of a `with` is a line event too. A death there would only leak the connection of this process.
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and "with " not in source:
            seen += 1
            if seen == line:
                raise _Killed
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await action()
    except _Killed:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("is_early", [False, True])
async def test_a_death_at_any_line_leaves_one_delivery(server: Context, redis: Redis, is_early: bool) -> None:
    run_id = await new_wait(server, redis)
    event = {"runId": run_id, "name": "paid", "payload": 1, "idempotencyKey": "k"}

    async def act() -> None:
        if is_early:
            await match_waits(server.database)
        else:
            await mutate(server, "sendEvent", SENT, **event)

    pool = server.database.pool
    if is_early:
        await mutate(server, "sendEvent", SENT, **event | {"name": "other"})
        await pool.execute("UPDATE signals SET name = 'paid'")
        await pool.execute("UPDATE waits SET is_unmatched = true")
    line = 1
    while await _dies_at(line, act):
        row = await pool.fetchrow("SELECT r.status, w.signal_id FROM runs r JOIN waits w ON w.run_id = r.id")
        assert (row["status"] == "QUEUED") is (row["signal_id"] is not None)
        line += 1
    assert line > 20
    await act()
    assert await pool.fetchval("SELECT count(*) FROM events WHERE body::text LIKE '%received at%'") == 1
    assert await finish(server, redis, run_id) == ({"got": 1}, ["DELIVERED"])


async def test_a_callback_url_that_is_ambiguous_or_of_nothing_is_refused(context: Context) -> None:
    ask = {"id": "ask", "type": "transform", "config": {"output": "{{ callback_url }}"}}
    waits = [{"id": id, "type": "wait_event"} for id in ("a", "b")]
    query = "query($spec: JSON!) { validateSpec(spec: $spec) { ok errors { code message } } }"

    async def codes(nodes: list[Any], *edges: tuple[str, str]) -> list[str]:
        spec = {"nodes": nodes, "edges": [{"source": source, "target": target} for source, target in edges]}
        return [one["code"] for one in (await call(context, query, spec=spec))["validateSpec"]["errors"]]

    assert await codes([ask]) == ["UNKNOWN_NAME"]
    assert await codes([ask, *waits], ("ask", "a"), ("ask", "b")) == ["AMBIGUOUS"]
    assert await codes([ask, *waits], ("ask", "a"), ("a", "b")) == []
    named = {**ask, "config": {"output": "{{ b.callback_url }} {{ nodes['a'].callback_url }}"}}
    assert await codes([named, *waits], ("ask", "a"), ("ask", "b")) == []


async def test_arguments_that_name_no_target_are_refused(context: Context) -> None:
    for input, field in (
        ({"name": "x"}, "input.runId"),
        ({"name": "x", "runId": "run_1", "workflowId": "wf_1", "key": "k"}, "input.runId"),
        ({"name": "x", "workflowId": "wf_1"}, "input.key"),
        ({"name": "", "runId": "run_1"}, "input.name"),
        ({"name": "x", "runId": "run_1", "idempotencyKey": ""}, "input.idempotencyKey"),
    ):
        [error] = (await mutate(context, "sendEvent", SENT, **input))["errors"]
        assert [one["field"] for one in error["errors"]] == [field]
    missing = await mutate(context, "sendEvent", SENT, name="x", runId="run_01h45ytscbebyvny4gc8cr8ma2")
    assert missing["errors"][0]["code"] == "NOT_FOUND"


async def test_an_event_for_a_key_is_kept_for_the_time_of_the_setting(context: Context) -> None:
    database = context.database
    database.deadlines = Deadlines(*Settings(kept_events_days=0.5).deadlines)
    workflow_id = await new_workflow(context, waiting())
    sent = await mutate(context, "sendEvent", SENT, workflowId=workflow_id, key="k", name="paid", payload={"n": 1})
    assert (sent["kept"], sent["signal"]["status"]) == (True, "KEPT")
    assert await prune_signals(database.pool, None) == 0
    kept = await database.pool.fetchval("SELECT extract(epoch FROM expires_at - created_at) FROM signals")
    assert float(kept) == pytest.approx(0.5 * 86400)
    await database.pool.execute("UPDATE signals SET expires_at = now() - interval '1 s'")
    assert await prune_signals(database.pool, None) == 1
