"""The HTTP client of OpenAI-compatible endpoints, one per process, with limits on response size."""

from collections.abc import AsyncIterator

import httpx2

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of one response, its whole stream."""
MAX_LINE = 4 * 1024 * 1024
"""Bytes without a line break: the library keeps an event in memory until its line ends."""


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
                raise httpx2.RemoteProtocolError(
                    f"the response is larger than {MAX_ANSWER >> 20} MiB, or one event than {MAX_LINE >> 20} MiB"
                )
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _limit_size(response: httpx2.Response) -> None:
    """Limit the body before it is read.

    A compressed body is refused: it could expand to any size.
    """
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise httpx2.RemoteProtocolError("the response is compressed, although the request did not accept that")
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _BoundedStream(response.stream)


def open_client() -> httpx2.AsyncClient:
    """Open the client; the caller closes it. It uses the proxies of the environment."""
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=30)
    return httpx2.AsyncClient(
        headers={"accept-encoding": "identity"},
        limits=limits,
        event_hooks={"response": [_limit_size]},
        follow_redirects=False,
    )
