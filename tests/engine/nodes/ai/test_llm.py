"""`llm` nodes with the real client library against a server on loopback."""

import asyncio
import json
from typing import Any

import pytest
from pydantic import ValidationError

from engine.errors import NodeFailure
from engine.events import Usage
from engine.sdk.node import Output
from tests.engine.node_runner import TYPES, NodeHarness
from tests.engine.nodes.ai.llm_nodes import LlmHarness
from tests.peers.chat_protocol import delta, event, model, stream
from tests.peers.http_protocol import Peer, Request, Writer


async def test_the_output_is_the_text_and_it_is_streamed(llm: LlmHarness) -> None:
    harness = llm.harness(input={"topic": "rain"})
    config = {"model": "repeats", "prompt": "A poem about {{ input.topic }}", "system": "Be short."}
    outcome = await harness.run("llm", config)
    assert outcome == Output("A poem about rain")
    assert type(outcome.value) is str
    assert "".join(delta.text for delta in harness.deltas) == "A poem about rain"
    assert harness.state.partial_output == "A poem about rain"
    assert llm.request()["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "A poem about rain"},
    ]
    assert llm.peer.seen[-1].headers["authorization"] == "Bearer sk-secret-canary"


async def test_the_messages_are_recorded_as_the_input_of_the_node(llm: LlmHarness) -> None:
    harness = llm.harness(input=1)
    await harness.run("llm", {"model": "repeats", "prompt": "Is {{ input }} prime?"})
    assert harness.context.noted_input == {
        "model": "repeats",
        "messages": [{"role": "user", "content": "Is 1 prime?"}],
    }


async def test_a_template_can_give_the_conversation(llm: LlmHarness) -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    outcome = await llm.harness(input=messages).run("llm", {"model": "repeats", "messages": "{{ input }}"})
    assert outcome == Output("c")
    assert llm.request()["messages"] == messages


async def test_a_prompt_that_is_no_string_is_sent_as_json(llm: LlmHarness) -> None:
    harness = llm.harness(input={"a": [1, None]})
    assert await harness.run("llm", {"model": "repeats", "prompt": "{{ input }}"}) == Output('{"a":[1,null]}')


async def test_usage_and_cost_are_reported(llm: LlmHarness) -> None:
    harness = llm.harness()
    await harness.run("llm", {"model": "priced", "prompt": "hi"})
    assert harness.state.usage == Usage("priced", 1000, 200, pytest.approx((600 * 2 + 400 * 0.5 + 200 * 10) / 1e6))
    harness = llm.harness()
    await harness.run("llm", {"model": "tells-no-usage", "prompt": "hi"})
    assert harness.state.usage == Usage("tells-no-usage", 0, 0, None)


@model("reports-at-each-chunk")
async def reports_at_each_chunk(_: Peer, request: Request, writer: Writer) -> None:
    """Reports the tokens of the whole answer so far with each chunk, as some endpoints do."""
    counts = [{"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count} for count in range(4)]
    chunks: list[tuple[dict[str, str], str | None]] = [*(({"content": one}, None) for one in "abc"), ({}, "stop")]
    events = [json.loads(delta(*chunk).removeprefix(b"data: ")) for chunk in chunks]
    stream(writer, [event(one | {"usage": usage}) for one, usage in zip(events, counts, strict=True)])


async def test_usage_that_each_chunk_reports_is_not_added_up(llm: LlmHarness) -> None:
    harness = llm.harness()
    await harness.run("llm", {"model": "reports-at-each-chunk", "prompt": "hi"})
    assert harness.state.usage == Usage("reports-at-each-chunk", 5, 3, None)


async def test_the_token_limit_is_sent_under_the_name_that_the_endpoint_knows(llm: LlmHarness) -> None:
    await llm.output("repeats", max_tokens=7, temperature=0.5)
    assert (llm.request()["max_tokens"], llm.request()["temperature"]) == (7, 0.5)
    assert "max_completion_tokens" not in llm.request()
    await llm.output("modern", maxTokens=7)
    assert llm.request()["max_completion_tokens"] == 7
    assert "max_tokens" not in llm.request()


async def test_a_cut_answer_is_returned_with_a_warning(llm: LlmHarness) -> None:
    harness = llm.harness()
    assert await harness.run("llm", {"model": "cut-short", "prompt": "Once upon"}) == Output("Once upon")
    assert any("the answer is cut" in line for line in harness.log_messages)


async def test_a_model_can_call_tools_before_it_answers(llm: LlmHarness) -> None:
    prompt = json.dumps([{"name": "json_query", "arguments": {"data": {"a": 7}, "expression": "a"}}])
    harness = llm.harness()
    outcome = await harness.run("llm", {"model": "calls", "messages": [_user(prompt)], "tools": ["json_query"]})
    assert outcome == Output("They said: 7")
    assert [tool["function"]["name"] for tool in llm.request(0)["tools"]] == ["json_query"]
    assert "calls json_query" in harness.log_messages
    assert harness.state.usage is not None
    assert harness.state.usage.output_tokens == 400


async def test_tools_and_a_schema_can_be_combined(llm: LlmHarness) -> None:
    prompt = json.dumps([{"name": "json_query", "arguments": {"data": {"a": 7}, "expression": "a"}}])
    schema = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]}
    config = {"model": "calls", "messages": [_user(prompt)], "tools": ["json_query"], "responseSchema": schema}
    assert await llm.harness().run("llm", config) == Output({"said": "7"})


