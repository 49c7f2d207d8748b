"""The tools that every Treadle has. Each is a plain function whose signature is its schema."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from pydantic import TypeAdapter

from engine.isolation import client
from engine.sdk.node import NodeContext
from engine.sdk.tool import ToolFailed, ToolInfo
from engine.tools.inline import LIGHT
from engine.tools.isolated import HEAVY, Wrong
from engine.types import JSON

ORIGIN = "builtin"


class BuiltIn:
    """A function with named arguments alone. `do` calls it; without one it is called as it is."""

    def __init__(
        self, function: Callable[..., Any], do: Callable[[str, dict[str, JSON]], Awaitable[JSON]] | None = None
    ) -> None:
        schema = TypeAdapter(cast(Any, function)).json_schema()
        self.info = ToolInfo(function.__name__, inspect.getdoc(function) or "", schema, ORIGIN)
        self._function, self._do = function, do

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        if self._do is not None:
            return await self._do(self.info.name, arguments)
        try:
            result = self._function(**arguments)
            return await result if inspect.isawaitable(result) else result
        except Wrong as wrong:
            raise ToolFailed(str(wrong)) from wrong


class _Aside:
    """One at a time: the process aside is for templates and schemas as well, which must not stand in line behind many of us."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def do(self, name: str, arguments: dict[str, JSON]) -> JSON:
        async with self._turn:
            try:
                answer = await asyncio.to_thread(client.run_isolated, "engine.tools.isolated.run", name, arguments)
            except client.ResourceLimitExceeded as too_much:
                raise ToolFailed(f"this {too_much}") from None
        if "wrong" in answer:
            raise ToolFailed(answer["wrong"])
        return answer["value"]


def built_in() -> Iterable[BuiltIn]:
    heavy = _Aside()
    yield from (BuiltIn(function, heavy.do) for function in HEAVY.values())
    yield from (BuiltIn(function) for function in LIGHT)
