"""Endpoints that send more than anyone needs: no answer blocks the event loop, or fills the memory."""

import gc
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.chat_models.http_client import MAX_ERROR
from engine.chat_models.json_in_text import json_values
from engine.chat_models.thinking import ThinkingSplitter
from engine.chat_models.tool_call_parts import MAX_ARGUMENTS
from engine.chat_models.tool_calling import MAX_CALLS
from engine.errors import NodeFailure
from engine.events import Usage
from engine.sdk.node import Output
from engine.values.json_text import NotJson
from tests.cpu_time import PassMeter
from tests.engine.nodes.ai.llm_nodes import LlmHarness
from tests.peers.chat_protocol import delta, event, model, stream, usage
from tests.peers.http_protocol import Peer, Request, Writer, answer, head

MAX_BLOCK_S = 0.5
"""CPU time that one step of the event loop may take, on a slow and busy machine."""
OBJECTS = "[" + ",".join(["{}"] * 200_000) + "]"
ANSWERS: dict[str, tuple[list[bytes], str | None]] = {
    "an event of many calls": ([delta({"tool_calls": json.loads(OBJECTS)})], "MODEL_STREAM"),
    "an event of many unknown fields": ([delta({"more": json.loads(OBJECTS)})], "MODEL_STREAM"),
    "an event nested deeply": ([event('{"choices": ' + "[" * 100_000)], "MODEL_STREAM"),
    "many small events": ([delta({"content": "a"})] * 20_000 + [delta({}, "stop"), usage()], None),
    "many calls": (
        [
            delta({"tool_calls": [{"index": at, "id": f"c{at}", "function": {"name": "f", "arguments": "{}"}}]})
            for at in range(3_000)
        ]
        + [delta({}, "tool_calls"), usage()],
        "MODEL_OUTPUT",
    ),
    "long arguments": (
        [delta({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a": ['}}]})]
        + [delta({"tool_calls": [{"index": 0, "function": {"arguments": "[]," * 100_000}}]})] * 40
        + [delta({}, "tool_calls"), usage()],
        "MODEL_OUTPUT",
    ),
    "many tags": ([delta({"content": "<think></think>" * 60_000}), delta({}, "stop"), usage()], None),
}


@model("hostile")
async def hostile(_: Peer, request: Request, writer: Writer) -> None:
    events = ANSWERS[json.loads(request.body)["messages"][0]["content"]][0]
    stream(writer, [b"".join([*events, event("[DONE]")])])


COUNTS = (-5, 3_000_000_000, 10**60, 2**63)


@model("miscounts")
async def miscounts(_: Peer, request: Request, writer: Writer) -> None:
    count = int(json.loads(request.body)["messages"][0]["content"])
    counts = {"prompt_tokens": count, "completion_tokens": count, "total_tokens": 2 * count}
    report = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": counts}
    stream(writer, [delta({"content": "hi"}), delta({}, "stop"), event(report), event("[DONE]")])


@model("many-headers")
async def many_headers(peer: Peer, request: Request, writer: Writer) -> None:
    head(writer, *(f"x-{number}: a" for number in range(6_000)))


@model("refuses-at-length")
async def refuses_at_length(_: Peer, request: Request, writer: Writer) -> None:
    body = {"error": {"message": "no such thing", "more": json.loads(OBJECTS) * 10}}
    answer(writer, json.dumps(body).encode(), "400 Bad Request")


@asynccontextmanager
async def watched() -> AsyncIterator[None]:
    """Fail if one step of the event loop takes too much CPU time."""
    gc.freeze()  # The client library, which the test has imported.
    meter = PassMeter()
    try:
        yield
    finally:
        longest = meter.stop()
    assert longest < MAX_BLOCK_S


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_never_blocks_the_event_loop(llm: LlmHarness, name: str) -> None:
    await llm.output()  # the first call imports the client library
    config: dict[str, Any] = {"model": "hostile", "prompt": name, "tools": ["hash_text"]}
    harness, code = llm.harness(), None
    async with watched():
        try:
            outcome = await harness.run("llm", config)
            assert isinstance(outcome, Output)
        except NodeFailure as failure:
            code = failure.code
    assert code == ANSWERS[name][1]
    assert "calls hash_text" not in harness.log_messages


async def test_an_answer_with_too_many_calls_is_reported_to_the_model(llm: LlmHarness) -> None:
    failed = await llm.failure("hostile", "many calls", tools=["hash_text"])
    assert f"more than {MAX_CALLS} times in one answer" in failed.message
    assert f"Make at most {MAX_CALLS}" in json.loads(llm.peer.seen[-1].body)["messages"][-1]["content"]


async def test_the_rest_of_a_long_error_is_not_read(llm: LlmHarness) -> None:
    failed = await llm.failure("refuses-at-length")
    assert (failed.code, failed.details) == ("MODEL_REQUEST", {"status": 400})
    assert "no such thing" in failed.message
    assert len(failed.message) < 1000 < MAX_ERROR < MAX_ARGUMENTS


async def test_many_headers_are_refused_at_once(llm: LlmHarness) -> None:
    await llm.output()  # the first call imports the client library
    async with watched():
        failed = await llm.failure("many-headers")
    assert (failed.code, "more than 200 headers" in failed.message) == ("MODEL_STREAM", True)


@pytest.mark.parametrize("count", COUNTS)
async def test_an_impossible_number_of_tokens_is_no_report(llm: LlmHarness, count: int) -> None:
    harness = llm.harness()
    await harness.run("llm", {"model": "miscounts", "prompt": str(count)})
    assert harness.state.usage == Usage("miscounts", 0, 0, None)


def test_a_sum_of_tokens_fits_into_an_int_of_graphql() -> None:
    total = Usage("m", 100_000_000, 1)
    for _ in range(6):
        total += total
    assert (total.input_tokens, total.output_tokens) == (2**31 - 1, 64)


HOSTILE_TEXTS = {
    "a fence of line breaks": "```\n" + "\n" * 1_000_000 + "x",
    "many objects": "{} " * 1_000_000 + "]",
    "open objects": '{"a":' * 1_000_000,
    "braces": "{" * 8_000_000,
    "a long number": '{"a": ' + "9" * 1_000_000 + "}",
    "more than an output": '"' + "a" * 9_000_000 + '"',
}


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_json_is_searched_in_bounded_time(name: str) -> None:
    before = time.thread_time()
    with pytest.raises(NotJson):
        json_values(HOSTILE_TEXTS[name])
    assert time.thread_time() - before < 2 * MAX_BLOCK_S


@pytest.mark.parametrize("text", ["<think></think>" * 200_000, "<think>" + "</thin" * 500_000, " " * 1_000_000])
def test_thinking_is_split_in_bounded_time(text: str) -> None:
    for size in (len(text), 1000):
        splitter, before = ThinkingSplitter(), time.thread_time()
        parts = [splitter.push(text[start : start + size]) for start in range(0, len(text), size)]
        parts.append(splitter.flush())
        assert sum(len(answer_) + len(thought) for answer_, thought in parts) <= len(text)
        assert time.thread_time() - before < MAX_BLOCK_S
