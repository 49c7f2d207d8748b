"""Checks which tools of an MCP server can be used: each schema is checked once.

Concurrent callers share one check, which continues when no caller waits for it any more. A schema
that was not checked, because the machine was busy or the time limit was reached, is checked again
after RETRY_S seconds.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.catalog_file import McpServer
from engine.isolation import client
from engine.sdk.tool import Tool, ToolInfo
from engine.values.json_schema import schema_problems
from engine.values.redaction import NO_SECRETS, Redactor

if TYPE_CHECKING:
    from mcp.types import Tool as McpToolType

CHECK_S = 2.0
"""Seconds that one check of a server's schemas may take in the isolated process."""
RETRY_S = 5.0
"""Seconds until schemas that could not be checked are checked again."""
CLOSING_S = 5.0
"""Seconds that `close` waits for a running check."""


class Listing:
    """One list of a server's tools.

    `make_tool` makes a tool of an entry whose schema can be used. `redactor` masks what the server
    must not show.
    """

    def __init__(
        self,
        origin: str,
        config: McpServer,
        listed: "list[McpToolType]",
        make_tool: "Callable[[McpToolType, ToolInfo], Tool]",
        redactor: Redactor = NO_SECRETS,
    ) -> None:
        self.listed, self._redactor = listed, redactor
        self._origin, self._scopes, self._make_tool = origin, frozenset(config.required_scopes), make_tool
        self._by_name = {tool.name: tool for tool in listed}
        self._unchecked = list(self._by_name if config.tools is None else config.tools)
        self._tools: dict[str, Tool | ToolInfo] = {}
        self._check: asyncio.Task[dict[str, Tool | ToolInfo]] | None = None
        self._check_again_at = 0.0
        self._is_closed = False

    async def tools(self) -> dict[str, Tool | ToolInfo]:
        """Return the tools by name; a tool that cannot be used is a ToolInfo with its problem."""
        if self._check is None or self._is_due(self._check):
            # In a thread: a schema with references is checked in the isolated process.
            checking = asyncio.to_thread(self._check_remaining)
            self._check = asyncio.create_task(checking, name=f"check the tools of {self._origin}")
            self._check.add_done_callback(self._schedule)
        return await asyncio.shield(self._check)

    def _is_due(self, check: "asyncio.Task[dict[str, Tool | ToolInfo]]") -> bool:
        if not check.done():
            return False
        if check.cancelled() or check.exception() is not None:
            return True
        return bool(self._unchecked) and asyncio.get_running_loop().time() >= self._check_again_at

    def _schedule(self, _: object) -> None:
        self._check_again_at = asyncio.get_running_loop().time() + RETRY_S

    async def close(self) -> None:
        """End the check, and its thread, after the schema that is being checked."""
        self._is_closed = True
        if self._check is not None:
            await asyncio.wait({self._check}, timeout=CLOSING_S)

    def _check_remaining(self) -> dict[str, Tool | ToolInfo]:
        unchecked: list[str] = []
        with client.shared_time_limit(CHECK_S):
            for name in self._unchecked:
                try:
                    self._tools[f"{self._origin}/{name}"] = self._tool(name)
                except client.TemporarilyUnavailable as unavailable:
                    unchecked.append(name)
                    problem = f"parameters: the schema {unavailable}"
                    self._tools[f"{self._origin}/{name}"] = self._info(name, problem, is_transient=True)
        self._unchecked = unchecked
        return dict(self._tools)

    def _tool(self, name: str) -> Tool | ToolInfo:
        """Check one tool. Raises TemporarilyUnavailable if it cannot be checked now."""
        if self._is_closed:
            raise client.TemporarilyUnavailable("is not checked any more: the server is closed")
        tool = self._by_name.get(name)
        if tool is None:
            return self._info(name, "the server has no such tool")
        if self._redactor.redact_text(name) != name:
            return self._info(name, "its name contains a value of an environment variable")
        schema = self._redactor.redact_value(tool.inputSchema)
        if problems := schema_problems(schema, "parameters"):
            return self._info(name, f"{problems[0].field}: {problems[0].message}")
        info = ToolInfo(f"{self._origin}/{name}", self._description(tool), schema, self._origin, self._scopes)
        return self._make_tool(tool, info)

    def _description(self, tool: "McpToolType | None") -> str:
        return "" if tool is None else self._redactor.redact_text(tool.description or "")

    def _info(self, name: str, problem: str, *, is_transient: bool = False) -> ToolInfo:
        shown, description = self._redactor.redact_text(name), self._description(self._by_name.get(name))
        return ToolInfo(f"{self._origin}/{shown}", description, {}, self._origin, self._scopes, problem, is_transient)
