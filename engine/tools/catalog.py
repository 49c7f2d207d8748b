"""The catalog of tools: the resource `tools`, by which nodes, agents and code call a tool.

Every call goes through here: the scopes of the run and the schema of the arguments are checked
first, and the result must be storable JSON. Nothing is stored.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Set
from contextlib import asynccontextmanager
from difflib import get_close_matches

import structlog

from engine import tracing
from engine.catalog_file import McpServer
from engine.errors import NodeFailure, NotStorable, may_be_transient
from engine.sdk.node import NodeContext
from engine.sdk.tool import Tool, ToolFailed, ToolInfo
from engine.tools.builtin import builtin_tools
from engine.tools.entry_points import python_tools
from engine.tools.mcp.server import McpConnection, Unreachable
from engine.types import JSON
from engine.values.json_schema import mismatches
from engine.values.large_values import off_loop
from engine.values.storable import check_storable, stored_form

log = structlog.get_logger(__name__)

TIMEOUT_S = 300.0
"""Seconds of one call, unless the caller sets another limit."""
LISTING_S = 5.0
"""Seconds that a list of tools waits for MCP servers that are still starting."""
ADMIN = "admin"
"""The scope that includes every other scope."""


class Tools(Mapping[str, ToolInfo]):
    """All tools by name.

    As a mapping it contains the tools that need no MCP server; `listed`, `find` and `named` also
    ask the servers.
    """

    def __init__(self, tools: Iterable[Tool | ToolInfo], servers: Iterable[McpConnection] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._broken: dict[str, ToolInfo] = {}
        self._servers = {server.name: server for server in servers}
        for tool in tools:
            self._add(tool)

    def _add(self, tool: Tool | ToolInfo) -> None:
        """Add a tool.

        A package cannot replace an existing tool; its tool is listed with the problem.
        """
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
        """Return all tools by name; those that cannot be used have a problem."""
        infos = [tool.info for tool in self._tools.values()] + list(self._broken.values())
        servers = list(self._servers.values())
        for server, listing in zip(servers, await asyncio.gather(*map(_list_tools, servers)), strict=True):
            infos += [_placeholder(server, "*", listing)] if isinstance(listing, str) else listing
        return sorted(infos, key=lambda info: info.name)

    async def find(self, name: str) -> ToolInfo:
        """Return a tool. Raises NodeFailure(TOOL_UNKNOWN), or TOOL_FAILED if it cannot be used."""
        return (await self._find(name)).info

    async def named(self, identifiers: Set[str]) -> dict[str, ToolInfo]:
        """Return the tools by identifier that code with these identifiers may call.

        For a server that is down, every identifier with its prefix is a tool with a problem.
        """
        infos = [tool.info for tool in self._tools.values()]
        servers = [server for server in self._servers.values() if any(_with_prefix(server, identifiers))]
        down: dict[str, ToolInfo] = {}
        for server, listing in zip(servers, await asyncio.gather(*map(_list_tools, servers)), strict=True):
            if isinstance(listing, str):
                # Its tools are unknown, so a call of any of them reports the problem of the server.
                down |= {name: _placeholder(server, tool, listing) for name, tool in _with_prefix(server, identifiers)}
            else:
                infos += listing
        return down | {info.identifier: info for info in infos if info.identifier in identifiers}

    async def call(self, name: str, arguments: JSON, ctx: NodeContext, *, timeout_s: float = TIMEOUT_S) -> JSON:
        """Call a tool.

        Args:
            name: The name in the catalog.
            arguments: The arguments, which must match the schema of the tool.
            ctx: The context of the node.
            timeout_s: Seconds after which the call is cancelled.

        Returns:
            The result, which is storable JSON.

        Raises:
            NodeFailure: TOOL_UNKNOWN, TOOL_FORBIDDEN, TOOL_ARGUMENTS, TOOL_FAILED or TIMEOUT.
            NotStorable: The result cannot be stored.
        """
        tool = await self._find(name)
        check_scopes(tool.info, ctx)
        # In a thread: a schema with references is checked in the isolated process.
        valid = await asyncio.to_thread(_check_arguments, tool.info, arguments)
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                with tracing.span(f"execute_tool {name}", attributes=_span_attributes(name)):
                    result = await tool.call(valid, ctx)
        except NodeFailure:
            raise
        except ToolFailed as failed:
            raise NodeFailure("TOOL_FAILED", f"{name}: {failed}", retryable=failed.retryable) from failed
        except Exception as fault:
            if limit.expired():
                raise NodeFailure("TIMEOUT", f"{name} did not finish within {timeout_s:g} s", retryable=True) from fault
            log.warning("tool.raised", tool=name, run_id=ctx.run_id, node_id=ctx.node_id, exc_info=True)
            message = f"{name} raised {type(fault).__name__}: {fault}"[:2000]
            raise NodeFailure("TOOL_FAILED", message, retryable=may_be_transient(fault)) from fault
        return off_loop(stored_form, result)

    def missing(self, name: str) -> NodeFailure | None:
        """Return the failure of a call, if it is certain without asking a server; else None."""
        server = self._server_of(name)
        if server is not None and (known := server.known_names) is not None:
            return None if name in known else _unknown(name, known)
        return None if name in self._tools or server is not None else self._unknown_failure(name)

    async def _find(self, name: str) -> Tool:
        if name in self._tools:
            return self._tools[name]
        server = self._server_of(name)
        if server is None:
            raise self._unknown_failure(name)
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

    def _unknown_failure(self, name: str) -> NodeFailure:
        if name in self._broken:
            return unusable(self._broken[name])
        return _unknown(name, [*self._tools, *(f"mcp:{server}/" for server in self._servers)])

    async def close(self) -> None:
        """Close the sessions with all servers."""
        await asyncio.gather(*(server.close() for server in self._servers.values()))


def _unknown(name: str, others: Iterable[str]) -> NodeFailure:
    near = get_close_matches(name, list(others), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; the query `tools` lists them"
    return NodeFailure("TOOL_UNKNOWN", f"there is no tool {name[:100]!r}{hint}")


def unusable(broken: ToolInfo) -> NodeFailure:
    """Return the failure of a call of a tool that has a problem."""
    message = f"the tool {broken.name!r} cannot be used: {broken.problem}"
    return NodeFailure("TOOL_FAILED", message, retryable=broken.is_transient)


def check_scopes(info: ToolInfo, ctx: NodeContext) -> None:
    """Check that the run has the scopes that the tool requires.

    Raises NodeFailure(TOOL_FORBIDDEN).
    """
    missing = sorted(info.required_scopes - ctx.scopes)
    if missing and ADMIN not in ctx.scopes:
        message = (
            f"{info.name} needs the scopes {', '.join(missing)}, which the caller who started this run does not have"
        )
        raise NodeFailure("TOOL_FORBIDDEN", message)


def _check_arguments(info: ToolInfo, arguments: JSON) -> dict[str, JSON]:
    if not isinstance(arguments, dict):
        raise NodeFailure("TOOL_ARGUMENTS", f"the arguments of {info.name} must be an object")
    try:
        off_loop(check_storable, arguments)
    except NotStorable as error:
        raise NodeFailure("TOOL_ARGUMENTS", f"the arguments of {info.name} cannot be used: {error}") from error
    if problems := mismatches(arguments, dict(info.parameters), "arguments"):
        summary = "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:3])
        details: JSON = [{"field": problem.field, "message": problem.message} for problem in problems]
        raise NodeFailure("TOOL_ARGUMENTS", f"the arguments do not match {info.name}: {summary}", details=details)
    return arguments


def _span_attributes(name: str) -> dict[str, str]:
    return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}


async def _list_tools(server: McpConnection) -> list[ToolInfo] | str:
    """Return the tools of a server, or the problem of a server that is down."""
    listing = asyncio.ensure_future(server.tools())
    try:
        done, _ = await asyncio.wait({listing}, timeout=LISTING_S)
    finally:
        listing.cancel()
    if not done:
        return "the server is still starting, or its tools are still being checked"
    if isinstance(fault := listing.exception(), Exception):
        return str(fault) if isinstance(fault, Unreachable) else f"{type(fault).__name__}: {fault}"
    return [tool if isinstance(tool, ToolInfo) else tool.info for tool in listing.result().values()]


def _placeholder(server: McpConnection, tool: str, problem: str) -> ToolInfo:
    """Return an entry for a tool of a server that is down; `*` represents all of its tools."""
    name, scopes = f"{server.origin}/{tool}", frozenset(server.config.required_scopes)
    return ToolInfo(name, "The tools of an MCP server.", {}, server.origin, scopes, problem)


def _with_prefix(server: McpConnection, identifiers: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Return the identifiers with the prefix of the server's tools, each with the rest after it."""
    prefix = ToolInfo(server.origin, "", {}, server.origin).identifier + "_"
    return ((name, name.removeprefix(prefix)) for name in identifiers if name.startswith(prefix))


@asynccontextmanager
async def open_tools(servers: Mapping[str, McpServer], more: Iterable[Tool] = ()) -> AsyncIterator[Tools]:
    """Open the catalog. Servers start when they are first needed, and end with the block."""
    tools = Tools(
        [*builtin_tools(), *more, *python_tools()], (McpConnection(name, config) for name, config in servers.items())
    )
    try:
        yield tools
    finally:
        await tools.close()
