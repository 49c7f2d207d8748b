"""The HTTP client of OpenAI-compatible endpoints, one per process, with limits on response size.

An endpoint that does not stream answers with one JSON object. It is passed on as a single event, so
that the client library reads it. Texts that arrive together are passed on as one event, because
each event costs more than its text. A response that is no answer at all is refused with its beginning.
A byte order mark is skipped (RFC 8259, section 8.1, and the format of event streams).
"""

import asyncio
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from engine.response_headers import headers_problem
from engine.types import JSON

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of one response, its whole stream."""
MAX_LINE = 4 * 1024 * 1024
"""Bytes without a line break: the library keeps an event in memory until its line ends. An answer
that is one JSON object has the same limit.
"""
MAX_ERROR = 256 * 1024
"""Bytes of a response with an error status. The rest is not read."""
MAX_AHEAD = 256 * 1024
"""Bytes of a response that wait for the client library. Then no more are read."""
LARGE_LINE = 16 * 1024
"""Bytes from which the structure of an event is examined."""
MAX_OBJECTS = 5_000
"""Objects and lists in one event. The client library makes an instance for each of them."""
EXCERPT = 300
"""Characters of a response that is no answer."""
EVENT_END = b"\n\n"
_TEXT_FIELDS = ("content", "reasoning_content", "reasoning")
"""The fields of a delta whose texts are joined."""
_PADDING = "obfuscation"
"""The field of a chunk that OpenAI fills with random characters."""
_BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How a stream of events begins."""
_LONGEST = max(map(len, _BEGINNINGS))


class NoAnswer(Exception):
    """The endpoint answered with status 200 and something that is no answer of a model.

    The message is what it said, or the beginning of it.
    """


class RefusedResponse(httpx2.RemoteProtocolError):
    """The response breaks one of our limits. The message is for people."""


class _BoundedStream(httpx2.AsyncByteStream):
    """A response stream that fails when it exceeds a limit."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        total = line = 0
        async for data in self._stream:
            total += len(data)
            end = data.rfind(b"\n")
            line = line + len(data) if end < 0 else len(data) - end - 1
            if total > MAX_ANSWER or line > MAX_LINE:
                raise _too_large()
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()


class ReadAheadStream(httpx2.AsyncByteStream):
    """A response stream that is read by a task of its own, and gives what has arrived in one piece.

    The connection gives each chunk of the response by itself. When a process receives more than it
    can compute, the chunks that wait become one piece, whose texts become one event.
    """

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self._parts: list[bytes] = []
        self._size = 0
        self._has_arrived, self._is_taken = asyncio.Event(), asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        # The client library reads the rest of a response, after the last event, by an iterator of its own.
        self._reading = reading = self._reading or asyncio.create_task(self._read(), name="read-ahead")
        while not reading.done() or self._parts:
            await self._has_arrived.wait()
            self._has_arrived.clear()
            parts, self._parts, self._size = self._parts, [], 0
            self._is_taken.set()
            if parts:
                yield parts[0] if len(parts) == 1 else b"".join(parts)
        reading.result()  # raises the error of the connection

    async def _read(self) -> None:
        try:
            async for data in self._stream:
                self._parts.append(data)
                self._size += len(data)
                self._has_arrived.set()
                while self._size > MAX_AHEAD:
                    self._is_taken.clear()
                    await self._is_taken.wait()
        finally:
            self._has_arrived.set()

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._stream.aclose()


class _ErrorStream(httpx2.AsyncByteStream):
    """The body of an error response, which ends early if it is too large."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_ERROR
        async for data in self._stream:
            yield data[:left]
            left -= len(data)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()


class _EventStream(httpx2.AsyncByteStream):
    """The response to a request for a stream of events. A whole answer becomes one event."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        head = bytearray()
        chunks = aiter(self._stream)
        async for data in chunks:
            head += data
            if len(head.lstrip()) >= _LONGEST + len(BOM_UTF8):
                break
        head = head.removeprefix(BOM_UTF8)
        if head.lstrip().startswith(_BEGINNINGS):
            async for lines in _checked_lines(bytes(head), chunks):
                yield lines
        elif head.strip():
            yield await _whole_answer(head, chunks)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _checked_lines(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the stream in whole lines, each of which the client library can afford to read."""
    parts: list[bytes] = []
    data, is_between_events = head, True
    while True:
        end = data.rfind(b"\n") + 1
        if end:
            block = b"".join([*parts, data[:end]])
            for line in block.split(b"\n") if len(block) > LARGE_LINE else ():
                _check_structure(line)
            yield merge_texts(block) if is_between_events else block
            is_between_events = block.endswith(EVENT_END)
            parts, data = [], data[end:]
        parts.append(data)
        try:
            data = await anext(rest)
        except StopAsyncIteration:
            yield b"".join(parts)
            return


def merge_texts(block: bytes) -> bytes:
    """Join consecutive events of some lines that differ only in the text of their delta."""
    *events, rest = block.split(EVENT_END)
    if len(events) < 2:
        return block
    merged: list[bytes | _TextEvent] = []
    for event in events:
        text_event, last = _TextEvent.of(event), merged[-1] if merged else None
        if text_event is None:
            merged.append(event)
        elif isinstance(last, _TextEvent) and last.frame == text_event.frame:
            last.texts += text_event.texts
        else:
            merged.append(text_event)
    parts = [event if isinstance(event, bytes) else event.encode() for event in merged]
    return EVENT_END.join([*parts, rest])


