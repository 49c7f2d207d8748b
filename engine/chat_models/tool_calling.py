"""Binds tools of the catalog to a model, and runs the calls that the model requests.

The failure of a tool is sent to the model, which may correct its call. A failure that the model
cannot correct fails the node.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from time import monotonic
from typing import Any, NamedTuple, cast

import orjson
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, ToolException

from engine.chat_models.answer import ModelAnswer
from engine.chat_models.base import ChatModel
from engine.chat_models.calls import Chat, ask
from engine.chat_models.tool_call_parts import RequestedCall
from engine.errors import NodeFailure, NotStorable
from engine.sdk.node import NodeContext
from engine.sdk.tool import ToolInfo
from engine.states import LogLevel
from engine.tools.catalog import Tools, check_scopes
from engine.types import JSON
from engine.values.storable import check_storable

MAX_NAME = 64
"""Characters of a function name that providers allow."""
MAX_CALLS = 64
"""Calls in one answer. An answer with more is refused as a whole."""
MAX_RESULT = 100_000
"""Characters of a result that are sent to a model."""
MAX_NAMES = 500
"""Characters of the names of tools in a message."""
MAX_EXCERPT = 2000
"""Characters of arguments and results in a log line."""
FATAL_CODES = ("TOOL_FORBIDDEN", "TOOL_UNKNOWN", "SECRET")
"""Codes of failures that the model cannot correct."""


class BoundTool(BaseTool):
    """A tool of the catalog, bound to one visit of a node. Its name is valid for all providers."""

    tools: Any
    """The catalog: Tools."""
    ctx: Any
    """NodeContext."""
    full_name: str
    """The name in the catalog."""
    calls: Counter[str]
    """How often each call, by its digest, was made in this visit; shared by all tools of the visit.
    """

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("tools can only be called on an event loop")

    async def _arun(self, /, **arguments: JSON) -> str:
        """Call the tool and return the text for the model.

        Raises:
            ToolException: The tool failed; LangChain sends the message to the model.
            NodeFailure: The model cannot correct the failure.
        """
        began = monotonic()
        try:
            check_storable(arguments)
        except NotStorable as error:
            raise ToolException(f"the arguments cannot be used: {error}") from error
        self.ctx.log(LogLevel.INFO, f"calls {self.full_name}", tool=self.full_name, arguments=_excerpt(arguments))
        try:
            result = await self.tools.call(self.full_name, arguments, self._call_context(arguments))
        except NodeFailure as failure:
            fields = {"tool": self.full_name, "code": failure.code}
            self.ctx.log(LogLevel.WARNING, f"{self.full_name} failed: {failure.message}", **fields)
            if failure.code in FATAL_CODES:
                raise
            raise ToolException(failure.message) from failure
        text = result if isinstance(result, str) else orjson.dumps(result).decode()
        seconds, result = round(monotonic() - began, 3), text[:MAX_EXCERPT]
        self.ctx.log(LogLevel.INFO, f"{self.full_name} answered", tool=self.full_name, seconds=seconds, result=result)
        return text if len(text) <= MAX_RESULT else f"{text[:MAX_RESULT]}… ({len(text) - MAX_RESULT} characters more)"

    def _call_context(self, arguments: dict[str, JSON]) -> NodeContext:
        """Return the context of a call, whose idempotency key depends on tool, arguments and count.

        When the node runs again after a crash, the same call has the same key.
        """
        digest = hashlib.sha256(orjson.dumps([self.full_name, arguments], option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        self.calls[digest] += 1
        key = f"{digest}/{self.calls[digest]}"
        return cast(NodeContext, _CallContext(self.ctx, self.full_name, key))


class _CallContext:
    """The context of the node for one call of a tool."""

    def __init__(self, ctx: NodeContext, tool: str, key: str) -> None:
        self._ctx, self._tool = ctx, tool
        self.idempotency_key = f"{ctx.idempotency_key}/{key}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Log the progress of the tool: it says nothing about the progress of the node."""
        if message is not None:
            self._ctx.log(LogLevel.DEBUG, f"{self._tool}: {message}", tool=self._tool, progress=fraction)


