"""`testNode` executes one node outside any run, with its resources, and stores nothing."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from arq.connections import ArqRedis

from engine.catalog_file import ModelEntry
from engine.chat_models.catalog import open_models
from engine.errors import NodeFailure
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from engine.nodes.registry import load_node_types
from engine.nodes.resources import ResourceOptions, open_resources
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.sdk.node_types import NodeTypes
from engine.states import LogLevel
from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.feed.feed import Feed
from persistence.problems import TooManyNodeTests
from persistence.queue.notifier import Notifier
from resolvers.context import Context
from resolvers.runs import node_test
from tests.peers import chat as chat
from tests.peers.http import http_peer
from tests.schema_client import mutate

ANSWER = """output port input partialOutput logs durationMs waitingFor { until prompt schema }
  error { nodeId code message retryable details }"""
VALUES = {"input": {"value": 12}, "nodes": {"classify": {"output": {"category": "billing"}}}}


class Stuck(NodeType[NodeConfig]):
    name, title, description, Config = "stuck", "Stuck", "Never ends.", NodeConfig
    is_stopped = False

    async def execute(self, config: NodeConfig, ctx: NodeContext) -> Output:
        from asyncio import Event

        ctx.text("so far")
        try:
            await Event().wait()
        finally:
            type(self).is_stopped = True
        raise AssertionError


class Logging(NodeType[NodeConfig]):
    name, title, description, Config = "logging", "Logging", "Logs and fails.", NodeConfig

    async def execute(self, config: NodeConfig, ctx: NodeContext) -> Output:
        ctx.log(LogLevel.INFO, "started")
        ctx.log(LogLevel.WARNING, "odd")
        ctx.progress(0.5, "half")
        raise NodeFailure("TALK", "nothing to say", retryable=True, details={"n": 1})


@pytest.fixture
async def context(database: Database, redis_url: str, caller: Caller) -> AsyncIterator[Context]:
    redis = ArqRedis.from_url(redis_url)
    feed = Feed(database, redis)
    types = NodeTypes([*load_node_types().values(), Stuck(), Logging()])
    async with open_resources(ResourceOptions(sandbox_ready=0), {}) as resources:
        yield Context(caller, database, types, redis, Notifier(redis, "test"), feed, resources=resources)
    await feed.close()
    await redis.aclose()


async def answer_of(context: Context, type: str, config: Any, values: Any = VALUES) -> dict[str, Any]:
    return await mutate(context, "testNode", ANSWER, type=type, config=config, context=values)


async def test_a_node_is_executed_with_the_values_of_the_caller(context: Context) -> None:
    output = {"n": "{{ input.value + 1 }}", "c": "{{ classify.output.category }}", "d": "{{ nodes.classify.status }}"}
    answer = await answer_of(context, "transform", {"output": output})
    assert (answer["errors"], answer["error"]) == ([], None)
    assert answer["output"] == {"n": 13, "c": "billing", "d": "COMPLETED"}
    assert answer["durationMs"] > 0


async def test_item_and_index_can_be_set_too(context: Context) -> None:
    answer = await answer_of(
        context, "transform", {"output": "{{ item.id }} of {{ index }}"}, {"item": {"id": 7}, "index": 2}
    )
    assert answer["output"] == "7 of 2"


async def test_a_map_executes_its_items(context: Context) -> None:
    config = {
        "items": [1, "{{ input.value }}"],
        "onItemError": "collect",
        "node": {
            "type": "code",
            "config": {"code": "def process(v):\n    return 12 // (v - 1)", "input_mapping": {"v": "{{ item }}"}},
        },
    }
    output = (await answer_of(context, "map", config))["output"]
    assert output["items"] == [None, 1]
    assert [(error["index"], error["code"]) for error in output["errors"]] == [(0, "CODE")]
    refused = await answer_of(
        context, "map", {"items": [1], "node": {"type": "human", "config": {"prompt": "{{ x }}"}}}
    )
    assert [error["field"] for error in refused["errors"][0]["errors"]] == [
        "input.config.node.type",
        "input.config.node.config.prompt",
    ]


async def test_code_runs_in_a_sandbox_of_the_server(context: Context) -> None:
    config = {
        "code": "def process(v):\n    print('seen', v)\n    return v * 2",
        "input_mapping": {"v": "{{ input.value }}"},
    }
    answer = await answer_of(context, "code", config)
    assert (answer["output"], answer["logs"], answer["input"]) == (24, ["seen 12"], {"v": 12})


async def test_the_port_of_a_node_is_returned(context: Context) -> None:
    answer = await answer_of(context, "conditional", {"condition": "input.value > 10"})
    assert (answer["output"], answer["port"]) == ({"result": True}, "true")


async def test_a_node_that_would_wait_returns_its_wait(context: Context) -> None:
    schema = {"type": "object"}
    question = await answer_of(context, "human", {"prompt": "Pay {{ input.value }}?", "schema": schema})
    assert question["waitingFor"] == {"until": None, "prompt": "Pay 12?", "schema": schema}
    delayed = await answer_of(context, "delay", {"until": "2030-01-01T00:00:00Z"})
    assert delayed["waitingFor"]["until"].startswith("2030-01-01T00:00:00")
    assert question["output"] is question["error"] is delayed["output"] is delayed["error"] is None


async def test_a_subworkflow_node_fails_outside_a_run(context: Context) -> None:
    context.resources = {**context.resources, "runs": "those of a worker"}
    answer = await answer_of(context, "subworkflow", {"workflow": "wf_1"})
    assert answer["error"]["code"] == "CONFIG" and "needs a parent run" in answer["error"]["message"]


async def test_a_failed_node_returns_its_logs_and_its_error(context: Context) -> None:
    answer = await answer_of(context, "logging", {})
    assert answer["logs"] == ["started", "WARNING: odd"]
    assert answer["error"] == {
        "nodeId": None,
        "code": "TALK",
        "message": "nothing to say",
        "retryable": True,
        "details": {"n": 1},
    }


async def test_a_node_is_stopped_after_the_time_limit(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_test, "TIME_LIMIT_S", 0.05)
    answer = await answer_of(context, "stuck", {})
    assert answer["error"]["code"] == "TIMEOUT" and answer["partialOutput"] == "so far"
    assert Stuck.is_stopped


async def test_a_server_refuses_more_simultaneous_tests_of_a_caller_than_its_limit(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_test, "TIME_LIMIT_S", 1.0)
    tests = [asyncio.create_task(answer_of(context, "stuck", {})) for _ in range(node_test.MAX_OF_CALLER + 1)]
    other = replace(context, caller=replace(context.caller, subject="another caller"))
    tests.append(asyncio.create_task(answer_of(other, "stuck", {})))
    answers = await asyncio.gather(*tests)
    refused = [answer["errors"][0] for answer in answers if answer["errors"]]
    assert [(error["code"], "runs 8 node tests of yours" in error["detail"]) for error in refused] == [("LIMIT", True)]
    assert sum(answer["error"] is not None for answer in answers) == node_test.MAX_OF_CALLER + 1
    assert answers[-1]["error"]["code"] == "TIMEOUT", "the limit of one caller is not that of another"
    assert (await answer_of(context, "transform", {"output": 1}))["output"] == 1


def test_tests_are_counted_by_caller_by_project_and_in_total() -> None:
    tests, held = node_test.RunningTests(), ExitStack()
    with held:
        for number in range(node_test.MAX_OF_PROJECT):
            held.enter_context(tests.counted(f"caller {number}", "a"))
        with pytest.raises(TooManyNodeTests, match="16 node tests of your project"), tests.counted("another", "a"):
            pass
        for number in range(node_test.MAX_OF_SERVER - node_test.MAX_OF_PROJECT):
            held.enter_context(tests.counted(f"caller {number}", f"project {number}"))
        with pytest.raises(TooManyNodeTests, match="32 node tests of all callers"), tests.counted("new", "new"):
            pass
    assert not tests._running


CHAT = {"model": "repeats", "prompt": "{{ input.value }} apples"}
CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "start": ({}, {"value": 12}),
    "end": ({"output": "{{ classify.output.category }}"}, "billing"),
    "transform": ({"output": ["{{ input.value }}"]}, [12]),
    "conditional": ({"condition": "input.value > 10"}, {"result": True}),
    "switch": ({"cases": [{"port": "many", "condition": "input.value > 10"}]}, {"port": "many"}),
    "code": ({"code": "def process(v): return v + 1", "input_mapping": {"v": "{{ input.value }}"}}, 13),
    "tool": ({"tool": "math_evaluate", "arguments": {"expression": "{{ input.value }} * 2"}}, 24.0),
    "http": ({"url": "PEER/text"}, "grüße"),
    "llm": (CHAT, "12 apples"),
    "agent": (CHAT, "12 apples"),
    "delay": ({"until": "2030-01-01T00:00:00Z"}, None),
    "human": ({"prompt": "{{ input.value }}?"}, None),
    "subworkflow": ({"workflow": "wf_1"}, None),
}


@pytest.mark.parametrize("kind", CASES)
async def test_a_node_of_every_type_can_be_tested(context: Context, kind: str) -> None:
    config, expected = CASES[kind]
    async with http_peer() as peer, open_models([ModelEntry(name="repeats", base_url=f"{peer.url}/v1")]) as models:
        http = GuardedHttp(Allowed.parse("127.0.0.1"))
        context.resources = {**context.resources, "models": models, "http": http}
        if kind == "http":
            config = {"url": config["url"].replace("PEER", peer.url)}
        answer = await answer_of(context, kind, config)
    output = answer["output"]
    assert answer["errors"] == []
    match kind:
        case "delay" | "human":
            assert answer["waitingFor"] is not None
        case "subworkflow":
            assert "needs a parent run" in answer["error"]["message"]
        case "http":
            assert (output["status"], output["body"]) == (200, expected)
        case "agent":
            assert output == {"text": expected, "steps": 1, "toolCalls": [], "finishReason": "stop"}
        case _:
            assert output == expected


async def test_a_template_that_fails_is_an_error_of_the_node(context: Context) -> None:
    answer = await answer_of(context, "transform", {"output": "{{ input.nope.deeper }}"})
    assert answer["error"]["code"] == "TEMPLATE" and "input.nope" in answer["error"]["message"]


class SameSecrets:
    """Resolves every name to the same value."""

    async def resolve(self, project_id: str, names: Collection[str]) -> dict[str, str]:
        return dict.fromkeys(names, "correct-horse-battery")


async def test_a_secret_is_passed_to_the_node_and_redacted_in_the_answer(context: Context) -> None:
    context.resources = {**context.resources, "secrets": SameSecrets()}
    text = "{{ secrets.key }} has {{ secrets.key | length }} letters and is {{ secrets.key | upper }}"
    config = {"code": "def process(text):\n    return text", "input_mapping": {"text": text}}
    answer = await answer_of(context, "code", config)
    assert answer["output"] == answer["input"]["text"] == "••• has 21 letters and is •••"
    code = {"code": "def process(k):\n    print(k)\n    return k / 1", "input_mapping": {"k": "{{ secrets.key }}"}}
    answer = await answer_of(context, "code", code)
    assert answer["error"]["code"] == "CODE" and answer["logs"] == ["•••"] and answer["input"] == {"k": "•••"}
    assert "correct-horse" not in str(answer)


async def test_nothing_is_stored(context: Context, database: Database) -> None:
    await answer_of(context, "logging", {})
    for table in ("runs", "events", "node_states", "checkpoints", "waits"):
        assert await database.pool.fetchval(f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize(
    ("type", "config", "values", "field", "code"),
    [
        ("nope", {}, {}, "input.type", "UNKNOWN_TYPE"),
        ("conditional", {}, {}, "input.config.condition", "CONFIG"),
        ("conditional", {"condition": 5}, {}, "input.config.condition", "CONFIG"),
        ("conditional", {"condition": "1", "more": 1}, {}, "input.config.more", "CONFIG"),
        ("switch", {"cases": [{"port": "a", "condition": "1 >"}]}, {}, "input.config.cases[0].condition", "TEMPLATE"),
        ("transform", {"output": {"a": ["{{ nope.output }}"]}}, {}, "input.config.output.a[0]", "UNKNOWN_NAME"),
        ("transform", {"output": "{{ nodes.nope.output }}"}, {}, "input.config.output", "UNKNOWN_NODE"),
        ("transform", [], {}, "input.config", "NOT_AN_OBJECT"),
        ("transform", {"output": 1}, [], "input.context", "NOT_AN_OBJECT"),
        ("transform", {"output": 1}, {"nodes": []}, "input.context.nodes", "NOT_AN_OBJECT"),
        ("transform", {"output": 1}, {"nodes": {"a": 1}}, "input.context.nodes.a", "NOT_AN_OBJECT"),
        ("transform", {"output": 1}, {"secrets": {"k": "v"}}, "input.context.secrets", "FORBIDDEN"),
    ],
)
async def test_an_invalid_test_is_reported_by_field(
    context: Context, type: str, config: Any, values: Any, field: str, code: str
) -> None:
    answer = await answer_of(context, type, config, values)
    [problem] = answer["errors"]
    assert [(error["field"], error["code"]) for error in problem["errors"]] == [(field, code)]
    assert answer["output"] is answer["error"] is None


async def test_a_viewer_may_not_test_nodes(context: Context, caller: Caller, project: str) -> None:
    context.caller = replace(caller, roles={project: Role.VIEWER})
    answer = await answer_of(context, "transform", {"output": 1})
    assert [error["code"] for error in answer["errors"]] == ["FORBIDDEN"]
