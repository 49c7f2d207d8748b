"""Connections to MCP servers with limits that the library lacks.

A message has a maximum size, on standard output and over HTTP. A response that breaks off is
reported at once; the library would let its call wait.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio.streams.text
import httpx
import mcp.client.stdio
from langchain_mcp_adapters.sessions import Connection, McpHttpClientFactory

from engine.catalog_file import McpServer, expand_variables
from engine.response_headers import headers_problem
from engine.tools.mcp.errors import ExplainedFault

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message, twice the size of an output."""
MAX_VALUES = 200_000
"""Values of one message. To parse them takes about 50 ms."""
_ESCAPE = re.compile(r"\\.", re.DOTALL)
LATE_S = 5.0
"""Seconds after the time limit of a call for which its response is still read."""


class LateResponse(ExplainedFault, httpx.RemoteProtocolError):
    """The response arrives after the time limit of its call."""


class UnusableResponse(ExplainedFault, httpx.RemoteProtocolError):
    """The response breaks one of our limits. The message is for the author of the call."""


class LongMessage(ExplainedFault, ValueError):
    """A message on standard output is longer than MAX_MESSAGE, or has more than MAX_VALUES values."""


class MessageSize:
    """Counts the size of a message that arrives in pieces.

    The library parses a message in one step, which no timeout interrupts: 16 MiB of short numbers
    take seconds, and 16 MiB of text take a fraction of one. So the number of values counts as well.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin a message."""
        self._length = self._values = 0
        self._is_in_text = self._is_escaped = False

    def add(self, piece: str) -> str | None:
        """Count a piece. Returns why the message is too large, or None."""
        self._length += len(piece)
        if self._length > MAX_MESSAGE:
            return f"a message is longer than {MAX_MESSAGE >> 20} MiB"
        if not piece:
            return None
        if self._is_escaped:
            piece = piece[1:]
        piece = _ESCAPE.sub("", piece)
        self._is_escaped = piece.endswith("\\")
        parts = piece.split('"')
        outside = "".join(parts[int(self._is_in_text) :: 2])
        self._is_in_text ^= len(parts) % 2 == 0
        self._values += outside.count(",") + outside.count("[") + outside.count("{")
        if self._values > MAX_VALUES:
            return f"a message has more than {MAX_VALUES:,} values"
        return None


class _BoundedLines(anyio.streams.text.TextReceiveStream):
    """The standard output of a server, with a maximum length of a line; a line is a message."""

    _size: MessageSize | None = None

    async def receive(self) -> str:
        text = await super().receive()
        size = self._size = self._size or MessageSize()
        first, *others = text.split("\n")
        problem = size.add(first)
        for line in others:
            size.restart()
            problem = problem or size.add(line)
        if problem is not None:
            raise LongMessage(problem)
        return text


# The library has no parameter for its reader. A test checks that it uses this class.
mcp.client.stdio.TextReceiveStream = _BoundedLines  # type: ignore[attr-defined]


class _BoundedBody(httpx.AsyncByteStream):
    """The body of a response: one message, or a stream of events, each with a maximum size."""

    def __init__(self, response: httpx.Response, on_broken: Callable[[Exception], None] | None, until: float) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._stream, self._on_broken, self._until = response.stream, on_broken, until
        self._is_events = response.headers.get("content-type", "").lower().startswith("text/event-stream")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, now = MessageSize(), asyncio.get_running_loop().time
        try:
            async for data in self._stream:
                ended = self._is_events and (b"\n\n" in data or b"\r\n\r\n" in data)
                if ended:
                    size.restart()
                if (problem := size.add(data.decode("latin-1"))) is not None:
                    raise UnusableResponse(problem)
                if now() > self._until:
                    raise LateResponse("the call has ended")
                yield data
        except LateResponse:
            raise
        except httpx.TransportError as fault:
            if self._on_broken is not None:
                self._on_broken(fault)
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()


def connection(
    config: McpServer, on_message: Callable[[object], Awaitable[None]], on_broken: Callable[[Exception], None]
) -> Connection:
    """Return the library's connection parameters of a server.

    Args:
        config: The entry of the catalog file.
        on_message: Receives the messages that the server sends by itself.
        on_broken: Called when a response breaks off.

    Raises:
        CatalogError: An environment variable of the entry is not set.
    """
    session_kwargs = {"message_handler": on_message}
    if config.url is not None:
        headers = {name: expand_variables(value) for name, value in config.headers.items()}
        return {
            "transport": "streamable_http",
            "url": expand_variables(config.url),
            "headers": headers,
            "session_kwargs": session_kwargs,
            "httpx_client_factory": _http_clients(config.timeout_s, on_broken),
        }
    return {
        "transport": "stdio",
        "command": config.command or "",
        "args": config.args,
        "env": {name: expand_variables(value) for name, value in config.env.items()} or None,
        "cwd": config.cwd,
        "session_kwargs": session_kwargs,
    }


def _http_clients(timeout_s: float, on_broken: Callable[[Exception], None]) -> McpHttpClientFactory:
    """Return a factory of HTTP clients that limit each response in size, headers and time.

    A response may take LATE_S seconds longer than a call.
    """

    async def limit(response: httpx.Response) -> None:
        if (problem := headers_problem(response.headers.raw)) is not None:
            raise UnusableResponse(problem)
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise UnusableResponse("the response is compressed, although the request did not accept that")
        is_result = response.request.method == "POST"
        until = asyncio.get_running_loop().time() + timeout_s + LATE_S if is_result else float("inf")
        response.stream = _BoundedBody(response, on_broken if is_result else None, until)

    def client(
        headers: dict[str, str] | None = None, timeout: httpx.Timeout | None = None, auth: httpx.Auth | None = None
    ) -> httpx.AsyncClient:
        all_headers = {**(headers or {}), "accept-encoding": "identity"}
        return httpx.AsyncClient(headers=all_headers, timeout=timeout, auth=auth, event_hooks={"response": [limit]})

    return client
