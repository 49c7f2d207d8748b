"""`testNode`: one node by itself, with what it needs and nothing stored."""

import asyncio
from collections.abc import AsyncIterator, Collection
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
from persistence.queue.notifier import Notifier
from resolvers.context import Context
from resolvers.runs import node_test
from tests.peers import chat as chat
from tests.peers.http import http_peer
from tests.schema_client import mutate

ANSWER = """output port input partialOutput logs durationMs waitingFor { until prompt schema }
  error { nodeId code message retryable details }"""
GIVEN = {"input": {"value": 12}, "nodes": {"classify": {"output": {"category": "billing"}}}}


class Stuck(NodeType[NodeConfig]):
    name, title, description, Config = "stuck", "Stuck", "Never ends.", NodeConfig
    gone = False

    async def execute(self, config: NodeConfig, ctx: NodeContext) -> Output:
        from asyncio import Event

        ctx.text("so far")
        try:
            await Event().wait()
        finally:
            type(self).gone = True
        raise AssertionError


class Talks(NodeType[NodeConfig]):
    name, title, description, Config = "talks", "Talks", "Says what it does.", NodeConfig

    async def execute(self, config: NodeConfig, ctx: NodeContext) -> Output:
        ctx.log(LogLevel.INFO, "begun")
        ctx.log(LogLevel.WARNING, "odd")
        ctx.progress(0.5, "half")
        raise NodeFailure("TALK", "nothing to say", retryable=True, details={"n": 1})


@pytest.fixture
async def context(database: Database, redis_url: str, caller: Caller) -> AsyncIterator[Context]:
    redis = ArqRedis.from_url(redis_url)
    feed = Feed(database, redis)
    types = NodeTypes([*load_node_types().values(), Stuck(), Talks()])
    async with open_resources(ResourceOptions(sandbox_ready=0), {}) as resources:
        yield Context(caller, database, types, redis, Notifier(redis, "test"), feed, resources=resources)
    await feed.close()
    await redis.aclose()


async def tried(context: Context, type: str, config: Any, given: Any = GIVEN) -> dict[str, Any]:
    return await mutate(context, "testNode", ANSWER, type=type, config=config, context=given)


async def test_a_node_is_run_with_what_it_is_given(context: Context) -> None:
    output = {"n": "{{ input.value + 1 }}", "c": "{{ classify.output.category }}", "d": "{{ nodes.classify.status }}"}
    answer = await tried(context, "transform", {"output": output})
    assert (answer["errors"], answer["error"]) == ([], None)
    assert answer["output"] == {"n": 13, "c": "billing", "d": "COMPLETED"}
    assert answer["durationMs"] > 0


async def test_other_names_of_a_run_can_be_given_too(context: Context) -> None:
    answer = await tried(
        context, "transform", {"output": "{{ item.id }} of {{ index }}"}, {"item": {"id": 7}, "index": 2}
    )
    assert answer["output"] == "7 of 2"


async def test_a_map_runs_its_items(context: Context) -> None:
    config = {
        "items": [1, "{{ input.value }}"],
        "onItemError": "collect",
        "node": {
            "type": "code",
            "config": {"code": "def process(v):\n    return 12 // (v - 1)", "input_mapping": {"v": "{{ item }}"}},
        },
    }
    output = (await tried(context, "map", config))["output"]
    assert output["items"] == [None, 1]
    assert [(error["index"], error["code"]) for error in output["errors"]] == [(0, "CODE")]
    refused = await tried(context, "map", {"items": [1], "node": {"type": "human", "config": {"prompt": "{{ x }}"}}})
    assert [error["field"] for error in refused["errors"][0]["errors"]] == [
        "input.config.node.type",
        "input.config.node.config.prompt",
    ]


async def test_code_runs_in_a_sandbox_of_the_server(context: Context) -> None:
    config = {
        "code": "def process(v):\n    print('seen', v)\n    return v * 2",
        "input_mapping": {"v": "{{ input.value }}"},
    }
    answer = await tried(context, "code", config)
    assert (answer["output"], answer["logs"], answer["input"]) == (24, ["seen 12"], {"v": 12})


async def test_a_port_is_told(context: Context) -> None:
    answer = await tried(context, "conditional", {"condition": "input.value > 10"})
    assert (answer["output"], answer["port"]) == ({"result": True}, "true")


async def test_a_node_that_would_wait_says_for_what(context: Context) -> None:
    schema = {"type": "object"}
    asked = await tried(context, "human", {"prompt": "Pay {{ input.value }}?", "schema": schema})
    assert asked["waitingFor"] == {"until": None, "prompt": "Pay 12?", "schema": schema}
    delayed = await tried(context, "delay", {"until": "2030-01-01T00:00:00Z"})
    assert delayed["waitingFor"]["until"].startswith("2030-01-01T00:00:00")
    assert asked["output"] is asked["error"] is delayed["output"] is delayed["error"] is None


