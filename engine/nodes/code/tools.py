"""Tools that the author's code calls by name, as plain functions: it stands still in the sandbox until the tool has answered.

Nothing is kept: a crash in the middle loses the call of the tool with that of the code.
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
from engine.values.storable import check_storable

_WORD = re.compile(r"[^\W\d]\w*")
_RAISED: Mapping[str, type[Exception]] = {
    "TOOL_ARGUMENTS": ValueError,
    "TOOL_FORBIDDEN": PermissionError,
    "TIMEOUT": TimeoutError,
}
"""What a failure is in the code, which may catch it; anything else is a RuntimeError."""

Printed = Callable[[str, str], None]


async def tools_in(code: str, ctx: NodeContext) -> dict[str, ToolInfo]:
    """The tools that the code can mean, by the names that it would use."""
    tools: Tools | None = ctx.resources.get("tools")
    return {} if tools is None else await tools.named(set(_WORD.findall(code)))


async def feed(
    session: AsyncMontySession,
    code: str,
    inputs: dict[str, JSON],
    printed: Printed,
    tools: Mapping[str, ToolInfo],
    ctx: NodeContext,
) -> Any:
    """What the code gives. Raises what the session raises."""
    if not tools:
        return await session.feed_run(code, inputs=inputs, print_callback=printed)
    names = {name: _placeholder(name) for name in tools}
    state = await session.feed_start(code, inputs=inputs, print_callback=printed, external_lookup=names)
    while not isinstance(state, MontyComplete):
        if isinstance(state, AsyncFunctionSnapshot) and not state.is_os_function and state.function_name in tools:
            state = await state.resume(await _answer(tools[state.function_name], state.args, state.kwargs, ctx))
        else:
            state = await state.resume_auto()
    return state.output


def _placeholder(name: str) -> Callable[..., None]:
    """Stands for a tool where the code asks what the name means; its calls never get here."""

    def tool(*_: object, **__: object) -> None:
        raise RuntimeError(f"{name} is called by the sandbox alone")

    tool.__name__ = tool.__qualname__ = name
    return tool


async def _answer(info: ToolInfo, given: tuple[Any, ...], named: dict[str, Any], ctx: NodeContext) -> ExternalResult:
    try:
        if info.problem is not None:
            raise unusable(info)
        arguments = _arguments(info, given, named)
        result = await ctx.resources["tools"].call(info.name, arguments, ctx)
    except NodeFailure as failure:
        ctx.log(LogLevel.WARNING, f"{info.name} failed: {failure.message}", tool=info.name, code=failure.code)
        return {"exception": _RAISED.get(failure.code, RuntimeError)(failure.message)}
    ctx.log(LogLevel.DEBUG, f"called {info.name}", tool=info.name)
    return {"return_value": result}


def _arguments(info: ToolInfo, given: tuple[Any, ...], named: dict[str, Any]) -> dict[str, JSON]:
    """Values without a name take the parameters' names in their order."""
    parameters = list(info.parameters.get("properties", {}))
    if len(given) > len(parameters):
        raise NodeFailure("TOOL_ARGUMENTS", f"{info.name} takes {len(parameters)} arguments, and got {len(given)}")
    arguments = dict(zip(parameters, given, strict=False))
    if twice := sorted(arguments.keys() & named.keys()):
        raise NodeFailure("TOOL_ARGUMENTS", f"{info.name} got {twice[0]!r} twice")
    arguments |= named
    try:
        check_storable(arguments)
    except NotStorable as wrong:
        raise NodeFailure("TOOL_ARGUMENTS", f"{info.name} takes JSON alone: {wrong}") from wrong
    return arguments
