"""The MCP servers of the catalog file and their tools, `mcp:<server>/<tool>`.

A server is started or connected when it is first needed. All calls share one session; after its end
the next call opens another one. A call that a lost server may have received is not sent again: the
author decides that with `retry` of the node.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.catalog_file import McpServer, variable_values
from engine.errors import NodeFailure
from engine.sdk.node import NodeContext
from engine.sdk.tool import Tool, ToolFailed, ToolInfo
from engine.tools.mcp.errors import PERMANENT_CODES, NotListed, SessionLost, result_fault
from engine.tools.mcp.listing import Listing
from engine.tools.mcp.session import McpRequest, Session
from engine.types import JSON
from engine.values.large_values import off_loop
from engine.values.redaction import Redactor

if TYPE_CHECKING:
    from mcp.types import CallToolResult
    from mcp.types import Tool as McpToolType

RETRY_S = 5.0
"""Seconds after a failed connection in which the server is not tried again."""


class Unreachable(Exception):
    """The server cannot be used now; the message is for the author."""


class McpConnection:
    """One server of the catalog file, connected or not."""

    def __init__(self, name: str, config: McpServer) -> None:
        self.name, self.config = name, config
        self.origin = f"mcp:{name}"
        self._opening = asyncio.Lock()
        self._session: Session | None = None
        self._failed_at = -RETRY_S
        self._failure = ""
        self._listing: Listing | None = None

    @property
    def known_names(self) -> list[str] | None:
        """The names of its tools, if they are known without asking the server; else None."""
        names = self.config.tools
        if names is None:
            session = self._session
            if session is None or session.is_over or session.is_stale or not session.tools:
                return None
            names = [tool.name for tool in session.tools]
        return [f"{self.origin}/{name}" for name in names]

    @property
    def hidden_values(self) -> list[str]:
        """The values of environment variables that the server has received. It may repeat them."""
        config = self.config
        return variable_values(config.url or "", *config.headers.values(), *config.env.values())

    async def tools(self) -> dict[str, Tool | ToolInfo]:
        """Return the tools by name; a tool that cannot be used is a ToolInfo.

        Raises Unreachable.
        """
        listed = (await self._refreshed_session()).tools
        if self._listing is None or self._listing.listed is not listed:
            redactor = Redactor(self.hidden_values)
            self._listing = Listing(self.origin, self.config, listed, partial(McpTool, self), redactor)
        return await self._listing.tools()

    async def _refreshed_session(self) -> Session:
        """Return the session, with the tools listed again if the server has announced a change."""
        session = await self._open()
        if not session.is_stale:
            return session
        try:
            async with asyncio.timeout(self.config.start_timeout_s):
                await session.refresh()
        except SessionLost:
            return await self._open()  # a new session lists the tools when it opens
        except TimeoutError:
            raise Unreachable(self._message("it does not list its tools: no answer")) from None
        except NotListed as refused:
            raise Unreachable(self._message(str(refused))) from refused
        return session

    async def request(self, request: McpRequest) -> "CallToolResult":
        """Send a call; once more in a new session if the old one had ended before it was sent.

        Raises:
            Unreachable: The server cannot be used now.
            SessionLost: The session ended, and the server may have received the call.
            McpError: The server refused the call.
        """
        try:
            return await (await self._open()).request(request)
        except SessionLost as lost:
            if lost.was_sent:
                raise
        try:
            return await (await self._open()).request(request)
        except SessionLost as lost:
            raise Unreachable(self._message(lost.reason)) from lost

    async def _open(self) -> Session:
        """Return the session when it is ready; open a new one if there is none or it has ended.

        Raises:
            Unreachable: It cannot be opened, or the last attempt failed less than RETRY_S ago.
        """
        async with self._opening:
            if self._session is None or self._session.is_over:
                await self._end_session()
                if asyncio.get_running_loop().time() < self._failed_at + RETRY_S:
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
        self._failed_at, self._failure = asyncio.get_running_loop().time(), self._message(reason)
        return Unreachable(self._failure)

    def _message(self, reason: str) -> str:
        return f"the MCP server {self.name!r} cannot be used: {reason}"

    async def close(self) -> None:
        """End the session, the running check, and the process of the server."""
        if self._listing is not None:
            await self._listing.close()
        await self._end_session()

    async def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class McpTool:
    """A tool of an MCP server."""

    def __init__(self, server: McpConnection, tool: "McpToolType", info: ToolInfo) -> None:
        self.info = info
        self._server, self._name = server, tool.name

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        """Call the tool; a cancel is sent to the server.

        What the server repeats of the variables of its entry is masked, also for the model of an agent.

        Raises ToolFailed or NodeFailure.
        """
        hidden = self._server.hidden_values
        ctx.hide(hidden)
        redactor = Redactor(hidden)
        try:
            return off_loop(redactor.redact_value, await self._call(arguments, ctx))
        except ToolFailed as failed:
            raise ToolFailed(redactor.redact_text(str(failed)), retryable=failed.retryable) from failed

    async def _call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        from mcp import McpError

        async def report(progress: float, total: float | None, message: str | None) -> None:
            ctx.progress(progress / total if total else 0.0, message)

        limit = asyncio.timeout(self._server.config.timeout_s)
        try:
            async with limit:
                meta = {"treadle/idempotencyKey": ctx.idempotency_key}
                result = await self._server.request(McpRequest(self._name, arguments, meta, report))
        except TimeoutError:
            message = f"{self.info.name} did not finish within {self._server.config.timeout_s:g} s"
            raise NodeFailure("TIMEOUT", message, retryable=True) from None
        except Unreachable as unreachable:
            raise NodeFailure("TOOL_FAILED", str(unreachable), retryable=True) from unreachable
        except SessionLost as lost:
            message = f"the MCP server {self._server.name!r} was lost during the call of {self._name!r}: {lost.reason}"
            raise NodeFailure("TOOL_FAILED", message, retryable=True) from lost
        except RuntimeError as fault:  # the library checks the result
            raise ToolFailed(result_fault(fault)) from fault
        except McpError as refused:
            message = f"the server refuses the call: {refused.error.message}"
            raise ToolFailed(message, retryable=refused.error.code not in PERMANENT_CODES) from refused
        return _content(result)


def _content(result: "CallToolResult") -> JSON:
    """Return structured content if there is any, a single text as a string, else all blocks."""
    blocks: list[dict[str, Any]] = [block.model_dump(mode="json", exclude_none=True) for block in result.content]
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    if result.isError:
        # The protocol does not say whether the failure may pass.
        message = "\n".join(texts)[:2000] or "the server reports a failure without a message"
        raise ToolFailed(message, retryable=True)
    if result.structuredContent is not None:
        return result.structuredContent
    return texts[0] if len(blocks) == 1 and texts else blocks
