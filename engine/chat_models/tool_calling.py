"""Tools of the catalog as a model sees them, and what becomes of the calls it asks for.

A tool that fails tells the model so, which may then do better; what no other try can mend fails the node.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from time import monotonic
from typing import Any, cast

import orjson
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, ToolException

from engine.chat_models.base import ChatModel
from engine.chat_models.calls import Chat, ask
from engine.errors import NodeFailure
from engine.sdk.node import NodeContext
from engine.sdk.tool import ToolInfo
from engine.states import LogLevel
from engine.tools.catalog import Tools, check_scopes
from engine.types import JSON

MAX_NAME = 64
"""Characters of a function's name, as the providers allow them."""
MAX_RESULT = 100_000
"""Characters of a result that a model is given."""
MAX_SHOWN = 2000
FOR_THE_NODE = ("TOOL_FORBIDDEN", "TOOL_UNKNOWN", "SECRET")
"""Failures that the model can do nothing about."""


class BoundTool(BaseTool):
    """One tool of the catalog, lent to one visit of a node."""

    tools: Any
    """The catalog: Tools."""
    ctx: Any
    """NodeContext."""
    full_name: str
    calls: Counter[str]

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("tools are called on an event loop alone")

    async def _arun(self, /, **arguments: JSON) -> str:
        """What the model is told. Raises ToolException, which it is told as well."""
        began = monotonic()
        self.ctx.log(LogLevel.INFO, f"calls {self.full_name}", tool=self.full_name, arguments=_shown(arguments))
        try:
            result = await self.tools.call(self.full_name, arguments, self._one(arguments))
        except NodeFailure as failure:
            told = {"tool": self.full_name, "code": failure.code}
            self.ctx.log(LogLevel.WARNING, f"{self.full_name} failed: {failure.message}", **told)
            if failure.code in FOR_THE_NODE:
                raise
            raise ToolException(failure.message) from failure
        text = result if isinstance(result, str) else orjson.dumps(result).decode()
        took = {"tool": self.full_name, "seconds": round(monotonic() - began, 3), "result": text[:MAX_SHOWN]}
        self.ctx.log(LogLevel.INFO, f"{self.full_name} answered", **took)
        return text if len(text) <= MAX_RESULT else f"{text[:MAX_RESULT]}… ({len(text) - MAX_RESULT} characters more)"

    def _one(self, arguments: dict[str, JSON]) -> NodeContext:
        """The same call has the same key when the node runs again after a crash, and another one has another."""
        same = hashlib.sha256(orjson.dumps([self.full_name, arguments], option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        self.calls[same] += 1
        return cast(NodeContext, _OneCall(self.ctx, self.full_name, f"{same}/{self.calls[same]}"))


class _OneCall:
    """The node's context as one call of a tool sees it."""

    def __init__(self, ctx: NodeContext, tool: str, key: str) -> None:
        self._ctx, self._tool = ctx, tool
        self.idempotency_key = f"{ctx.idempotency_key}/{key}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def progress(self, fraction: float, message: str | None = None) -> None:
        """How far a tool is says nothing of how far the node is."""
        if message is not None:
            self._ctx.log(LogLevel.DEBUG, f"{self._tool}: {message}", tool=self._tool, progress=fraction)


async def bind_tools(names: Sequence[str], tools: Tools, ctx: NodeContext) -> list[BoundTool]:
    """Raises NodeFailure for a tool that is not there, or that whoever started the run may not use."""
    infos = [await tools.find(name) for name in dict.fromkeys(names)]
    for info in infos:
        check_scopes(info, ctx)
    known = _function_names(infos)
    calls: Counter[str] = Counter()
    return [
        BoundTool(
            name=function,
            description=info.description or info.name,
            args_schema=dict(info.parameters),
            handle_tool_error=True,
            tools=tools,
            ctx=ctx,
            full_name=info.name,
            calls=calls,
        )
        for function, info in known.items()
    ]


def _function_names(infos: Sequence[ToolInfo]) -> dict[str, ToolInfo]:
    """By names that providers accept, each of them once."""
    found: dict[str, ToolInfo] = {}
    for info in infos:
        name = info.identifier[:MAX_NAME] or "tool"
        number = 2
        while name in found:
            name, number = f"{info.identifier[: MAX_NAME - 3]}_{number}", number + 1
        found[name] = info
    return found


async def ask_with_tools(
    model: ChatModel, chat: Chat, messages: Sequence[BaseMessage], ctx: NodeContext
) -> AIMessageChunk:
    """An answer whose tool calls can be read; a model that writes them wrongly is asked once more. Raises NodeFailure."""
    answer = await ask(model, chat, messages, ctx)
    if not answer.invalid_tool_calls:
        return answer
    ctx.log(LogLevel.WARNING, "the model called a tool with arguments that are no JSON; it is asked once more")
    wrong = ", ".join(str(call["name"]) for call in answer.invalid_tool_calls)
    said = [AIMessage(answer.text)] if answer.text.strip() else []
    again = HumanMessage(f"The arguments of your call of {wrong} were no JSON object. Call it again.")
    answer = await ask(model, chat, [*messages, *said, again], ctx)
    if answer.invalid_tool_calls:
        told = f"the model {model.name!r} calls {wrong} with arguments that are no JSON, asked twice"
        raise NodeFailure("MODEL_OUTPUT", told, retryable=True)
    return answer


async def answered(answer: AIMessageChunk, lent: Sequence[BoundTool]) -> list[ToolMessage]:
    """What the tools say to the calls of an answer, at once and in their order."""
    by_name = {tool.name: tool for tool in lent}

    async def one(call: Any) -> ToolMessage:
        tool = by_name.get(call["name"])
        if tool is None:
            told = f"there is no tool {call['name']!r}; there are {', '.join(by_name)}"
            return ToolMessage(told, tool_call_id=call["id"] or "", status="error")
        return cast(ToolMessage, await tool.ainvoke({**call, "type": "tool_call"}))

    asked = [asyncio.create_task(one(call)) for call in answer.tool_calls]
    try:
        return list(await asyncio.gather(*asked))
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


def _shown(arguments: dict[str, JSON]) -> JSON:
    """Arguments as a log line has room for them."""
    text = orjson.dumps(arguments).decode()
    return arguments if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
