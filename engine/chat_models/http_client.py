"""The HTTP client of OpenAI-compatible endpoints: one for each process, and none of its answers may be larger than a limit."""

from collections.abc import AsyncIterator

import httpx2

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of one answer, all of its stream together."""
MAX_LINE = 4 * 1024 * 1024
"""Bytes without a line break: the library keeps an event in memory until it ends."""


class _Bounded(httpx2.AsyncByteStream):
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
                    f"the answer is larger than {MAX_ANSWER >> 20} MiB, or one event of it"
                )
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    """Before the body is read. What is compressed could be of any size once it is not."""
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise httpx2.RemoteProtocolError("the answer is compressed, which was not asked for")
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream)


def open_client() -> httpx2.AsyncClient:
    """To be closed by whoever opens it. Proxies of the environment are used, as for any other program of the host."""
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=30)
    return httpx2.AsyncClient(
        headers={"accept-encoding": "identity"},
        limits=limits,
        event_hooks={"response": [_bound]},
        follow_redirects=False,
    )
