"""Responses with many GraphQL results: Server-Sent Events and multipart subscriptions.

Each result is sent as soon as it exists, and comments or empty parts keep quiet connections open.
A client that disconnects cancels the response, which closes the subscription. Events of a run are
numbered by `id` lines, so that an EventSource continues after the last one by itself.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, ClassVar

import orjson
from starlette.responses import StreamingResponse
from strawberry.types import ExecutionResult

from app.server.negotiation import EVENT_STREAM, MULTIPART
from app.server.responses import NO_SNIFF, result_body
from resolvers.context import Context

QUIET_S = 15.0
"""Seconds without a result after which an SSE comment is sent; proxies drop quiet connections."""
QUIET_MULTIPART_S = 5.0
"""The same for multipart; Apollo's protocol expects an empty part every 5 s."""


class Encoding(ABC):
    """How results become the body of a response."""

    media_type: ClassVar[str]
    quiet_s: ClassVar[float]
    begin: ClassVar[bytes]
    keep_alive: ClassVar[bytes]
    end: ClassVar[bytes]

    @staticmethod
    @abstractmethod
    def result(body: dict[str, Any], seq: int | None) -> bytes:
        """Encode one result, which is of the event `seq` of a run."""


class ServerSentEvents(Encoding):
    """graphql-sse in distinct connections mode. Lines end in LF, which all clients read."""

    media_type = EVENT_STREAM
    quiet_s = QUIET_S
    begin = b": connected\n\n"
    keep_alive = b": ping\n\n"
    # Browsers discard events without a data field.
    end = b"event: complete\ndata: \n\n"

    @staticmethod
    def result(body: dict[str, Any], seq: int | None) -> bytes:
        id_line = b"" if seq is None else b"id: %d\n" % seq
        return b"%sevent: next\ndata: %s\n\n" % (id_line, orjson.dumps(body))


class MultipartSubscription(Encoding):
    """Apollo's multipart protocol for subscriptions, version 1.0."""

    media_type = f'{MULTIPART};boundary="graphql";subscriptionSpec=1.0'
    quiet_s = QUIET_MULTIPART_S
    begin = b"\r\n--graphql\r\nContent-Type: application/json\r\n\r\n{}\r\n--graphql"
    keep_alive = b"\r\nContent-Type: application/json\r\n\r\n{}\r\n--graphql"
    end = b"--\r\n"

    @staticmethod
    def result(body: dict[str, Any], seq: int | None) -> bytes:
        payload = orjson.dumps({"payload": body})
        return b"\r\nContent-Type: application/json\r\n\r\n%s\r\n--graphql" % payload


ENCODINGS: dict[str, type[Encoding]] = {EVENT_STREAM: ServerSentEvents, MULTIPART: MultipartSubscription}


def stream_response(results: AsyncGenerator[ExecutionResult], context: Context, stream: str) -> StreamingResponse:
    """Create the response that sends all results.

    Args:
        results: The results; they are closed with the response.
        context: The context of the operation, which knows the number of the last result.
        stream: EVENT_STREAM or MULTIPART.
    """
    encoding = ENCODINGS[stream]
    headers = {
        "Cache-Control": "no-cache, no-transform",
        "Vary": "Accept",
        # nginx would otherwise collect the events in a buffer.
        "X-Accel-Buffering": "no",
        "Content-Type": encoding.media_type,
        **NO_SNIFF,
    }
    return StreamingResponse(_with_keep_alive(_encoded(results, context, encoding), encoding), headers=headers)


async def _encoded(
    results: AsyncGenerator[ExecutionResult], context: Context, encoding: type[Encoding]
) -> AsyncGenerator[bytes]:
    async with aclosing(results):
        async for result in results:
            yield encoding.result(result_body(result), context.last_seq)
        yield encoding.end


async def _with_keep_alive(chunks: AsyncGenerator[bytes], encoding: type[Encoding]) -> AsyncIterator[bytes]:
    """Yield the chunks, and a sign of life whenever none has come for `quiet_s`.

    The next chunk is read by a task of its own, because a timeout must not cancel the read.
    """
    yield encoding.begin
    reading: asyncio.Task[bytes] | None = None
    try:
        while True:
            reading = reading or asyncio.ensure_future(anext(chunks))
            done, _ = await asyncio.wait({reading}, timeout=encoding.quiet_s)
            if not done:
                yield encoding.keep_alive
                continue
            try:
                chunk = reading.result()
            except StopAsyncIteration:
                return
            reading = None
            yield chunk
    finally:
        if reading is not None:
            reading.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await reading
        await chunks.aclose()