async def test_a_child_run_has_no_parent_here(context: Context) -> None:
    context.resources = {**context.resources, "runs": "those of a worker"}
    answer = await tried(context, "subworkflow", {"workflow": "wf_1"})
    assert answer["error"]["code"] == "CONFIG" and "needs a run" in answer["error"]["message"]


async def test_a_failure_comes_with_its_logs(context: Context) -> None:
    answer = await tried(context, "talks", {})
    assert answer["logs"] == ["begun", "WARNING: odd"]
    assert answer["error"] == {
        "nodeId": None,
        "code": "TALK",
        "message": "nothing to say",
        "retryable": True,
        "details": {"n": 1},
    }


async def test_it_has_a_time_limit_and_really_stops(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_test, "TIME_LIMIT_S", 0.05)
    answer = await tried(context, "stuck", {})
    assert answer["error"]["code"] == "TIMEOUT" and answer["partialOutput"] == "so far"
    assert Stuck.gone


async def test_a_server_tries_so_many_nodes_at_once_and_says_when_it_is_full(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_test, "TIME_LIMIT_S", 1.0)
    trying = [asyncio.create_task(tried(context, "stuck", {})) for _ in range(node_test.AT_ONCE + 1)]
    answers = await asyncio.gather(*trying)
    refused = [answer["errors"][0] for answer in answers if answer["errors"]]
    assert [(one["code"], "8 nodes are being tried" in one["detail"]) for one in refused] == [("LIMIT", True)]
    assert sum(answer["error"] is not None for answer in answers) == node_test.AT_ONCE
    assert (await tried(context, "transform", {"output": 1}))["output"] == 1


CHAT = {"model": "repeats", "prompt": "{{ input.value }} apples"}
TRIALS: dict[str, tuple[dict[str, Any], Any]] = {
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


@pytest.mark.parametrize("kind", TRIALS)
async def test_a_node_of_every_type_can_be_tried(context: Context, kind: str) -> None:
    config, expected = TRIALS[kind]
    async with http_peer() as peer, open_models([ModelEntry(name="repeats", base_url=f"{peer.url}/v1")]) as models:
        http = GuardedHttp(Allowed.parse("127.0.0.1"))
        context.resources = {**context.resources, "models": models, "http": http}
        if kind == "http":
            config = {"url": config["url"].replace("PEER", peer.url)}
        answer = await tried(context, kind, config)
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
            assert output == {"text": expected, "steps": 1, "toolCalls": []}
        case _:
            assert output == expected


async def test_a_template_that_fails_is_an_error_of_the_node(context: Context) -> None:
    answer = await tried(context, "transform", {"output": "{{ input.nope.deeper }}"})
    assert answer["error"]["code"] == "TEMPLATE" and "input.nope" in answer["error"]["message"]


class Safe:
    """The secrets of every project."""

    async def resolve(self, project_id: str, names: Collection[str]) -> dict[str, str]:
        return dict.fromkeys(names, "correct-horse-battery")


async def test_a_secret_is_known_to_the_node_and_told_to_nobody(context: Context) -> None:
    context.resources = {**context.resources, "secrets": Safe()}
    answer = await tried(context, "transform", {"output": "{{ secrets.key }} has {{ secrets.key | length }} letters"})
    assert answer["output"] == "••• has 21 letters"
    code = {"code": "def process(k):\n    print(k)\n    return k / 1", "input_mapping": {"k": "{{ secrets.key }}"}}
    answer = await tried(context, "code", code)
    assert answer["error"]["code"] == "CODE" and answer["logs"] == ["•••"] and answer["input"] == {"k": "•••"}
    assert "correct-horse" not in str(answer)


async def test_nothing_is_stored(context: Context, database: Database) -> None:
    await tried(context, "talks", {})
    for table in ("runs", "events", "node_states", "checkpoints", "waits"):
        assert await database.pool.fetchval(f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize(
    ("type", "config", "given", "field", "code"),
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
async def test_what_cannot_be_run_is_told_by_field(
    context: Context, type: str, config: Any, given: Any, field: str, code: str
) -> None:
    answer = await tried(context, type, config, given)
    [problem] = answer["errors"]
    assert [(one["field"], one["code"]) for one in problem["errors"]] == [(field, code)]
    assert answer["output"] is answer["error"] is None


async def test_who_may_not_run_may_not_test(context: Context, caller: Caller, project: str) -> None:
    context.caller = replace(caller, roles={project: Role.VIEWER})
    answer = await tried(context, "transform", {"output": 1})
    assert [error["code"] for error in answer["errors"]] == ["FORBIDDEN"]
