"""The MCP servers of the catalog file and their tools, `mcp:<server>/<tool>`.

A server is started, or connected to, when it is first needed; all calls share one session. When that has ended the next call
opens another one. A call that a lost server may have seen is not sent again: that is for the author to ask for.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.catalog_file import McpServer
from engine.errors import NodeFailure
from engine.sdk.node import NodeContext
from engine.sdk.tool import Tool, ToolFailed, ToolInfo
from engine.tools.mcp.errors import NotListed, SessionLost
from engine.tools.mcp.listing import Listing
from engine.tools.mcp.session import McpRequest, Session
from engine.types import JSON

if TYPE_CHECKING:
    from mcp.types import CallToolResult
    from mcp.types import Tool as McpToolType

REST_S = 5.0
"""A server that could not be reached is not tried again for so long."""


class Unreachable(Exception):
    """The server cannot be used now; reads as a sentence."""


class McpConnection:
    """One server, whether it runs or not."""

    def __init__(self, name: str, config: McpServer) -> None:
        self.name, self.config = name, config
        self.origin = f"mcp:{name}"
        self._opening = asyncio.Lock()
        self._session: Session | None = None
        self._failed_at = -REST_S
        self._failure = ""
        self._listing: Listing | None = None

    @property
    def known_names(self) -> list[str] | None:
        """The names of its tools, as far as they are known without asking it; None: nothing is known."""
        wanted = self.config.tools
        if wanted is None:
            session = self._session
            if session is None or session.is_over or session.is_stale or not session.tools:
                return None
            wanted = [tool.name for tool in session.tools]
        return [f"{self.origin}/{name}" for name in wanted]

    async def tools(self) -> dict[str, Tool | ToolInfo]:
        """By name, those that cannot be used as their ToolInfo. Raises Unreachable."""
        listed = (await self._listed()).tools
        if self._listing is None or self._listing.listed is not listed:
            self._listing = Listing(self.origin, self.config, listed, partial(McpTool, self))
        return await self._listing.tools()

    async def _listed(self) -> Session:
        """The session, with its tools as the server has them now."""
        session = await self._open()
        if not session.is_stale:
            return session
        try:
            async with asyncio.timeout(self.config.start_timeout_s):
                await session.refresh()
        except SessionLost:
            return await self._open()  # Another one, which begins by listing them.
        except TimeoutError:
            raise Unreachable(self._told("it does not list its tools: no answer")) from None
        except NotListed as refused:
            raise Unreachable(self._told(str(refused))) from refused
        return session

    async def ask(self, ask: McpRequest) -> "CallToolResult":
        """Raises Unreachable; SessionLost where the call may have been seen; McpError where it was refused."""
        try:
            return await (await self._open()).ask(ask)
        except SessionLost as lost:
            if lost.was_sent:
                raise
        try:
            return await (await self._open()).ask(ask)
        except SessionLost as lost:
            raise Unreachable(self._told(lost.reason)) from lost

    async def _open(self) -> Session:
        """The session, ready; a new one if there is none or it is over. Raises Unreachable."""
        async with self._opening:
            if self._session is None or self._session.is_over:
                await self._end_session()
                if asyncio.get_running_loop().time() < self._failed_at + REST_S:
                    raise Unreachable(self._failure)
                self._session = Session(self.name, self.config)
            return await self._ready(self._session)

    async def _ready(self, session: Session) -> Session:
        try:
            async with asyncio.timeout_at(session.deadline):
                await session.opened()
        except TimeoutError:
            await session.close()
            raise self._failed(f"it was not ready within {self.config.start_timeout_s:g} s") from None
        except SessionLost as lost:
            raise self._failed(lost.reason) from lost
        return session

    def _failed(self, reason: str) -> Unreachable:
        self._failed_at, self._failure = asyncio.get_running_loop().time(), self._told(reason)
        return Unreachable(self._failure)

    def _told(self, reason: str) -> str:
        return f"the MCP server {self.name!r} cannot be used: {reason}"

    async def close(self) -> None:
        if self._listing is not None:
            await self._listing.close()
        await self._end_session()

    async def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class McpTool:
    """One tool of a server."""

    def __init__(self, server: McpConnection, tool: "McpToolType", info: ToolInfo) -> None:
        self.info = info
        self._server, self._name = server, tool.name

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        from mcp import McpError

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            ctx.progress(progress / total if total else 0.0, message)

        limit = asyncio.timeout(self._server.config.timeout_s)
        try:
            async with limit:
                meta = {"treadle/idempotencyKey": ctx.idempotency_key}
                result = await self._server.ask(McpRequest(self._name, arguments, meta, tell))
        except TimeoutError:
            told = f"{self.info.name} did not finish within {self._server.config.timeout_s:g} s"
            raise NodeFailure("TIMEOUT", told, retryable=True) from None
        except Unreachable as unreachable:
            raise NodeFailure("TOOL_FAILED", str(unreachable), retryable=True) from unreachable
        except SessionLost as lost:
            told = f"the MCP server {self._server.name!r} was lost in the call of {self._name!r}: {lost.reason}"
            raise NodeFailure("TOOL_FAILED", told, retryable=True) from lost
        except McpError as refused:
            raise ToolFailed(refused.error.message) from refused
        return _value(result)


def _value(result: "CallToolResult") -> JSON:
    """Structured content as it is; a single text as text; anything else as the server's blocks."""
    blocks: list[dict[str, Any]] = [block.model_dump(mode="json", exclude_none=True) for block in result.content]
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    if result.isError:
        raise ToolFailed("\n".join(texts)[:2000] or "the server says no more than that it failed")
    if result.structuredContent is not None:
        return result.structuredContent
    return texts[0] if len(blocks) == 1 and texts else blocks
