"""Tracing: one trace from a request through the queue to each node, and links for resumes."""

import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id
from redis.asyncio import Redis

from app.errors import CannotStartError
from app.tracing import configure_tracing
from engine import tracing
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from engine.nodes.registry import load_node_types
from engine.nodes.resources import ResourceOptions, open_resources
from persistence.db.database import Database
from tests.executor_worker import eventually
from tests.journal_worker import wait_until
from tests.peers.http import Peer
from tests.worker.running_worker import ended, running

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
RUN = "mutation Start($i: RunAdhocInput!) { runAdhoc(input: $i) { run { id } errors { detail } } }"
RESUME = "mutation($i: ResumeRunInput!) { resumeRun(input: $i) { run { status } errors { detail } } }"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.turn_on(provider.get_tracer("test"))
    yield exporter
    tracing.turn_on(None)


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_id(span: ReadableSpan) -> str | None:
    return None if span.parent is None else format_span_id(span.parent.span_id)


def span_id(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return format_span_id(context.span_id)


async def start(client: httpx.AsyncClient, spec: Any, headers: dict[str, str], **options: Any) -> str:
    body = {"query": RUN, "variables": {"i": {"spec": spec, "options": options}}}
    payload = (await client.post("/graphql", json=body, headers=headers)).json()["data"]["runAdhoc"]
    assert payload["errors"] == []
    run_id: str = payload["run"]["id"]
    return run_id


async def test_one_trace_goes_from_a_request_to_each_node_model_and_peer(
    spans: InMemorySpanExporter, client: httpx.AsyncClient, database: Database, redis: Redis, peer: Peer
) -> None:
    spec = {
        "nodes": [
            {"id": "ask", "type": "llm", "config": {"model": "treadle/echo", "prompt": "Hello"}},
            {"id": "call", "type": "http", "config": {"url": f"http://127.0.0.1:{peer.port}/echo"}},
            {"id": "bad", "type": "fail", "config": {"message": "no", "code": "MINE"}},
        ],
        "edges": [{"id": "1", "source": "ask", "target": "call"}, {"id": "2", "source": "call", "target": "bad"}],
    }
    run_id = await start(client, spec, HEADERS)
    async with open_resources(ResourceOptions(), {}) as opened:
        resources = {**opened, "http": GuardedHttp(Allowed.parse("127.0.0.1"))}
        async with running(database, redis, load_node_types(), resources=resources) as runner:
            runner.poll()
            assert (await ended(database, run_id))["error"]["code"] == "MINE"
            await wait_until(lambda: not runner.tasks)
    ours = [span for span in spans.get_finished_spans() if format_trace_id(span.context.trace_id) == TRACE]  # type: ignore[union-attr]
    [request] = named(spans, "mutation runAdhoc")
    [run] = named(spans, "run")
    [llm], [http], [fail] = (named(spans, f"node {type}") for type in ("llm", "http", "fail"))
    [chat], [get] = named(spans, "chat treadle/echo"), named(spans, "GET")
    assert {span.name for span in ours} == {span.name for span in (request, run, llm, http, fail, chat, get)}
    assert [parent_id(span) for span in (request, run, llm, http, fail, chat, get)] == [
        PARENT,
        *(span_id(span) for span in (request, run, run, run, llm, http)),
    ]
    assert attributes(request) == {"graphql.operation.type": "mutation", "graphql.operation.name": "Start"}
    assert attributes(run) | {"treadle.run.id": run_id, "treadle.run.status": "FAILED"} == attributes(run)
    assert attributes(llm) | {"treadle.node.id": "ask", "treadle.node.visit": 1} == attributes(llm)
    generated = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "treadle/echo"}
    assert attributes(chat) | generated == attributes(chat)
    assert attributes(chat)["gen_ai.usage.input_tokens"] > 0
    assert (fail.status.status_code, attributes(fail)["error.type"]) == (StatusCode.ERROR, "MINE")
    assert attributes(get) == {"http.request.method": "GET", "http.response.status_code": 200}
    assert peer.seen[0].headers["traceparent"] == f"00-{TRACE}-{span_id(get)}-01"
    assert peer.seen[0].headers["tracestate"] == "vendor=1"


async def test_an_execution_after_a_resume_has_a_link_to_the_request(
    spans: InMemorySpanExporter, client: httpx.AsyncClient, database: Database, redis: Redis
) -> None:
    spec = {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}
    run_id = await start(client, spec, HEADERS, breakpoints=["a"])
    async with running(database, redis) as runner:
        runner.poll()
        await eventually(
            lambda: database.pool.fetchval("SELECT 1 FROM runs WHERE id = $1 AND status = 'PAUSED'", run_id)
        )
        await client.post("/graphql", json={"query": RESUME, "variables": {"i": {"runId": run_id}}})
        runner.poll()
        await ended(database, run_id)
        await wait_until(lambda: not runner.tasks)
    first, second = named(spans, "run")
    [resume] = named(spans, "mutation resumeRun")
    assert [format_trace_id(span.context.trace_id) for span in (first, second)] == [TRACE, TRACE]  # type: ignore[union-attr]
    assert first.links == ()
    assert [format_span_id(link.context.span_id) for link in second.links] == [span_id(resume)]


async def test_without_tracing_no_context_is_stored_or_sent(
    client: httpx.AsyncClient, database: Database, redis: Redis
) -> None:
    spec = {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}
    run_id = await start(client, spec, HEADERS)
    options = await database.pool.fetchval("SELECT options FROM runs WHERE id = $1", run_id)
    assert not {"trace", "queuedBy"} & set(options)
    assert tracing.span("a") is tracing.span("b")  # nothing is made for it


@pytest.mark.parametrize(
    ("variables", "is_on"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_SERVICE_NAME": "mine"}, False),
    ],
)
def test_the_variables_of_the_sdk_turn_tracing_on(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_on: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        configure_tracing("treadle-test")
        assert tracing.is_on() is is_on
    finally:
        tracing.turn_on(None)


@pytest.mark.parametrize(
    ("exporter", "missing", "message"),
    [("nowhere", None, "no exporter of traces named 'nowhere'"), ("console", "opentelemetry.sdk.trace", "is missing")],
)
def test_a_missing_library_or_exporter_stops_the_start_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, exporter: str, missing: str | None, message: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", exporter)
    if missing is not None:
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(CannotStartError, match=message) as failed:
        configure_tracing("treadle-test")
    assert "pip install 'treadle[otel]'" in str(failed.value)