async def test_a_model_that_never_stops_calling_tools_is_stopped(llm: LlmHarness) -> None:
    prompt = json.dumps([{"name": "json_query", "arguments": {"data": {"a": 7}, "expression": "a"}}])
    with pytest.raises(NodeFailure) as caught:
        await llm.harness().run(
            "llm", {"model": "calls-for-ever", "messages": [_user(prompt)], "tools": ["json_query"]}
        )
    assert caught.value.code == "BUDGET"
    assert len(llm.peer.seen) == 6


def _user(text: str) -> dict[str, str]:
    """Return the message of a user. It is no template."""
    return {"role": "user", "content": "{% raw %}" + text + "{% endraw %}"}


async def test_concurrent_nodes_share_one_client(llm: LlmHarness) -> None:
    outputs = await asyncio.gather(*(llm.output("repeats", f"number {n}") for n in range(50)))
    assert outputs == [f"number {n}" for n in range(50)]


BAD_CONFIG: list[tuple[dict[str, Any], str]] = [
    ({}, "model"),
    ({"model": "m"}, "give either `prompt` or `messages`"),
    ({"model": "m", "prompt": "a", "messages": "b"}, "give either `prompt` or `messages`"),
    ({"model": "m", "messages": []}, "`messages` is empty"),
    ({"model": "m", "messages": [{"role": "robot", "content": "a"}]}, "role"),
    ({"model": 7, "prompt": "a"}, "model"),
    ({"model": "m", "prompt": "a", "temperature": "hot"}, "temperature"),
    ({"model": "m", "prompt": "a", "max_tokens": 0}, "max_tokens"),
    ({"model": "m", "prompt": "a", "timeoutS": -1}, "timeoutS"),
    ({"model": "m", "prompt": "a", "tools": "json_query"}, "tools"),
    ({"model": "m", "prompt": "a", "responseSchema": {"type": "nonsense"}}, "is no JSON Schema"),
    ({"model": "m", "prompt": "a", "responseSchema": {"type": "string"}}, "must have the type object"),
    ({"model": "m", "prompt": "a", "schema": {}}, "schema"),
]


@pytest.mark.parametrize("config,message", BAD_CONFIG)
def test_an_invalid_config_is_refused_before_the_run(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TYPES["llm"].Config.model_validate(config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "config,scope,code,message",
    [
        ({"prompt": "{{ input.a.b }}"}, {"input": {}}, "TEMPLATE", "a"),
        ({"messages": "{{ input }}"}, {"input": 7}, "CONFIG", "`messages` must give a list"),
        ({"messages": "{{ input }}"}, {"input": [{"role": "robot", "content": ""}]}, "CONFIG", "`[0].role`"),
        ({"messages": "{{ input }}"}, {"input": [{"role": "user"}]}, "CONFIG", "`[0].content` is required"),
        ({"prompt": "a", "tools": ["nosuch"]}, {}, "TOOL_UNKNOWN", "nosuch"),
    ],
)
async def test_a_failure_at_run_time_has_a_clear_message(
    llm: LlmHarness, config: dict[str, Any], scope: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(NodeFailure) as caught:
        await llm.harness(**scope).run("llm", {"model": "repeats", **config})
    assert caught.value.code == code
    assert message in caught.value.message
    assert not llm.peer.seen


async def test_a_process_without_models_reports_that() -> None:
    with pytest.raises(NodeFailure) as caught:
        await NodeHarness().run("llm", {"model": "m", "prompt": "a"})
    assert caught.value.code == "MODEL_UNAVAILABLE"
