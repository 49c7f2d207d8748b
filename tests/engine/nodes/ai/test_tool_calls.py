"""Calls of tools in the answers of models: cut, without ids, in other forms than OpenAI's."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.chat_models.chat_completions import parts_of
from engine.chat_models.tool_call_parts import CallAssembler
from engine.errors import NodeFailure
from engine.types import JSON
from tests.engine.nodes.ai.llm_nodes import LlmHarness
from tests.engine.nodes.ai.scripted_answers import Chunks, called, failure, raw, run
from tests.peers import chat_protocol

X_HASH = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


# Calls that are not whole.

CUT: dict[str, Chunks] = {
    "in the middle of the arguments": called('{"text": "/data/impor', "length"),
    "behind whole arguments": called('{"text": "/data/import"}', "length"),
    "before the arguments": called("", "length"),
    "with a reason of another provider": called('{"text": "/data/impor', "max_tokens"),
    "with a reason that is sent twice": [*called('{"text": "/data/impor', "length"), [{}, "length"]],
    "without saying so": called('{"text": "/data/impor', "tool_calls"),
    "without saying so, stop": called('{"text": "/data/impor', "stop"),
}


@pytest.mark.parametrize("kind", ["llm", "agent"])
@pytest.mark.parametrize("name", CUT)
async def test_a_call_that_is_not_whole_is_never_executed(llm: LlmHarness, kind: str, name: str) -> None:
    harness = llm.harness()
    config = {"model": "plain", "messages": raw(CUT[name]), "tools": ["hash_text"]}
    with pytest.raises(NodeFailure) as caught:
        await harness.run(kind, config)
    assert caught.value.code == "MODEL_OUTPUT"
    assert "twice called hash_text" in caught.value.message
    assert caught.value.retryable == ("without saying so" in name)
    assert "calls hash_text" not in harness.log_messages
    assert any("it is asked once more" in line for line in harness.log_messages)
    assert len(llm.peer.seen) == 2
    assert "hash_text" in chat_protocol.messages_of(llm.peer.seen[1])[-1]


@pytest.mark.parametrize("kind", ["llm", "agent"])
async def test_a_model_whose_call_was_cut_can_call_again(llm: LlmHarness, kind: str) -> None:
    value, harness = await run(
        llm, kind, CUT["in the middle of the arguments"], called('{"text":"x"}'), tools=["hash_text"]
    )
    assert X_HASH in (value["text"] if kind == "agent" else value)
    assert harness.log_messages.count("calls hash_text") == 1
    assert "cut at the token limit" in chat_protocol.messages_of(llm.peer.seen[1])[-1]


# Calls in other forms.

FORMS: dict[str, Chunks] = {
    "without an id": called('{"text":"x"}', id=None),
    "without the field id": called('{"text":"x"}', id="absent"),
    "with an empty id": called('{"text":"x"}', id=""),
    "without an index": called('{"text":"x"}', index="absent"),
    "without an id and an index": called('{"text":"x"}', id="absent", index="absent"),
    "with an object as arguments": called({"text": "x"}),  # type: ignore[arg-type]
    "with the reason stop": called('{"text":"x"}', "stop"),
    "in pieces without an index": [
        [{"tool_calls": [{"id": "a", "function": {"name": "hash_text", "arguments": '{"te'}}]}, None],
        [{"tool_calls": [{"function": {"arguments": 'xt":"x"}'}}]}, None],
        [{}, "tool_calls"],
    ],
    "with its name in each piece": [
        [{"tool_calls": [{"index": 0, "id": "a", "function": {"name": "hash_text", "arguments": '{"te'}}]}, None],
        [{"tool_calls": [{"index": 0, "id": "a", "function": {"name": "hash_text", "arguments": 'xt":"x"}'}}]}, None],
        [{}, "tool_calls"],
    ],
    "in a message of the role model": [[{**called('{"text":"x"}')[1][0], "role": "model"}, None], [{}, "stop"]],
}


@pytest.mark.parametrize("kind", ["llm", "agent"])
@pytest.mark.parametrize("name", FORMS)
async def test_a_call_in_another_form_is_executed_once(llm: LlmHarness, kind: str, name: str) -> None:
    value, harness = await run(llm, kind, FORMS[name], tools=["hash_text"])
    assert (value["text"] if kind == "agent" else value) == f'RESULTS:["{X_HASH}"]'
    assert harness.log_messages.count("calls hash_text") == 1
    [call] = llm.request()["messages"][1]["tool_calls"]
    [result] = [message for message in llm.request()["messages"] if message["role"] == "tool"]
    assert call["id"] == result["tool_call_id"] != ""


TWO: dict[str, Chunks] = {
    "with the same id": called('{"text":"x"}')[:2] + called('{"text":"y"}', index=1)[1:],
    "without ids": called('{"text":"x"}', id=None)[:2] + called('{"text":"y"}', id=None, index=1)[1:],
    "with the same index": called('{"text":"x"}')[:2] + called('{"text":"y"}', id="c2")[1:],
    "with the same index, without ids": called('{"text":"x"}', id=None)[:2] + called('{"text":"y"}', id=None)[1:],
    "with one id and no index": called('{"text":"x"}', index=None)[:2] + called('{"text":"y"}', index=None)[1:],
    "with the second one first": [
        [
            {"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "hash_text", "arguments": '{"text":"y"}'}}]},
            None,
        ],
        *called('{"text":"x"}')[1:],
    ],
    "without indexes": called('{"text":"x"}', index=None)[:2] + called('{"text":"y"}', index=None, id="c2")[1:],
}


@pytest.mark.parametrize("kind", ["llm", "agent"])
@pytest.mark.parametrize("name", TWO)
async def test_two_calls_have_two_ids_and_two_results(llm: LlmHarness, kind: str, name: str) -> None:
    _, harness = await run(llm, kind, TWO[name], tools=["hash_text"])
    assert harness.log_messages.count("calls hash_text") == 2
    calls = llm.request()["messages"][1]["tool_calls"]
    assert [json.loads(call["function"]["arguments"])["text"] for call in calls] == ["x", "y"]
    results = [message for message in llm.request()["messages"] if message["role"] == "tool"]
    assert [call["id"] for call in calls] == [result["tool_call_id"] for result in results]
    assert len({call["id"] for call in calls}) == 2


@given(st.text('{"a: 1,}[]xé', max_size=30), st.lists(st.integers(0, 30), max_size=6))
def test_the_arguments_of_a_call_do_not_depend_on_how_they_are_cut(text: str, cuts: list[int]) -> None:
    places = sorted({0, *cuts, len(text)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    calls = CallAssembler()
    calls.add([{"index": 0, "id": "c1", "name": "f", "args": ""}])
    for piece in pieces:
        calls.add([{"index": 0, "id": None, "name": None, "args": piece}])
    whole = CallAssembler()
    whole.add([{"index": 0, "id": "c1", "name": "f", "args": text}])
    assert calls.finish() == whole.finish()


Part = dict[str, Any]


@st.composite
def calls_in_parts(draw: st.DrawFn) -> tuple[list[JSON], list[list[Part]]]:
    """Draw the arguments of calls, and the chunks of an endpoint that sends them in a form of its own."""
    texts = draw(st.lists(st.text('{"}x', max_size=4), min_size=1, max_size=3))
    has_index, has_ids = draw(st.sampled_from([(True, True), (True, False), (False, True), (False, False)]))
    has_own_ids, repeats = draw(st.booleans()), draw(st.booleans())
    streams: list[list[Part]] = []
    for at, text in enumerate(texts):
        arguments = json.dumps({"text": text})
        cut = draw(st.integers(0, len(arguments))) if has_index or has_own_ids or not repeats else len(arguments)
        head = {"index": at if has_index else None, "id": (f"c{at}" if has_own_ids else "c") if has_ids else None}
        pieces = [piece for piece in (arguments[:cut], arguments[cut:]) if piece]
        parts: list[Part] = [{**head, "name": "f", "args": pieces[0]}]
        for piece in [*pieces[1:], *draw(st.sampled_from([[], [""], [" "]]))]:
            has_name = has_index and repeats
            parts.append(
                {**head, "id": head["id"] if repeats else None, "name": "f" if has_name else None, "args": piece}
            )
        streams.append(parts)
    order = [number for number, parts in enumerate(streams) for _ in parts]
    order = draw(st.permutations(order)) if has_index else order
    return [{"text": text} for text in texts], [[streams[number].pop(0)] for number in order]


@given(calls_in_parts())
def test_the_calls_of_an_answer_do_not_depend_on_the_form_of_an_endpoint(drawn: Any) -> None:
    expected, chunks = drawn
    calls = CallAssembler()
    for chunk in chunks:
        calls.add(chunk)
    found = calls.finish()
    assert [call.arguments for call in found] == expected
    assert len({call.id for call in found}) == len(expected)


def test_the_calls_of_a_whole_answer_are_whole_whatever_their_ids_are() -> None:
    function = {"name": "f", "arguments": None}
    message = {"content": None, "tool_calls": [{"id": "c", "function": function}, {"id": "c", "function": function}]}
    calls = CallAssembler()
    for call in parts_of({"choices": [{"message": message}]})["choices"][0]["delta"]["tool_calls"]:
        calls.add([{"index": call["index"], "id": call["id"], "name": "f", "args": None}])
    assert [call.arguments for call in calls.finish()] == [{}, {}]


async def test_a_call_without_tools_is_an_error(llm: LlmHarness) -> None:
    failed = await failure(llm, "llm", called('{"text":"x"}'))
    assert (failed.code, "hash_text instead of answering" in failed.message) == ("MODEL_OUTPUT", True)
