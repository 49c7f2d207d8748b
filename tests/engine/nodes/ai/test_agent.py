"""`agent` nodes with LangChain's agent, a real client library, a local server and the tools."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.runnables.config import var_child_runnable_config
from pydantic import ValidationError

from engine.catalog_file import ModelEntry
from engine.chat_models.catalog import open_models
from engine.errors import NodeFailure
from engine.events import NodeChange
from engine.sdk.node import NodeContext, Output
from engine.sdk.tool import ToolFailed, ToolInfo
from engine.tools.catalog import open_tools
from engine.types import JSON
from engine.values.storable import check_storable
from tests.engine.node_runner import TYPES, NodeHarness
from tests.peers import chat, chat_protocol
from tests.peers.http import Peer, http_peer

QUERY = {"name": "json_query", "arguments": {"data": {"a": 7}, "expression": "a"}}
PRICE = {"input": 2.0, "output": 10.0}


class ProbeTool:
    """A tool that returns its arguments, waits, or fails, depending on its argument."""

    def __init__(self, name: str = "probe", scopes: frozenset[str] = frozenset()) -> None:
        parameters = {"type": "object", "properties": {"do": {"type": "string"}, "config": {}}, "required": ["do"]}
        self.info = ToolInfo(name, "Tries things.", parameters, "builtin", scopes)
        self.keys: list[str] = []
        self.started, self.stopped = asyncio.Event(), asyncio.Event()

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        self.keys.append(ctx.idempotency_key)
        self.started.set()
        ctx.progress(0.5, "half way")
        match arguments["do"]:
            case "fail":
                raise ToolFailed("not today")
            case "wait":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.stopped.set()
            case "shout":
                return "a" * 200_000
        return {"did": arguments}


class AgentHarness:
    def __init__(self, peer: Peer, probe: ProbeTool, resources: dict[str, Any]) -> None:
        self.peer, self.probe, self.resources = peer, probe, resources

    def harness(self) -> NodeHarness:
        return NodeHarness({}, self.resources)

    async def run(self, calls: Any, harness: NodeHarness | None = None, **config: Any) -> Any:
        outcome = await (harness or self.harness()).run("agent", _config(calls, **config))
        assert isinstance(outcome, Output)
        return outcome.value

    async def failure(self, calls: Any, **config: Any) -> NodeFailure:
        with pytest.raises(NodeFailure) as caught:
            await self.run(calls, **config)
        return caught.value

    def tool_messages(self) -> list[str]:
        """Return the tool messages in the last request to the model."""
        return chat_protocol.messages_of(self.peer.seen[-1], "tool")


def _config(calls: Any, **config: Any) -> dict[str, Any]:
    content = "{% raw %}" + json.dumps(calls) + "{% endraw %}"
    return {
        "model": "calls",
        "messages": [{"role": "user", "content": content}],
        "tools": ["json_query", "probe"],
        **config,
    }


def probe_call(action: str, **more: Any) -> dict[str, Any]:
    return {"name": "probe", "arguments": {"do": action, **more}}


@pytest.fixture
async def agents() -> AsyncIterator[AgentHarness]:
    probe = ProbeTool()
    forbidden = ProbeTool("forbidden", frozenset({"secret:read"}))
    async with http_peer() as peer, open_tools({}, [probe, forbidden]) as tools:
        entries = [{"name": name, "base_url": f"{peer.url}/v1", "model": name} for name in chat.MODELS]
        entries += [
            {"name": "priced", "base_url": f"{peer.url}/v1", "model": "calls-for-ever", "price": PRICE},
            {"name": "priced-end", "base_url": f"{peer.url}/v1", "model": "calls", "price": PRICE},
        ]
        async with open_models([ModelEntry.model_validate(entry) for entry in entries]) as models:
            yield AgentHarness(peer, probe, {"tools": tools, "models": models})


async def test_an_agent_calls_tools_until_the_model_answers(agents: AgentHarness) -> None:
    harness = agents.harness()
    assert await agents.run([QUERY], harness) == {
        "text": "They said: 7",
        "steps": 2,
        "toolCalls": [{"tool": "json_query", "arguments": QUERY["arguments"], "failed": False}],
        "finishReason": "stop",
    }
    assert [line for line in harness.log_messages if "json_query" in line] == [
        "calls json_query",
        "json_query answered",
    ]
    assert "step 1: asks calls" in [what.state.message for what in harness.events if isinstance(what, NodeChange)]
    assert harness.state.usage is not None
    assert (harness.state.usage.input_tokens, harness.state.usage.output_tokens) == (2000, 400)
    assert harness.state.partial_output == "They said: 7"
    assert {tool["function"]["name"] for tool in chat_protocol.body_of(agents.peer.seen[0])["tools"]} == {
        "json_query",
        "probe",
    }


async def test_calls_of_one_step_run_concurrently_and_return_in_order(agents: AgentHarness) -> None:
    output = await agents.run([probe_call("one", config="taken"), QUERY, probe_call("two")])
    assert agents.tool_messages() == ['{"did":{"do":"one","config":"taken"}}', "7", '{"did":{"do":"two"}}']
    assert [call["tool"] for call in output["toolCalls"]] == ["probe", "json_query", "probe"]


async def test_each_call_has_its_own_key_which_stays_the_same_when_the_node_runs_again(agents: AgentHarness) -> None:
    calls = [probe_call("one"), probe_call("one"), probe_call("two")]
    await agents.run(calls)
    first = list(agents.probe.keys)
    await agents.run(calls)
    assert len(set(first)) == 3
    assert set(agents.probe.keys[3:]) == set(first)
    assert all(key.startswith("run_1/0/n/") for key in first)


async def test_the_failure_of_a_tool_reaches_the_model_and_the_log(agents: AgentHarness) -> None:
    harness = agents.harness()
    output = await agents.run([probe_call("fail"), probe_call("one")], harness)
    assert agents.tool_messages()[0] == "probe: not today"
    assert [call["failed"] for call in output["toolCalls"]] == [True, False]
    assert "probe failed: probe: not today" in harness.log_messages


@pytest.mark.parametrize(
    "call,message",
    [
        ({"name": "probe", "arguments": {"undo": 1}}, "do not match probe"),
        ({"name": "nosuch", "arguments": {}}, "nosuch is not a valid tool"),
        ({"name": "probe", "arguments": {"do": 2**64 + 1}}, "at .do is a whole number beyond 64 bits"),
    ],
)
async def test_an_invalid_call_is_reported_to_the_model(agents: AgentHarness, call: Any, message: str) -> None:
    output = await agents.run([call])
    assert message in output["text"]


@pytest.mark.parametrize("value", ["18446744073709551617", "1e999", '"\\u0000"', "[" * 99 + "]" * 99])
async def test_an_agent_goes_on_after_a_call_with_arguments_that_cannot_be_stored(
    agents: AgentHarness, value: str
) -> None:
    output = await agents.run([{"name": "probe", "arguments": f'{{"do": "one", "config": {value}}}'}])
    [call] = output["toolCalls"]
    assert call["arguments"]["json"].startswith('{"do": "one"')
    assert call["failed"]
    check_storable(output)


@pytest.mark.parametrize("arguments", ["[1, 2]", '{"do": "\\uD800"}'])
async def test_a_model_with_invalid_arguments_gets_one_more_request(agents: AgentHarness, arguments: str) -> None:
    failed = await agents.failure([{"name": "probe", "arguments": arguments}])
    assert (failed.code, failed.retryable) == ("MODEL_OUTPUT", True)
    assert "twice called probe" in failed.message
    assert "were no JSON object" in chat_protocol.messages_of(agents.peer.seen[1])[-1]


async def test_a_result_that_is_too_long_is_cut_for_the_model(agents: AgentHarness) -> None:
    await agents.run([probe_call("shout")])
    assert agents.tool_messages()[0].endswith("… (100000 characters more)")


async def test_a_tool_that_the_run_may_not_use_is_not_offered_to_the_model(agents: AgentHarness) -> None:
    failed = await agents.failure([QUERY], tools=["forbidden"])
    assert (failed.code, failed.retryable) == ("TOOL_FORBIDDEN", False)
    assert "secret:read" in failed.message
    assert not agents.peer.seen


@pytest.mark.parametrize(
    "config,limit,calls",
    [
        ({"model": "calls-for-ever", "maxSteps": 3}, "steps", 3),
        ({"model": "calls-for-ever", "budget": {"tokens": 2000}}, "tokens", 2),
        ({"model": "priced", "budget": {"usd": 0.005}}, "usd", 2),
        ({"model": "tells-no-usage-and-calls", "budget": {"tokens": 2000}}, "unknown", 1),
    ],
)
async def test_an_agent_stops_at_its_budget(
    agents: AgentHarness, config: dict[str, Any], limit: str, calls: int
) -> None:
    failed = await agents.failure([QUERY], **config)
    assert (failed.code, failed.retryable) == ("BUDGET", False)
    assert failed.details["limit"] == limit
    assert len(agents.peer.seen) == calls


async def test_the_messages_of_an_agent_have_a_limit(agents: AgentHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.nodes.ai.agent_loop.MAX_CONVERSATION", 150_000)
    failed = await agents.failure([probe_call("shout")], model="calls-for-ever", maxSteps=50)
    assert (failed.code, failed.details["limit"], len(agents.peer.seen)) == ("BUDGET", "conversation", 2)


async def test_an_answer_is_returned_even_if_it_used_up_the_budget(agents: AgentHarness) -> None:
    output = await agents.run([QUERY], model="priced-end", budget={"usd": 0.005, "tokens": 2400}, maxSteps=2)
    assert output["text"] == "They said: 7"


async def test_a_budget_in_usd_needs_a_price(agents: AgentHarness) -> None:
    failed = await agents.failure([QUERY], budget={"usd": 1})
    assert failed.code == "CONFIG"
    assert "`price`" in failed.message


@pytest.mark.parametrize(
    "model,code", [("busy", "MODEL_RATE_LIMIT"), ("locked", "MODEL_AUTH"), ("ends-early", "MODEL_STREAM")]
)
async def test_a_failing_model_fails_the_agent_with_the_codes_of_an_llm(
    agents: AgentHarness, model: str, code: str
) -> None:
    assert (await agents.failure([QUERY], model=model)).code == code


async def test_a_cancel_stops_the_running_tool(agents: AgentHarness) -> None:
    running = asyncio.create_task(agents.run([probe_call("wait")]))
    await asyncio.wait_for(agents.probe.started.wait(), 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert agents.probe.stopped.is_set()


async def test_a_cancel_stops_the_model_call(agents: AgentHarness) -> None:
    harness = agents.harness()
    running = asyncio.create_task(agents.run([QUERY], harness, model="babbles"))
    await asyncio.wait_for(harness.streamed.wait(), 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(agents.peer.left.wait(), 5)
    assert harness.state.partial_output is not None
    assert harness.state.partial_output.startswith("bla")


async def test_the_time_of_an_agent_is_limited(agents: AgentHarness) -> None:
    failed = await agents.failure([probe_call("wait")], timeoutS=0.5)
    assert failed.code == "MODEL_TIMEOUT"
    assert agents.probe.stopped.is_set()


async def test_an_agent_does_not_use_the_graph_that_it_runs_in(agents: AgentHarness) -> None:
    """A node may run in a superstep, whose checkpoints the agent must not use."""
    token = var_child_runnable_config.set({"configurable": {"thread_id": "t", "__pregel_checkpointer": object()}})
    try:
        assert (await agents.run([QUERY]))["text"] == "They said: 7"
    finally:
        var_child_runnable_config.reset(token)


async def test_an_agent_without_tools_answers_in_one_step(agents: AgentHarness) -> None:
    output = await agents.run("hi", model="repeats", tools=[])
    assert output == {"text": '"hi"', "steps": 1, "toolCalls": [], "finishReason": "stop"}


@pytest.mark.parametrize(
    "config,message",
    [
        ({}, "model"),
        ({"model": "m"}, "give either `prompt` or `messages`"),
        ({"model": "m", "prompt": "a", "maxSteps": 0}, "maxSteps"),
        ({"model": "m", "prompt": "a", "tools": "probe"}, "tools"),
        ({"model": "m", "prompt": "a", "budget": {"usd": -1}}, "budget.usd"),
        ({"model": "m", "prompt": "a", "budget": {"euro": 1}}, "budget.euro"),
        ({"model": "m", "prompt": "a", "responseSchema": {}}, "responseSchema"),
    ],
)
def test_an_invalid_config_is_refused_before_the_run(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TYPES["agent"].Config.model_validate(config)
    assert message in str(caught.value)
