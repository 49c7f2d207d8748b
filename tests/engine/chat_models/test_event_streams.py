"""The streams of chat-completions endpoints: texts that arrive together become one event."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.chat_models.chat_completions import parts_of
from engine.chat_models.http_client import MAX_AHEAD, ReadAheadStream, merge_texts
from tests.peers.chat_protocol import delta, event, usage

DONE = event("[DONE]")
CHUNK: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def chunk(change: dict[str, Any], choice: dict[str, Any] | None = None, **more: Any) -> bytes:
    return event({**CHUNK, "choices": [{"index": 0, "delta": change, **(choice or {})}], **more})


def thinking(text: str) -> bytes:
    return delta({"reasoning_content": text})


def content(text: str) -> bytes:
    return delta({"content": text})


MERGED: dict[str, tuple[list[bytes], int]] = {
    "texts": ([content("a"), content("b"), content("c")], 1),
    "texts with empty fields": ([delta({"content": one, "tool_calls": None, "refusal": None}) for one in "ab"], 1),
    "texts with padding": ([chunk({"content": one}, obfuscation=one * 3) for one in "ab"], 1),
    "a role and texts": ([delta({"role": "assistant", "content": ""}), content("b")], 1),
    "thinking": ([thinking("a"), thinking("b")], 1),
    "thinking, then text": ([thinking("a"), thinking("b"), content("c"), content("d")], 2),
    "thinking under another name": ([delta({"reasoning": one}) for one in "ab"], 1),
    "texts before the end": ([content("a"), content("b"), delta({}, "stop"), usage(), DONE], 4),
    "texts beside a comment": ([content("a"), b": ping\n\n", content("b"), content("c")], 3),
}
APART: dict[str, list[bytes]] = {
    "texts with a finish reason": [delta({"content": one}, "stop") for one in "ab"],
    "texts with usage": [chunk({"content": one}, usage={"prompt_tokens": 1}) for one in "ab"],
    "texts with logprobs": [chunk({"content": one}, {"logprobs": {"content": []}}) for one in "ab"],
    "texts with an error": [chunk({"content": one}, {"error": {"message": "no"}}) for one in "ab"],
    "texts of two models": [chunk({"content": one}, model=one) for one in "ab"],
    "texts of two choices": [chunk({"content": "a"}, {"index": at}) for at in (0, 1)],
    "several choices": [event({**CHUNK, "choices": [{"index": at, "delta": {"content": "a"}} for at in (0, 1)]})] * 2,
    "text and thinking": [delta({"content": "a", "reasoning_content": "b"})] * 2,
    "calls": [delta({"tool_calls": [{"index": 0, "function": {"arguments": "a"}}]})] * 2,
    "blocks": [delta({"content": [{"type": "text", "text": "a"}]})] * 2,
    "refusals": [delta({"refusal": "no"})] * 2,
    "a whole message": [event({**CHUNK, "choices": [{"index": 0, "message": {"content": "a"}}]})] * 2,
    "errors": [event({"error": {"message": "no"}})] * 2,
    "no objects": [event("5"), event("[]"), event("null")],
    "broken JSON": [event('{"choices": [{"delta": {"content": "a"'), content("b")],
    "half an emoji each": [
        event('{"choices": [{"delta": {"content": "' + half + '"}}]}') for half in ("\\ud83d", "\\ude00")
    ],
    "events with names": [b"event: message\n" + content("a"), b"event: message\n" + content("b")],
    "lines that end as in HTTP": [content(one).replace(b"\n", b"\r\n") for one in "ab"],
    "long texts": [content("a" * 20_000), content("b" * 20_000)],
}


def chunks_of(block: bytes) -> list[Any]:
    return [json.loads(line[5:]) for line in block.split(b"\n\n") if line.startswith(b"data: {")]


def texts_of(block: bytes) -> list[tuple[str, str]]:
    """Return the texts and the thinking in a block, as the client receives them."""
    deltas = [choice["delta"] for one in chunks_of(block) for choice in parts_of(one)["choices"]]
    return [(one["content"], one["reasoning_content"] or "") for one in deltas]


@pytest.mark.parametrize("name", MERGED)
def test_texts_that_arrive_together_become_one_event(name: str) -> None:
    events, count = MERGED[name]
    merged = merge_texts(b"".join(events))
    assert len(merged.strip().split(b"\n\n")) == count
    whole, parts = texts_of(merged), texts_of(b"".join(events))
    assert ["".join(texts) for texts in zip(*whole, strict=True)] == [
        "".join(texts) for texts in zip(*parts, strict=True)
    ]


@pytest.mark.parametrize("name", APART)
def test_an_event_with_more_than_text_stays_as_it_is(name: str) -> None:
    block = b"".join(APART[name])
    assert merge_texts(block) == block


OTHERS = (
    "several choices",
    "text and thinking",
    "calls",
    "blocks",
    "refusals",
    "a whole message",
    "errors",
    "no objects",
)
EVENT = st.one_of(
    st.text(max_size=5).map(content),
    st.text(max_size=5).map(thinking),
    st.sampled_from([block for name in OTHERS for block in APART[name]]),
    st.sampled_from([usage(), DONE, delta({}, "stop"), b": ping\n\n", b"\n\n"]),
)


@given(st.lists(EVENT, max_size=20), st.sampled_from([b"", b"data: {", b"data: {}\n"]))
def test_merged_events_say_the_same_in_the_same_order(events: list[bytes], rest: bytes) -> None:
    block = b"".join(events) + rest
    merged = merge_texts(block)
    assert merged.endswith(rest)
    before, after = said(block), said(merged)
    assert after == before


def said(block: bytes) -> list[Any]:
    """Return what a block says: consecutive texts of one kind are one, and all other lines are as they are."""
    result: list[Any] = []
    for line in block.split(b"\n\n"):
        kind, text = kind_of(line)
        if kind and result and result[-1][0] == kind:
            result[-1] = (kind, result[-1][1] + text)
        else:
            result.append((kind, text if kind else line))
    return result


def kind_of(line: bytes) -> tuple[str, str]:
    try:
        data = json.loads(line[5:])
    except ValueError:
        return "", ""
    for name in ("content", "reasoning_content"):
        changed = {name: data["choices"][0]["delta"].get(name)} if is_plain(data) else {}
        if isinstance(changed.get(name), str):
            return name, str(changed[name])
    return "", ""


def is_plain(data: Any) -> bool:
    """Return whether a chunk is one of `content` or `thinking`, which are equal except for their texts."""
    if not isinstance(data, dict) or set(data) != {*CHUNK, "choices"} or len(data["choices"]) != 1:
        return False
    choice = data["choices"][0]
    plain = set(choice) == {"index", "delta", "finish_reason"} and choice["finish_reason"] is None
    return plain and set(choice["delta"]) - {"role"} in ({"content"}, {"reasoning_content"})


class Pieces(httpx2.AsyncByteStream):
    """A response whose pieces are there at once. Then it waits, or fails."""

    def __init__(self, pieces: list[bytes], error: Exception | None = None) -> None:
        self.pieces, self.error = pieces, error
        self.read = 0
        self.is_waiting, self.is_cancelled, self.is_closed = asyncio.Event(), False, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.read += len(piece)
            yield piece
        if self.error is not None:
            raise self.error
        self.is_waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise

    async def aclose(self) -> None:
        self.is_closed = True


async def test_what_has_arrived_is_given_in_one_piece() -> None:
    source = Pieces([b"a", b"b", b"c"])
    stream = ReadAheadStream(source)
    async with aclosing(aiter(stream)) as pieces:
        assert await anext(pieces) == b"abc"
    await stream.aclose()
    assert (source.is_cancelled, source.is_closed) == (True, True)


async def test_a_second_reader_continues_where_the_first_one_has_stopped() -> None:
    source = Pieces([b"x" * (MAX_AHEAD + 1), b"rest"], httpx2.ReadError("lost"))
    stream = ReadAheadStream(source)
    first = aiter(stream)
    assert await anext(first) == source.pieces[0]
    second = aiter(stream)
    assert await anext(second) == b"rest"
    with pytest.raises(httpx2.ReadError, match="lost"):
        await anext(second)
    await stream.aclose()


async def test_an_error_comes_after_what_has_arrived_before_it() -> None:
    stream = ReadAheadStream(Pieces([b"a", b"b"], httpx2.ReadError("lost")))
    received = []
    with pytest.raises(httpx2.ReadError, match="lost"):
        async for piece in stream:
            received.append(piece)
    await stream.aclose()
    assert received == [b"ab"]


async def test_a_response_is_not_read_further_while_its_reader_has_not_taken_it() -> None:
    piece = b"x" * (MAX_AHEAD // 4)
    source = Pieces([piece] * 100)
    stream = ReadAheadStream(source)
    async with aclosing(aiter(stream)) as pieces:
        first = await anext(pieces)
        assert MAX_AHEAD < len(first) < 2 * MAX_AHEAD
        assert source.read == len(first)
        rest = 0
        while rest + len(first) < 100 * len(piece):
            rest += len(await anext(pieces))
    await stream.aclose()
    assert rest + len(first) == source.read


async def test_a_reader_that_is_cancelled_ends_the_task_that_reads() -> None:
    source = Pieces([])
    stream = ReadAheadStream(source)

    async def read() -> None:
        try:
            async for _ in stream:
                raise AssertionError("nothing has arrived")
        finally:
            await stream.aclose()

    reading = asyncio.create_task(read())
    await source.is_waiting.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (source.is_cancelled, source.is_closed) == (True, True)