async def bind_tools(names: Sequence[str], tools: Tools, ctx: NodeContext) -> list[BoundTool]:
    """Bind tools of the catalog to a visit.

    Raises:
        NodeFailure: TOOL_UNKNOWN, or TOOL_FORBIDDEN if the run lacks a scope that a tool requires.
    """
    infos = [await tools.find(name) for name in dict.fromkeys(names)]
    for info in infos:
        check_scopes(info, ctx)
    functions = _function_names(infos)
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
        for function, info in functions.items()
    ]


def _function_names(infos: Sequence[ToolInfo]) -> dict[str, ToolInfo]:
    """Map unique names that providers accept to the tools."""
    functions: dict[str, ToolInfo] = {}
    for info in infos:
        name = info.identifier[:MAX_NAME] or "tool"
        number = 2
        while name in functions:
            name, number = f"{info.identifier[: MAX_NAME - 3]}_{number}", number + 1
        functions[name] = info
    return functions


async def ask_with_tools(
    model: ChatModel, chat: Chat, messages: Sequence[BaseMessage], ctx: NodeContext
) -> ModelAnswer:
    """Ask the model for an answer whose tool calls are complete; ask once more if they are not.

    A call in an answer that the token limit has cut is not complete, even if its arguments look so.

    Raises:
        NodeFailure: MODEL_OUTPUT if the second answer has such calls too; the failure of a call.
    """
    answer = await ask(model, chat, messages, ctx)
    if (fault := _fault_of(answer)) is None:
        return answer
    ctx.log(
        LogLevel.WARNING,
        f"the model called {fault.names} {fault.reason}: nothing was called, and it is asked once more",
    )
    previous = [AIMessage(answer.text)] if answer.text.strip() else []
    answer = await ask(model, chat, [*messages, *previous, HumanMessage(fault.request)], ctx)
    if (fault := _fault_of(answer)) is not None:
        message = f"the model {model.name!r} twice called {fault.names} {fault.reason}"
        raise NodeFailure("MODEL_OUTPUT", message[:1000], retryable=not answer.is_cut)
    return answer


class _CallFault(NamedTuple):
    """The reason why no call of an answer is executed, and the request to the model."""

    names: str
    reason: str
    request: str


def _fault_of(answer: ModelAnswer) -> _CallFault | None:
    """Return the reason why the calls of an answer must not be executed, or None."""
    names = ", ".join(dict.fromkeys(call.name for call in answer.calls))[:MAX_NAMES]
    if answer.calls and answer.is_cut:
        reason = "in an answer that its token limit cut: raise `max_tokens`"
        request = f"Your answer was cut at the token limit, so your call of {names} was not executed."
        return _CallFault(names, reason, f"{request} Call it again, and be shorter.")
    if len(answer.calls) > MAX_CALLS:
        request = f"You made {len(answer.calls)} calls at once, so none was executed. Make at most {MAX_CALLS}."
        return _CallFault(names, f"more than {MAX_CALLS} times in one answer", request)
    invalid = ", ".join(call.name for call in answer.calls if call.arguments is None)
    if invalid:
        request = f"The arguments of your call of {invalid} were no JSON object. Call it again."
        return _CallFault(invalid, "with arguments that are no JSON", request)
    return None


async def call_tools(answer: ModelAnswer, tools: Sequence[BoundTool]) -> list[ToolMessage]:
    """Run the tool calls of an answer concurrently; return the results in the order of the calls.

    If one fails the node, or the node is cancelled, the others are cancelled and have ended when
    this returns.
    """
    by_name = {tool.name: tool for tool in tools}

    async def run(call: RequestedCall) -> ToolMessage:
        tool = by_name.get(call.name)
        if tool is None:
            text = f"there is no tool {call.name!r}; there are {', '.join(by_name)}"
            return ToolMessage(text, tool_call_id=call.id, status="error")
        return cast(ToolMessage, await tool.ainvoke(cast(Any, call.tool_call)))

    tasks = [asyncio.create_task(run(call)) for call in answer.calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _excerpt(arguments: dict[str, JSON]) -> JSON:
    """Return the arguments, or the start of their JSON text if they are too long for a log line."""
    text = orjson.dumps(arguments).decode()
    return arguments if len(text) <= MAX_EXCERPT else f"{text[:MAX_EXCERPT]}…"
