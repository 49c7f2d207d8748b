"""Runs the loop of an `agent`: LangChain's agent graph with our model calls and a budget.

This module is imported when the first agent runs, since LangChain's agents are slow to import.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, cast

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from engine.chat_models.answer import ModelAnswer
from engine.chat_models.base import ChatModel
from engine.chat_models.tool_calling import BoundTool, ask_with_tools
from engine.errors import NodeFailure
from engine.events import Usage
from engine.graph.detached import detach
from engine.nodes.ai.agent import AgentConfig
from engine.sdk.node import NodeContext
from engine.types import JSON
from engine.values.storable import clean_text, is_storable

MAX_CONVERSATION = 8 * 1024 * 1024
"""Characters of all messages of an agent, which stay in memory until it ends."""
MAX_SHOWN = 2_000
"""Characters of arguments that cannot be stored, in the output."""


async def answer(
    model: ChatModel, tools: Sequence[BoundTool], messages: list[BaseMessage], config: AgentConfig, ctx: NodeContext
) -> JSON:
    """Run the loop and return the output of the node.

    Raises:
        NodeFailure: BUDGET if a limit is reached; the failure of a model call or of a tool.
    """
    calls = _ModelCalls(model, config, ctx)
    graph = create_agent(model.chat, list(tools), middleware=[calls], checkpointer=False)
    limit = 4 * config.max_steps + 10  # never reached, since `_ModelCalls` counts the steps
    with detach():
        state = await graph.ainvoke({"messages": cast(Any, messages)}, {"recursion_limit": limit})
    added: list[BaseMessage] = state["messages"][len(messages) :]
    last = calls.last
    assert last is not None
    called = list(_tool_calls(added, tools))
    return {"text": last.text, "steps": calls.steps, "toolCalls": called, "finishReason": last.finish_reason}


class _ModelCalls(AgentMiddleware[AgentState[Any], None]):
    """Makes the model calls of the loop, and stops it when the budget is used up.

    `steps` counts the calls, and `last` is the latest answer.
    """

    def __init__(self, model: ChatModel, config: AgentConfig, ctx: NodeContext) -> None:
        super().__init__()
        self.steps = 0
        self.last: ModelAnswer | None = None
        self._model, self._config, self._ctx = model, config, ctx
        self._spent = Usage(model.name, cost_usd=0.0)

    async def awrap_model_call(
        self, request: ModelRequest[None], handler: Callable[[ModelRequest[None]], Awaitable[ModelResponse[Any]]]
    ) -> AIMessage:
        self._check(request.messages)
        self.steps += 1
        self._ctx.progress((self.steps - 1) / self._config.max_steps, f"step {self.steps}: asks {self._model.name}")
        chat = request.model.bind_tools(request.tools) if request.tools else request.model
        answer = await ask_with_tools(self._model, chat, request.messages, _UsageCounter(self._ctx, self._count))
        self.last = answer
        if answer.calls:
            names = ", ".join(call.name for call in answer.calls)
            self._ctx.progress(self.steps / self._config.max_steps, f"step {self.steps}: calls {names}")
        return answer.message

    def _check(self, messages: Sequence[BaseMessage]) -> None:
        """Raise NodeFailure(BUDGET) if no further call is allowed."""
        budget, spent = self._config.budget, self._spent
        tokens = spent.input_tokens + spent.output_tokens
        if self.steps >= self._config.max_steps:
            raise self._over("steps", f"had no answer after {self.steps} steps")
        if self.steps and ((budget.usd and spent.cost_usd is None) or (budget.tokens and tokens == 0)):
            raise self._over("unknown", f"has a budget, but {self._model.name!r} does not report its usage")
        if sum(len(message.text) for message in messages) > MAX_CONVERSATION:
            raise self._over("conversation", f"had no answer after {MAX_CONVERSATION // 1024 // 1024} MiB of messages")
        if budget.tokens is not None and tokens >= budget.tokens:
            raise self._over("tokens", f"had no answer after {tokens} tokens")
        if budget.usd is not None and (spent.cost_usd or 0) >= budget.usd:
            raise self._over("usd", f"had no answer after {spent.cost_usd:.4f} USD")

    def _over(self, limit: str, reason: str) -> NodeFailure:
        spent = {"inputTokens": self._spent.input_tokens, "outputTokens": self._spent.output_tokens}
        details: JSON = {"limit": limit, "steps": self.steps, **spent, "costUsd": self._spent.cost_usd}
        return NodeFailure("BUDGET", f"the agent {reason}; its limits are `maxSteps` and `budget`", details=details)

    def _count(self, usage: Usage) -> None:
        self._spent += usage


class _UsageCounter:
    """The context of the node, which also adds the usage of each call to the budget."""

    def __init__(self, ctx: NodeContext, count: Callable[[Usage], None]) -> None:
        self._ctx, self._count = ctx, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def add_usage(self, usage: Usage) -> None:
        self._count(usage)
        self._ctx.add_usage(usage)


def _tool_calls(messages: Sequence[BaseMessage], tools: Sequence[BoundTool]) -> Iterator[JSON]:
    """Return the tool calls of the conversation, with the names of the catalog."""
    names = {tool.name: tool.full_name for tool in tools}
    results = {message.tool_call_id: message.status for message in messages if isinstance(message, ToolMessage)}
    for message in messages:
        for call in message.tool_calls if isinstance(message, AIMessage) else ():
            failed = results.get(call["id"] or "") == "error"
            arguments = _storable(call["args"])
            yield {"tool": names.get(call["name"], call["name"]), "arguments": arguments, "failed": failed}


def _storable(arguments: dict[str, JSON]) -> dict[str, JSON]:
    """Return the arguments; as one text if they cannot be stored."""
    if is_storable([[[arguments]]]):  # as deep as they are in the output
        return arguments
    return {"json": clean_text(json.dumps(arguments, ensure_ascii=False))[:MAX_SHOWN]}
