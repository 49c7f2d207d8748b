"""The catalog: every tool by name, and the one way to call one. Who calls it is asked for scopes, what it is given has to fit."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Set
from contextlib import asynccontextmanager
from difflib import get_close_matches

import structlog

from engine.catalog_file import McpServer
from engine.errors import NodeFailure
from engine.sdk.node import NodeContext
from engine.sdk.tool import Tool, ToolFailed, ToolInfo
from engine.tools.builtin import built_in
from engine.tools.entry_points import python_tools
from engine.tools.mcp.server import McpConnection, Unreachable
from engine.types import JSON
from engine.values.json_schema import mismatches
from engine.values.storable import check_storable

log = structlog.get_logger(__name__)

TIMEOUT_S = 300.0
"""For one call, where the tool has no limit of its own."""
LISTING_S = 5.0
"""How long a list waits for servers that are still starting."""
ADMIN = "admin"
"""Whoever holds it holds every other scope."""


class Tools(Mapping[str, ToolInfo]):
    """The resource `tools`. As a mapping it holds what needs no server; `listed` and `find` ask the servers too."""

    def __init__(self, tools: Iterable[Tool | ToolInfo], servers: Iterable[McpConnection] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._broken: dict[str, ToolInfo] = {}
        self._servers = {server.name: server for server in servers}
        for tool in tools:
            self._add(tool)

    def _add(self, tool: Tool | ToolInfo) -> None:
        """The first of a name stays: a package replaces no tool that is there."""
        if isinstance(tool, ToolInfo):
            self._broken[tool.name] = tool
        elif tool.info.name in self._tools:
            info = tool.info
            problem = f"there is a tool {info.name!r} already"
            self._broken[f"{info.origin}:{info.name}"] = ToolInfo(
                info.name, info.description, {}, info.origin, problem=problem
            )
        else:
            self._tools[tool.info.name] = tool

    def __getitem__(self, name: str) -> ToolInfo:
        return self._tools[name].info

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    async def listed(self) -> list[ToolInfo]:
        """All there are, by name; those that cannot be used with their problem."""
        found = [tool.info for tool in self._tools.values()] + list(self._broken.values())
        servers = list(self._servers.values())
        for server, told in zip(servers, await asyncio.gather(*map(_listing, servers)), strict=True):
            found += [_down(server, "*", told)] if isinstance(told, str) else told
        return sorted(found, key=lambda info: info.name)

    async def find(self, name: str) -> ToolInfo:
        """Raises NodeFailure(TOOL_UNKNOWN)."""
        return (await self._find(name)).info

    async def named(self, identifiers: Set[str]) -> dict[str, ToolInfo]:
        """The tools that code can mean by these names, by name."""
        found = [tool.info for tool in self._tools.values()]
        servers = [server for server in self._servers.values() if any(_meant(server, identifiers))]
        down: dict[str, ToolInfo] = {}
        for server, told in zip(servers, await asyncio.gather(*map(_listing, servers)), strict=True):
            if isinstance(told, str):
                # Which tools it has is not known: a call of any says what is wrong with the server.
                down |= {name: _down(server, tool, told) for name, tool in _meant(server, identifiers)}
            else:
                found += told
        return down | {info.identifier: info for info in found if info.identifier in identifiers}

    async def call(self, name: str, arguments: JSON, ctx: NodeContext, *, timeout_s: float = TIMEOUT_S) -> JSON:
        """What the tool gives, checked to be storable. Raises NodeFailure."""
        tool = await self._find(name)
        check_scopes(tool.info, ctx)
        # In a thread: a schema with references is looked at aside, by one process for all.
        given = await asyncio.to_thread(_check_arguments, tool.info, arguments)
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                result = await tool.call(given, ctx)
        except NodeFailure:
            raise
        except ToolFailed as told:
            raise NodeFailure("TOOL_FAILED", f"{name}: {told}") from told
        except Exception as fault:
            if limit.expired():
                raise NodeFailure("TIMEOUT", f"{name} did not finish within {timeout_s:g} s", retryable=True) from fault
            log.warning("tool.raised", tool=name, run_id=ctx.run_id, node_id=ctx.node_id, exc_info=True)
            raise NodeFailure("TOOL_FAILED", f"{name} raised {type(fault).__name__}: {fault}"[:2000]) from fault
        check_storable(result)
        return result

    def missing(self, name: str) -> NodeFailure | None:
        """What a call of it would fail with, where that is certain without asking a server."""
        server = self._server_of(name)
        if server is not None and (known := server.known_names) is not None:
            return None if name in known else _unknown(name, known)
        return None if name in self._tools or server is not None else self._nowhere(name)

    async def _find(self, name: str) -> Tool:
        if name in self._tools:
            return self._tools[name]
        server = self._server_of(name)
        if server is None:
            raise self._nowhere(name)
        try:
            tools = await server.tools()
        except Unreachable as unreachable:
            raise NodeFailure("TOOL_FAILED", str(unreachable), retryable=True) from unreachable
        tool = tools.get(name)
        if tool is None:
            raise _unknown(name, tools)
        if isinstance(tool, ToolInfo):
            raise unusable(tool)
        return tool

    def _server_of(self, name: str) -> McpConnection | None:
        origin, _, rest = name.partition(":")
        return self._servers.get(rest.partition("/")[0]) if origin == "mcp" else None

    def _nowhere(self, name: str) -> NodeFailure:
        if name in self._broken:
            return unusable(self._broken[name])
        return _unknown(name, [*self._tools, *(f"mcp:{server}/" for server in self._servers)])

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self._servers.values()))


def _unknown(name: str, others: Iterable[str]) -> NodeFailure:
    near = get_close_matches(name, list(others), n=1)
    meant = f"; did you mean {near[0]!r}?" if near else "; the query `tools` lists them"
    return NodeFailure("TOOL_UNKNOWN", f"there is no tool {name[:100]!r}{meant}")


def unusable(broken: ToolInfo) -> NodeFailure:
    told = f"the tool {broken.name!r} cannot be used: {broken.problem}"
    return NodeFailure("TOOL_FAILED", told, retryable=broken.is_transient)


def check_scopes(info: ToolInfo, ctx: NodeContext) -> None:
    """Raises NodeFailure(TOOL_FORBIDDEN)."""
    missing = sorted(info.required_scopes - ctx.scopes)
    if missing and ADMIN not in ctx.scopes:
        told = f"{info.name} needs the scopes {', '.join(missing)}, which whoever started this run does not hold"
        raise NodeFailure("TOOL_FORBIDDEN", told)


def _check_arguments(info: ToolInfo, arguments: JSON) -> dict[str, JSON]:
    if not isinstance(arguments, dict):
        raise NodeFailure("TOOL_ARGUMENTS", f"the arguments of {info.name} must be an object")
    if problems := mismatches(arguments, dict(info.parameters), "arguments"):
        told = "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:3])
        details: JSON = [{"field": problem.field, "message": problem.message} for problem in problems]
        raise NodeFailure("TOOL_ARGUMENTS", f"the arguments do not fit {info.name}: {told}", details=details)
    return arguments


async def _listing(server: McpConnection) -> list[ToolInfo] | str:
    """Its tools; of a server that is down, what is wrong with it."""
    listing = asyncio.ensure_future(server.tools())
    try:
        done, _ = await asyncio.wait({listing}, timeout=LISTING_S)
    finally:
        listing.cancel()
    if not done:
        return "the server is still starting, or its tools are still looked at"
    if isinstance(fault := listing.exception(), Exception):
        return str(fault) if isinstance(fault, Unreachable) else f"{type(fault).__name__}: {fault}"
    return [tool if isinstance(tool, ToolInfo) else tool.info for tool in listing.result().values()]


def _down(server: McpConnection, tool: str, problem: str) -> ToolInfo:
    """Stands for a tool of a server that is down; `*` stands for all of them."""
    name, scopes = f"{server.origin}/{tool}", frozenset(server.config.required_scopes)
    return ToolInfo(name, "The tools of an MCP server.", {}, server.origin, scopes, problem)


def _meant(server: McpConnection, identifiers: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Those that begin as its tools do, with the rest of each."""
    prefix = ToolInfo(server.origin, "", {}, server.origin).identifier + "_"
    return ((name, name.removeprefix(prefix)) for name in identifiers if name.startswith(prefix))


@asynccontextmanager
async def open_tools(servers: Mapping[str, McpServer], more: Iterable[Tool] = ()) -> AsyncIterator[Tools]:
    """Every tool there is; servers are started when they are first needed, and ended with it."""
    tools = Tools(
        [*built_in(), *more, *python_tools()], (McpConnection(name, config) for name, config in servers.items())
    )
    try:
        yield tools
    finally:
        await tools.close()
