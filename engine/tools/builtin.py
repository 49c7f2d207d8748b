"""The built-in tools. Each is a function whose signature is the schema of its arguments."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from pydantic import TypeAdapter

from engine.isolation import client, suspension
from engine.sdk.node import NodeContext
from engine.sdk.tool import ToolFailed, ToolInfo
from engine.tools.inline import INLINE
from engine.tools.isolated import ISOLATED, InvalidArguments
from engine.types import JSON

ORIGIN = "builtin"
BUILTIN_NAMES = frozenset(function.__name__ for function in (*ISOLATED.values(), *INLINE))


class BuiltinTool:
    """A tool made from a function with keyword-only arguments.

    `runner` runs the function by its name; without one it is called directly.
    """

    def __init__(
        self, function: Callable[..., Any], runner: Callable[[str, dict[str, JSON]], Awaitable[JSON]] | None = None
    ) -> None:
        schema = TypeAdapter(cast(Any, function)).json_schema()
        self.info = ToolInfo(function.__name__, inspect.getdoc(function) or "", schema, ORIGIN)
        self._function, self._runner = function, runner

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        """Call the function. Raises ToolFailed."""
        if self._runner is not None:
            return await self._runner(self.info.name, arguments)
        try:
            result = self._function(**arguments)
            return await result if inspect.isawaitable(result) else result
        except InvalidArguments as error:
            raise ToolFailed(str(error)) from error


async def _run_isolated(name: str, arguments: dict[str, JSON]) -> JSON:
    """Run a function in the isolation process, when it is the turn of the run."""
    try:
        result = await suspension.call(client.run_isolated, "engine.tools.isolated.run", name, arguments)
    except client.ResourceLimitExceeded as exceeded:
        raise ToolFailed(f"this {exceeded}") from None
    if "error" in result:
        raise ToolFailed(result["error"])
    return result["value"]


def builtin_tools() -> Iterable[BuiltinTool]:
    """Return the built-in tools."""
    yield from (BuiltinTool(function, _run_isolated) for function in ISOLATED.values())
    yield from (BuiltinTool(function) for function in INLINE)
