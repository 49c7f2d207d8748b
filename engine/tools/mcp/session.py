"""A live session with an MCP server, owned by a task of its own: what the library opens in a task has to be closed there.

Nothing of it is stored. When the session ends, for whatever reason, the calls that wait in it end as well, at once.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from pydantic import ValidationError

from engine.catalog_file import CatalogError, McpServer, hide_variables
from engine.tools.mcp.errors import NO_METHOD, NotListed, SessionLost, said, why_lost
from engine.types import JSON

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp.shared.session import ProgressFnT
    from mcp.types import CallToolResult
    from mcp.types import Tool as McpToolType

T = TypeVar("T")
log = structlog.get_logger(__name__)

PING_S = 2.0
"""How often a server is asked whether it is there while calls wait for it; over HTTP nothing else tells."""
CLOSING_S = 5.0
MAX_PAGES = 100


@dataclass(slots=True)
class McpRequest:
    """One call. `request_id` is set once it is on its way."""

    tool: str
    arguments: dict[str, JSON]
    meta: dict[str, Any]
    progress: "ProgressFnT"
    request_id: int | None = field(default=None, init=False)


class Session:
    """`tools` are there once `opened` has returned, which it must by `deadline`.

    `is_stale`: the server says that they have changed.
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
        self._heard_at = 0.0
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.deadline = asyncio.get_running_loop().time() + config.start_timeout_s
        self._task = asyncio.create_task(self._live(), name=f"mcp {name}")

    @property
    def is_over(self) -> bool:
        return self._stop.is_set() or self._task.done()

    async def opened(self) -> None:
        """Raises SessionLost."""
        if self._ready.done():
            return
        await asyncio.wait({self._ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            raise SessionLost(self.reason, was_sent=False)

    async def ask(self, ask: McpRequest) -> "CallToolResult":
        """Raises SessionLost, or the library's McpError where the server refuses the call. A cancel is told to the server."""
        if asyncio.get_running_loop().time() > self._heard_at + PING_S:
            # A server may have gone since: better to learn that before it could have seen the call.
            await self._while_alive(self._ping(), was_sent=False)
        try:
            return await self._while_alive(self._asked(ask), was_sent=True)
        except asyncio.CancelledError:
            await self._call_off(ask)
            raise

    async def refresh(self) -> None:
        """Lists the tools again. Raises SessionLost, or NotListed where the session itself goes on."""
        await self._while_alive(self._list(), was_sent=False)

    async def _while_alive(self, asked: Coroutine[Any, Any, T], *, was_sent: bool) -> T:
        asking = asyncio.create_task(asked)
        self._waiting += 1
        try:
            either: set[asyncio.Future[Any]] = {asking, self._task, self._gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise SessionLost(self.reason, was_sent=was_sent)
            result = asking.result()
            self._heard_at = asyncio.get_running_loop().time()
            return result
        finally:
            self._waiting -= 1
            asking.cancel()

    async def _list(self) -> None:
        """Raises SessionLost, or NotListed."""
        from mcp import McpError

        self.is_stale = False  # Before: what changes meanwhile is listed once more.
        try:
            with self._noticing(is_call=False):
                self.tools = await _all_tools(self._client)
        except BaseException as fault:
            self.is_stale = True
            if isinstance(fault, McpError | ValidationError):
                raise NotListed(self._without_keys(said(fault))) from fault
            raise

    async def close(self) -> None:
        """Ends a server's process as well. Bounded in time."""
        self._stop.set()
        if self._ready.done():
            await asyncio.wait({self._task}, timeout=CLOSING_S)
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=CLOSING_S)

    async def _asked(self, ask: McpRequest) -> "CallToolResult":
        ask.request_id = self._client._request_id  # the library names no other way to tell which call is called off
        with self._noticing(is_call=True):
            return await self._client.call_tool(ask.tool, ask.arguments, progress_callback=ask.progress, meta=ask.meta)

    @contextmanager
    def _noticing(self, *, is_call: bool) -> Iterator[None]:
        """Raises SessionLost where the library tells in its own words that the server is gone."""
        try:
            yield
        except Exception as fault:
            if (why := why_lost(fault)) is None:
                raise
            raise self._lost(why[0], was_sent=is_call and why[1]) from fault

    async def _call_off(self, ask: McpRequest) -> None:
        from mcp.types import CancelledNotification, CancelledNotificationParams, ClientNotification

        if ask.request_id is None or self.is_over:
            return
        params = CancelledNotificationParams(requestId=ask.request_id, reason="the node was cancelled")
        with suppress(Exception):  # a server that is gone needs no word
            async with asyncio.timeout(1):
                notification = CancelledNotification(method="notifications/cancelled", params=params)
                await self._client.send_notification(ClientNotification(notification))

    async def _live(self) -> None:
        try:
            await self._run()
            self.reason = self.reason or "it was closed"
        except CatalogError as wrong:
            self.reason = str(wrong)
        except BaseException as fault:
            self.reason = self.reason or self._without_keys(said(fault))
            log.info("mcp.session_ended", server=self._name, reason=self.reason)
            if isinstance(fault, asyncio.CancelledError):
                raise

    async def _run(self) -> None:
        from langchain_mcp_adapters.sessions import create_session

        from engine.tools.mcp.transport import connection

        async with create_session(connection(self._config, self._hear, self._broken)) as self._client:
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
        """A server that is busy may take its time. Raises SessionLost where it is gone, or knows nothing of the session."""
        from mcp import McpError

        try:
            async with asyncio.timeout(PING_S):
                with self._noticing(is_call=False):
                    await self._client.send_ping()
        except TimeoutError:
            return
        except McpError as refused:
            if refused.error.code != NO_METHOD:
                raise self._lost(refused.error.message, was_sent=False) from refused

    def _lost(self, reason: str, *, was_sent: bool) -> SessionLost:
        self.reason = self.reason or reason
        self._stop.set()
        if not self._gone.done():
            self._gone.set_result(None)
        return SessionLost(reason, was_sent=was_sent)

    def _broken(self, fault: Exception) -> None:
        """An answer cannot be read: which call it was for is not known, and a call must not wait for it in vain."""
        log.info("mcp.broken_answer", server=self._name, fault=type(fault).__name__)
        self._lost(self._without_keys(f"its answer cannot be read: {said(fault)}"), was_sent=True)

    def _without_keys(self, told: str) -> str:
        sources = (self._config.url or "", *self._config.headers.values(), *self._config.env.values())
        return hide_variables(told, *sources)[:500]

    async def _hear(self, message: object) -> None:
        from mcp.types import ServerNotification, ToolListChangedNotification

        # A message that cannot be read. On standard streams it may be a line that a program prints beside.
        if isinstance(message, ValueError) and self._config.url is not None:
            self._broken(message)
        if isinstance(message, ServerNotification) and isinstance(message.root, ToolListChangedNotification):
            self.is_stale = True


async def _all_tools(client: "ClientSession") -> "list[McpToolType]":
    from mcp.types import PaginatedRequestParams

    found: list[McpToolType] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(params=PaginatedRequestParams(cursor=cursor))
        found += page.tools
        cursor = page.nextCursor
        if not cursor:
            break
    return found
