"""A live session with an MCP server, owned by its own task.

The library must close a session in the task that opened it. Nothing is stored. When the session
ends, for any reason, all of its waiting calls fail at once.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from pydantic import ValidationError

from engine.catalog_file import CatalogError, McpServer, hide_variables
from engine.tools.mcp.errors import METHOD_NOT_FOUND, NotListed, SessionLost, lost_reason, message_of
from engine.types import JSON

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp.shared.session import ProgressFnT
    from mcp.types import CallToolResult
    from mcp.types import Tool as McpToolType

T = TypeVar("T")
log = structlog.get_logger(__name__)

IDLE_S = 2.0
"""Seconds after the last response from which a call begins with a ping."""
PING_S = 2.0
"""Seconds between pings while calls wait. Over HTTP only a ping detects that the server is gone."""
CLOSING_S = 5.0
"""Seconds that a server has to end by itself, and again to end after the cancel of its task."""
MAX_PAGES = 100
"""Pages of a list of tools that are read."""


@dataclass(slots=True)
class McpRequest:
    """One call of a tool. `request_id` is set when it is sent."""

    tool: str
    arguments: dict[str, JSON]
    meta: dict[str, Any]
    progress: "ProgressFnT"
    request_id: int | None = field(default=None, init=False)


class Session:
    """A session with one server.

    `tools` are listed when `opened` returns; the caller closes the session if that is later than
    `deadline` (event loop time in seconds). `is_stale` is True after the server has announced a
    change of its tools. `reason` tells why the session has ended.
    """

    def __init__(self, name: str, config: McpServer) -> None:
        self._name, self._config = name, config
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = 0
        self._client: ClientSession
        self.tools: list[McpToolType] = []
        self.is_stale = False
        self.reason = ""
        self._last_response_at = 0.0
        self._lost_signal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.deadline = asyncio.get_running_loop().time() + config.start_timeout_s
        self._task = asyncio.create_task(self._live(), name=f"mcp {name}")

    @property
    def is_over(self) -> bool:
        """Whether the session has ended or is ending."""
        return self._stop.is_set() or self._task.done()

    async def opened(self) -> None:
        """Wait until the session is ready. Raises SessionLost."""
        if self._ready.done():
            return
        await asyncio.wait({self._ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            raise SessionLost(self.reason, was_sent=False)

    async def request(self, request: McpRequest) -> "CallToolResult":
        """Send a call and wait for its result. A cancel of this method is sent to the server.

        Raises:
            SessionLost: The session has ended.
            McpError: The server refused the call; an exception of the library.
        """
        if asyncio.get_running_loop().time() > self._last_response_at + IDLE_S:
            # The server may have gone: detect that before it can have received the call.
            await self._while_alive(self._ping(), was_sent=False)
        try:
            return await self._while_alive(self._call(request), was_sent=True)
        except asyncio.CancelledError:
            await self._cancel(request)
            raise

    async def refresh(self) -> None:
        """List the tools again.

        Raises:
            SessionLost: The session has ended.
            NotListed: The server does not list its tools; the session continues.
        """
        await self._while_alive(self._list(), was_sent=False)

    async def _while_alive(self, request: Coroutine[Any, Any, T], *, was_sent: bool) -> T:
        """Await a request, and fail at once if the session ends first. Raises SessionLost."""
        task = asyncio.create_task(request)
        self._waiting += 1
        try:
            first: set[asyncio.Future[Any]] = {task, self._task, self._lost_signal}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise SessionLost(self.reason, was_sent=was_sent)
            result = task.result()
            self._last_response_at = asyncio.get_running_loop().time()
            return result
        finally:
            self._waiting -= 1
            task.cancel()

    async def _list(self) -> None:
        """List the tools. Raises SessionLost or NotListed."""
        from mcp import McpError

        self.is_stale = False  # before the request, so that a change during it counts
        try:
            with self._detecting_loss(is_call=False):
                self.tools = await _all_tools(self._client)
        except BaseException as fault:
            self.is_stale = True
            if isinstance(fault, McpError | ValidationError):
                raise NotListed(self._redact(message_of(fault))) from fault
            raise

    async def close(self) -> None:
        """End the session and the process of the server. Takes at most 2 * CLOSING_S seconds."""
        self._stop.set()
        if self._ready.done():
            await asyncio.wait({self._task}, timeout=CLOSING_S)
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=CLOSING_S)

    async def _call(self, request: McpRequest) -> "CallToolResult":
        request.request_id = self._client._request_id  # the library has no public API for the id
        with self._detecting_loss(is_call=True):
            return await self._client.call_tool(
                request.tool, request.arguments, progress_callback=request.progress, meta=request.meta
            )

    @contextmanager
    def _detecting_loss(self, *, is_call: bool) -> Iterator[None]:
        """Convert exceptions of the library that mean the end of the session to SessionLost."""
        try:
            yield
        except Exception as fault:
            if (loss := lost_reason(fault)) is None:
                raise
            reason, was_received = loss
            raise self._lost(reason, was_sent=is_call and was_received) from fault

    async def _cancel(self, request: McpRequest) -> None:
        from mcp.types import CancelledNotification, CancelledNotificationParams, ClientNotification

        if request.request_id is None or self.is_over:
            return
        params = CancelledNotificationParams(requestId=request.request_id, reason="the node was cancelled")
        with suppress(Exception):  # the server may be gone
            async with asyncio.timeout(1):
                notification = CancelledNotification(method="notifications/cancelled", params=params)
                await self._client.send_notification(ClientNotification(notification))

    async def _live(self) -> None:
        """Run the session in its task and record why it ended."""
        try:
            await self._run()
            self.reason = self.reason or "it was closed"
        except CatalogError as error:
            self.reason = str(error)
        except BaseException as fault:
            self.reason = self.reason or self._redact(message_of(fault))
            log.info("mcp.session_ended", server=self._name, reason=self.reason)
            if isinstance(fault, asyncio.CancelledError):
                raise

    async def _run(self) -> None:
        # In a thread: the first import of the library takes a third of a second.
        library = await asyncio.to_thread(import_module, "langchain_mcp_adapters.sessions")
        transport = await asyncio.to_thread(import_module, "engine.tools.mcp.transport")
        connection = transport.connection(self._config, self._on_message, self._on_broken)
        async with library.create_session(connection) as self._client:
            await self._client.initialize()
            await self._list()
            self._ready.set_result(None)
            while not self._stop.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(PING_S):
                        await self._stop.wait()
                if self._waiting and not self._stop.is_set():
                    await self._ping()

    async def _ping(self) -> None:
        """Ping the server. A busy server may be slow to answer.

        Raises:
            SessionLost: The server is gone, or does not know the session.
        """
        from mcp import McpError

        try:
            async with asyncio.timeout(PING_S):
                with self._detecting_loss(is_call=False):
                    await self._client.send_ping()
        except TimeoutError:
            return
        except McpError as refused:
            if refused.error.code != METHOD_NOT_FOUND:
                raise self._lost(refused.error.message, was_sent=False) from refused

    def _lost(self, reason: str, *, was_sent: bool) -> SessionLost:
        """Mark the session as ended and return the exception for the caller."""
        reason = self._redact(reason)
        self.reason = self.reason or reason
        self._stop.set()
        if not self._lost_signal.done():
            self._lost_signal.set_result(None)
        return SessionLost(reason, was_sent=was_sent)

    def _on_broken(self, fault: Exception) -> None:
        """End the session after a response that cannot be parsed.

        It is unknown which call it belongs to, and that call would wait forever.
        """
        log.info("mcp.broken_answer", server=self._name, fault=type(fault).__name__)
        self._lost(f"its response cannot be parsed: {message_of(fault)}", was_sent=True)

    def _redact(self, text: str) -> str:
        """Replace the values of environment variables, which may be keys, by their names."""
        sources = (self._config.url or "", *self._config.headers.values(), *self._config.env.values())
        return hide_variables(text, *sources)[:500]

    async def _on_message(self, message: object) -> None:
        from mcp.types import ServerNotification, ToolListChangedNotification

        # A message that cannot be parsed. On standard output it may be a line that is no message.
        if isinstance(message, ValueError) and self._config.url is not None:
            self._on_broken(message)
        if isinstance(message, ServerNotification) and isinstance(message.root, ToolListChangedNotification):
            self.is_stale = True


async def _all_tools(client: "ClientSession") -> "list[McpToolType]":
    from mcp.types import PaginatedRequestParams

    tools: list[McpToolType] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(params=PaginatedRequestParams(cursor=cursor))
        tools += page.tools
        cursor = page.nextCursor
        if not cursor:
            break
    return tools
