"""Lets the author's code call tools of the catalog like functions.

The sandbox is suspended until the tool has returned. Nothing is stored: a crash loses the call of
the tool together with that of the code.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_monty import (
    AsyncFunctionSnapshot,
    AsyncMontySession,
    ExternalResult,
    MontyComplete,
)

from engine.errors import NodeFailure, NotStorable
from engine.sdk.node import NodeContext
from engine.sdk.tool import ToolInfo
from engine.states import LogLevel
from engine.tools.catalog import Tools, unusable
from engine.types import JSON
from engine.values.large_values import off_loop
from engine.values.storable import check_storable

_WORD = re.compile(r"[^\W\d]\w*")
_EXCEPTIONS: Mapping[str, type[Exception]] = {
    "TOOL_ARGUMENTS": ValueError,
    "TOOL_FORBIDDEN": PermissionError,
    "TIMEOUT": TimeoutError,
}
"""The exception that the code can catch, by failure code; any other code is a RuntimeError."""

Printer = Callable[[str, str], None]
"""Receives (stream, text): `stdout` or `stderr`, and what was printed."""


async def tools_in(code: str, ctx: NodeContext) -> dict[str, ToolInfo]:
    """Return the tools that the code may call, by the identifiers in its source."""
    tools: Tools | None = ctx.resources.get("tools")
    return {} if tools is None else await tools.named(set(_WORD.findall(code)))


async def feed(
    session: AsyncMontySession,
    code: str,
    inputs: dict[str, JSON],
    printer: Printer,
    tools: Mapping[str, ToolInfo],
    ctx: NodeContext,
    failures: list[NodeFailure],
) -> Any:
    """Run the code in the session and return its last value.

    Args:
        session: A sandbox.
        code: The source.
        inputs: Global variables of the code.
        printer: Receives what the code prints.
        tools: The tools by identifier.
        ctx: The context in which tools are called.
        failures: Receives the failures of tools, which the code may catch.

    Raises:
        MontyError: The code failed or exceeded a limit.
    """
    if not tools:
        return await session.feed_run(code, inputs=inputs, print_callback=printer)
    names = {name: _placeholder(name) for name in tools}
    state = await session.feed_start(code, inputs=inputs, print_callback=printer, external_lookup=names)
    while not isinstance(state, MontyComplete):
        if isinstance(state, AsyncFunctionSnapshot) and not state.is_os_function and state.function_name in tools:
            info = tools[state.function_name]
            state = await state.resume(await _call_tool(info, state.args, state.kwargs, ctx, failures))
        else:
            state = await state.resume_auto()
    return state.output


def _placeholder(name: str) -> Callable[..., None]:
    """Return a function for the name of a tool.

    It is never called: the sandbox suspends instead.
    """

    def tool(*_: object, **__: object) -> None:
        raise RuntimeError(f"only the sandbox calls {name}")

    tool.__name__ = tool.__qualname__ = name
    return tool


async def _call_tool(
    info: ToolInfo, positional: tuple[Any, ...], named: dict[str, Any], ctx: NodeContext, failures: list[NodeFailure]
) -> ExternalResult:
    try:
        if info.problem is not None:
            raise unusable(info)
        arguments = _arguments(info, positional, named)
        result = await ctx.resources["tools"].call(info.name, arguments, ctx)
    except NodeFailure as failure:
        failures.append(failure)
        ctx.log(LogLevel.WARNING, f"{info.name} failed: {failure.message}", tool=info.name, code=failure.code)
        return {"exception": _EXCEPTIONS.get(failure.code, RuntimeError)(failure.message)}
    ctx.log(LogLevel.DEBUG, f"called {info.name}", tool=info.name)
    return {"return_value": result}


def _arguments(info: ToolInfo, positional: tuple[Any, ...], named: dict[str, Any]) -> dict[str, JSON]:
    """Return the arguments by name; positional ones get the names of the parameters in their order.

    Raises:
        NodeFailure: TOOL_ARGUMENTS.
    """
    parameters = list(info.parameters.get("properties", {}))
    if len(positional) > len(parameters):
        raise NodeFailure("TOOL_ARGUMENTS", f"{info.name} takes {len(parameters)} arguments, not {len(positional)}")
    arguments = dict(zip(parameters, positional, strict=False))
    if twice := sorted(arguments.keys() & named.keys()):
        raise NodeFailure("TOOL_ARGUMENTS", f"{info.name} got {twice[0]!r} twice")
    arguments |= named
    try:
        off_loop(check_storable, arguments)
    except NotStorable as error:
        raise NodeFailure("TOOL_ARGUMENTS", f"{info.name} takes only JSON: {error}") from error
    return arguments
