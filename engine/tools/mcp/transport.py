"""The wires to MCP servers, with limits: a message has so many bytes at most, and one that breaks off is told at once.

The library takes a message however long it is, on a line or out of a body, and lets a call wait whose answer broke off.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio.streams.text
import httpx
import mcp.client.stdio
from langchain_mcp_adapters.sessions import Connection, McpHttpClientFactory

from engine.catalog_file import McpServer, expand_variables

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message; a node may keep half of that."""
LATE_S = 5.0
"""An answer that nobody waits for any more may drip for so long."""


class Late(httpx.RemoteProtocolError):
    """The call that an answer is for has been given up."""


class _Lines(anyio.streams.text.TextReceiveStream):
    """What a server writes on its standard output; a line is a message."""

    _length = 0

    async def receive(self) -> str:
        text = await super().receive()
        end = text.rfind("\n")
        self._length = self._length + len(text) if end < 0 else len(text) - end - 1
        if self._length > MAX_MESSAGE:
            raise ValueError(f"a message is longer than {MAX_MESSAGE >> 20} MiB")
        return text


# The library has no parameter for how it reads; a test holds that this is what it reads with.
mcp.client.stdio.TextReceiveStream = _Lines  # type: ignore[attr-defined]


class _Body(httpx.AsyncByteStream):
    """The body of an answer: a message as a whole, or a stream of events, each of which is one."""

    def __init__(self, response: httpx.Response, broken: Callable[[Exception], None] | None, until: float) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._stream, self._broken, self._until = response.stream, broken, until
        self._is_events = response.headers.get("content-type", "").lower().startswith("text/event-stream")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, now = 0, asyncio.get_running_loop().time
        try:
            async for data in self._stream:
                ended = self._is_events and (b"\n\n" in data or b"\r\n\r\n" in data)
                size = len(data) if ended else size + len(data)
                if size > MAX_MESSAGE:
                    raise httpx.RemoteProtocolError(f"a message is longer than {MAX_MESSAGE >> 20} MiB")
                if now() > self._until:
                    raise Late("the call was given up")
                yield data
        except Late:
            raise
        except httpx.TransportError as fault:
            if self._broken is not None:
                self._broken(fault)
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()


def connection(
    config: McpServer, hear: Callable[[object], Awaitable[None]], broken: Callable[[Exception], None]
) -> Connection:
    """How the library reaches a server. `hear` is told what it sends by itself. Raises CatalogError."""
    told = {"message_handler": hear}
    if config.url is not None:
        headers = {name: expand_variables(value) for name, value in config.headers.items()}
        return {
            "transport": "streamable_http",
            "url": expand_variables(config.url),
            "headers": headers,
            "session_kwargs": told,
            "httpx_client_factory": _http_clients(config.timeout_s, broken),
        }
    return {
        "transport": "stdio",
        "command": config.command or "",
        "args": config.args,
        "env": {name: expand_variables(value) for name, value in config.env.items()} or None,
        "cwd": config.cwd,
        "session_kwargs": told,
    }


def _http_clients(timeout_s: float, broken: Callable[[Exception], None]) -> McpHttpClientFactory:
    """`broken` is told when the answer to a request breaks off; no answer may take longer than a call and a little."""

    async def bound(response: httpx.Response) -> None:
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise httpx.RemoteProtocolError("the answer is compressed, which was not asked for")
        is_answer = response.request.method == "POST"
        until = asyncio.get_running_loop().time() + timeout_s + LATE_S if is_answer else float("inf")
        response.stream = _Body(response, broken if is_answer else None, until)

    def client(
        headers: dict[str, str] | None = None, timeout: httpx.Timeout | None = None, auth: httpx.Auth | None = None
    ) -> httpx.AsyncClient:
        given = {**(headers or {}), "accept-encoding": "identity"}
        return httpx.AsyncClient(headers=given, timeout=timeout, auth=auth, event_hooks={"response": [bound]})

    return client