@dataclass(slots=True)
class _TextEvent:
    """An event with text and nothing else. `frame` is what must be equal in events that are joined."""

    line: bytes
    frame: tuple[dict[str, Any], dict[str, Any], str]
    texts: list[str]

    @classmethod
    def of(cls, line: bytes) -> "_TextEvent | None":
        """Return an event; None if it is not only text, or is not certain to be."""
        if not line.startswith(b"data:") or b"\n" in line or b"\r" in line or len(line) > LARGE_LINE:
            return None
        try:
            chunk = orjson.loads(line[5:])
        except orjson.JSONDecodeError:
            return None  # the client library reports it
        choices = chunk.pop("choices", None) if isinstance(chunk, dict) else None
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            return None
        choice, delta = choices[0], choices[0].pop("delta", None)
        name = _text_field(delta)
        if (
            name is None
            or chunk.get("usage")
            or chunk.get("error")
            or any(choice[key] for key in choice if key != "index")
        ):
            return None
        chunk.pop(_PADDING, None)
        return cls(line, (chunk, choice, name), [delta[name]])

    def encode(self) -> bytes:
        if len(self.texts) == 1:
            return self.line
        chunk, choice, name = self.frame
        delta = {"role": "assistant", name: "".join(self.texts)}
        return b"data: " + orjson.dumps({**chunk, "choices": [{**choice, "delta": delta}]})


def _text_field(delta: Any) -> str | None:
    """Return the name of the only field of a delta that has a value, if this is a text."""
    if not isinstance(delta, dict):
        return None
    names = [name for name, value in delta.items() if value is not None and name != "role"]
    return names[0] if len(names) == 1 and names[0] in _TEXT_FIELDS and isinstance(delta[names[0]], str) else None


def _check_structure(line: bytes) -> None:
    """Check that an event does not contain so many objects that reading it blocks the process."""
    if len(line) <= LARGE_LINE or line.count(b"{") + line.count(b"[") <= MAX_OBJECTS:
        return
    try:
        values = [orjson.loads(line.partition(b":")[2])]
    except orjson.JSONDecodeError:
        return  # the client library reports it
    _check_count(values)


def _check_count(values: list[JSON]) -> None:
    """Count the objects and lists inside these values. Raises RemoteProtocolError."""
    count = 0
    while values:
        value = values.pop()
        if isinstance(value, dict | list):
            count += 1
            values += value.values() if isinstance(value, dict) else value
        if count > MAX_OBJECTS or len(values) > 100 * MAX_OBJECTS:
            raise RefusedResponse(f"an event is larger than {MAX_OBJECTS:,} objects")


async def _whole_answer(head: bytearray, rest: AsyncIterator[bytes]) -> bytes:
    """Read a response that is no stream, and return it as one event. Raises NoAnswer."""
    if not head.lstrip().startswith(b"{"):
        raise NoAnswer(_excerpt(bytes(head)))
    async for data in rest:
        head += data
        if len(head) > MAX_LINE:
            raise _too_large()
    body = bytes(head)
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NoAnswer(_excerpt(body)) from None
    _check_count([answer])
    if not (answer.get("error") or answer.get("choices")):
        raise NoAnswer(_message(answer) or _excerpt(body))
    # A line break in JSON is white space; in an event it would end the line.
    return b"data: " + body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n\n"


def _message(answer: dict[str, JSON]) -> str | None:
    for name in ("message", "detail"):
        if isinstance(text := answer.get(name), str) and text:
            return text
    return None


def _excerpt(body: bytes) -> str:
    return " ".join(body[: 4 * EXCERPT].decode("utf-8", "replace").split())[:EXCERPT]


def _too_large() -> httpx2.RemoteProtocolError:
    return RefusedResponse(
        f"the response is larger than {MAX_ANSWER >> 20} MiB, or one event than {MAX_LINE >> 20} MiB"
    )


async def _limit_size(response: httpx2.Response) -> None:
    """Limit the headers, and the body before it is read.

    A compressed body is refused: it could expand to any size.
    """
    if (problem := headers_problem(response.headers.raw)) is not None:
        raise RefusedResponse(problem)
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RefusedResponse("the response is compressed, although the request did not accept that")
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _limited(response, response.stream)


def _limited(response: httpx2.Response, stream: httpx2.AsyncByteStream) -> httpx2.AsyncByteStream:
    if response.status_code != httpx2.codes.OK:
        return _ErrorStream(stream)
    bounded = _BoundedStream(stream)
    return (
        _EventStream(ReadAheadStream(bounded)) if response.request.url.path.endswith("/chat/completions") else bounded
    )


def open_client() -> httpx2.AsyncClient:
    """Open the client; the caller closes it. It uses the proxies of the environment."""
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=30)
    return httpx2.AsyncClient(
        headers={"accept-encoding": "identity"},
        limits=limits,
        event_hooks={"response": [_limit_size]},
        follow_redirects=False,
    )
