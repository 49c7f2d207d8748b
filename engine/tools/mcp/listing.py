"""What an MCP server has listed, and which of it can be used: each schema is looked at once.

Whoever asks shares one look, and it goes on when nobody waits for it any more. A schema that was not looked at because the
machine was busy, or because those before it took the time, is looked at again a little later.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.catalog_file import McpServer
from engine.isolation import client
from engine.sdk.tool import Tool, ToolInfo
from engine.values.json_schema import schema_problems

if TYPE_CHECKING:
    from mcp.types import Tool as McpToolType

CHECK_S = 2.0
"""What the schemas of one server may take aside together, each time that they are looked at."""
REST_S = 5.0
"""What could not be looked at is left alone for so long."""
CLOSING_S = 5.0


class Listing:
    """One list of a server's tools. `usable` makes a tool of one whose schema can be used."""

    def __init__(
        self,
        origin: str,
        config: McpServer,
        listed: "list[McpToolType]",
        usable: "Callable[[McpToolType, ToolInfo], Tool]",
    ) -> None:
        self.listed = listed
        self._origin, self._scopes, self._usable = origin, frozenset(config.required_scopes), usable
        self._by_name = {tool.name: tool for tool in listed}
        self._left = list(self._by_name if config.tools is None else config.tools)
        self._found: dict[str, Tool | ToolInfo] = {}
        self._look: asyncio.Task[dict[str, Tool | ToolInfo]] | None = None
        self._look_again_at = 0.0
        self._is_closed = False

    async def tools(self) -> dict[str, Tool | ToolInfo]:
        """By name, those that cannot be used as their ToolInfo."""
        if self._look is None or self._is_due(self._look):
            # In a thread: a schema with references is looked at aside, by one process for all.
            looking = asyncio.to_thread(self._look_at_those_left)
            self._look = asyncio.create_task(looking, name=f"{self._origin} is looked at")
            self._look.add_done_callback(self._rest)
        return await asyncio.shield(self._look)

    def _is_due(self, look: "asyncio.Task[dict[str, Tool | ToolInfo]]") -> bool:
        if not look.done():
            return False
        if look.cancelled() or look.exception() is not None:
            return True
        return bool(self._left) and asyncio.get_running_loop().time() >= self._look_again_at

    def _rest(self, _: object) -> None:
        self._look_again_at = asyncio.get_running_loop().time() + REST_S

    async def close(self) -> None:
        """The look ends with the schema that it is at, and its thread with it."""
        self._is_closed = True
        if self._look is not None:
            await asyncio.wait({self._look}, timeout=CLOSING_S)

    def _look_at_those_left(self) -> dict[str, Tool | ToolInfo]:
        left: list[str] = []
        with client.shared_time_limit(CHECK_S):
            for name in self._left:
                try:
                    self._found[f"{self._origin}/{name}"] = self._tool(name)
                except client.TemporarilyUnavailable as not_now:
                    left.append(name)
                    told = f"parameters: the schema {not_now}"
                    self._found[f"{self._origin}/{name}"] = self._info(name, told, is_transient=True)
        self._left = left
        return dict(self._found)

    def _tool(self, name: str) -> Tool | ToolInfo:
        """Raises aside.NotNow."""
        if self._is_closed:
            raise client.TemporarilyUnavailable("is not looked at any more: the server is closed")
        tool = self._by_name.get(name)
        if tool is None:
            return self._info(name, "the server has no such tool")
        if wrong := schema_problems(tool.inputSchema, "parameters"):
            return self._info(name, f"{wrong[0].field}: {wrong[0].message}")
        info = ToolInfo(f"{self._origin}/{name}", tool.description or "", tool.inputSchema, self._origin, self._scopes)
        return self._usable(tool, info)

    def _info(self, name: str, problem: str, *, is_transient: bool = False) -> ToolInfo:
        tool = self._by_name.get(name)
        told = "" if tool is None else tool.description or ""
        return ToolInfo(f"{self._origin}/{name}", told, {}, self._origin, self._scopes, problem, is_transient)
