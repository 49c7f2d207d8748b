"""Streams of chat completions give the answer that LangChain's own client reads from them."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx2
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI
from openai import OpenAIError

from engine.chat_models.answer import AnswerBuilder, ModelAnswer
from engine.chat_models.chat_completions import ChatCompletions, with_all_forms
from engine.chat_models.errors import EndpointError
from engine.chat_models.http_client import open_client
from tests.peers.chat_protocol import calls, delta, event, usage

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), max_size=4)
CALLS = calls([{"name": "add", "arguments": {"a": 1, "b": "ü"}}, {"name": "now", "arguments": {}}])[:-3]
PART = st.one_of(
    TEXT.map(lambda text: [delta({"content": text})]),
    st.lists(TEXT, max_size=6).map(lambda texts: [delta({"content": text}) for text in texts]),
    TEXT.map(lambda text: [delta({"role": "assistant", "content": text, "refusal": None, "tool_calls": None})]),
    st.sampled_from([[b": ping\n\n"], [delta({})], [delta({"refusal": "I "}), delta({"refusal": "can't"})]]),
)
END = st.sampled_from(["stop", "length", "content_filter", "tool_calls", None])
LIES = [
    event("5"),
    event("[]"),
    event("null"),
    event("{"),
    event('{"choices": 5}'),
    event('{"choices": [5]}'),
    event('{"choices": [{"delta": 5}]}'),
    event('{"choices": [{"delta": {"content": 5}}]}'),
    event('{"choices": [{"delta": {"tool_calls": 5}}]}'),
    event('{"choices": [{"delta": {"tool_calls": [5]}}]}'),
    event('{"choices": [{"delta": {"content": "a"}, "finish_reason": 5}]}'),
    event('{"choices": [], "usage": 5}'),
    event('{"choices": [], "usage": {"prompt_tokens": "many"}}'),
    event('{"error": {"message": "overloaded"}}'),
    event('{"choices": [{"error": {"message": "overloaded"}}]}'),
    b"data: \xff\n\n",
    b'data: {"choices": [{"delta":\rdata: {"content": "a"}}]}\n\n',
]


class CutBody(httpx2.AsyncByteStream):
    """A response body that arrives in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


def client_of(body: list[bytes], hooks: dict[str, Any]) -> httpx2.AsyncClient:
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=CutBody(body)))
    return httpx2.AsyncClient(transport=transport, event_hooks=hooks)


async def ours(body: list[bytes]) -> ModelAnswer | None:
    """Return the answer as a node reads it."""
    async with open_client() as opened, client_of(body, opened.event_hooks) as client:
        builder = AnswerBuilder()
        chat = with_all_forms(ChatCompletions(model="m", api_key="none", http_async_client=client, stream_usage=True))
        async for chunk in chat.astream("hello"):
            builder.add(chunk)
        builder.flush()
        return builder.finish()


async def theirs(body: bytes) -> AIMessageChunk:
    """Return the answer as LangChain reads it."""
    async with client_of([body], {}) as client:
        chat = ChatOpenAI(model="m", api_key="none", http_async_client=client, stream_usage=True)
        chunks = [chunk async for chunk in chat.astream("hello")]
    return sum(chunks[1:], chunks[0])


def split(body: bytes, cuts: list[float]) -> list[bytes]:
    """Cut a body at these fractions of its length."""
    places = sorted({int(cut * len(body)) for cut in cuts} | {0, len(body)})
    return [body[start:end] for start, end in pairwise(places)]


@settings(max_examples=20)
@given(
    st.lists(PART, max_size=6),
    st.booleans(),
    END,
    st.lists(st.floats(0, 1), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
)
async def test_an_answer_is_what_the_library_reads_wherever_its_stream_is_cut(
    parts: list[list[bytes]], has_calls: bool, reason: str | None, cuts: list[float], line_end: bytes, has_mark: bool
) -> None:
    events = [one for part in parts for one in part] + (CALLS if has_calls else [])
    body = b"".join([*events, delta({}, reason), usage(), event("[DONE]")]).replace(b"\n", line_end)
    expected = await theirs(body)
    answer = await ours(split(b"\xef\xbb\xbf" * has_mark + body, cuts))
    assert answer is not None
    assert answer.text == expected.content
    assert answer.message.tool_calls == expected.tool_calls
    assert answer.usage == expected.usage_metadata
    assert answer.finish_reason == expected.response_metadata.get("finish_reason")
    refusals = [json.loads(one[6:])["choices"][0]["delta"].get("refusal") for one in events if one.startswith(b"data")]
    assert answer.refusal == ("".join(filter(None, refusals)) or None)


async def outcome(body: list[bytes]) -> object:
    """Return the answer, or the error that a node would report."""
    try:
        return await ours(body)
    except (OpenAIError, EndpointError, ValueError, TypeError, AttributeError, KeyError) as error:
        return type(error), str(error)


@settings(max_examples=20)
@given(st.lists(st.one_of(TEXT.map(lambda text: delta({"content": text})), st.sampled_from(LIES)), max_size=5))
async def test_a_lie_of_an_endpoint_has_the_same_effect_in_pieces_of_any_size(events: list[bytes]) -> None:
    body = b"".join(events)
    assert await outcome([body]) == await outcome([body[at : at + 1] for at in range(len(body))])
