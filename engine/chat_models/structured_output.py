"""An answer that fits a JSON Schema: how a model is asked for one, how it is read, and that it is asked once more.

The schema is checked here whatever the provider promises: not every endpoint that takes one keeps to it.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import orjson
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import BaseTool

from engine.chat_models.base import ChatModel
from engine.chat_models.calls import Chat, ask, is_cut
from engine.errors import NodeFailure
from engine.sdk.node import NodeContext
from engine.states import LogLevel
from engine.types import JSON
from engine.values.json_schema import mismatches

NAME = "answer"
MAX_TOLD = 5
MAX_SHOWN = 4000
_FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


async def structured(
    model: ChatModel, schema: JSON, messages: Sequence[BaseMessage], ctx: NodeContext, tools: Sequence[BaseTool] = ()
) -> JSON:
    """A value that fits the schema. Raises NodeFailure, MODEL_OUTPUT where the second answer does not fit either.

    `tools` are those that the messages speak of: some providers want to see them again.
    """
    chat, messages = _asked_for(model, schema, messages, tools)
    answer = await ask(model, chat, messages, ctx)
    value, wrong = await _read(model, answer, schema)
    if wrong is None:
        return value
    ctx.log(LogLevel.WARNING, f"the answer does not fit the schema: {wrong}; the model is asked once more")
    ctx.text("\n")
    answer = await ask(model, chat, [*messages, *_corrected(answer, wrong)], ctx)
    value, wrong = await _read(model, answer, schema)
    if wrong is None:
        return value
    told = f"the answer of the model {model.name!r} does not fit `responseSchema`, asked twice: {wrong}"
    raise NodeFailure("MODEL_OUTPUT", told[:2000], retryable=True, details={"answer": _said(answer)[:MAX_SHOWN]})


def _asked_for(
    model: ChatModel, schema: JSON, messages: Sequence[BaseMessage], tools: Sequence[BaseTool]
) -> tuple[Chat, list[BaseMessage]]:
    if model.structured == "json_schema":
        wanted = {"type": "json_schema", "json_schema": {"name": NAME, "schema": schema}}
        return model.chat.bind(response_format=wanted), list(messages)
    if model.structured == "function_calling":
        function = {"name": NAME, "description": "Gives the answer.", "parameters": schema}
        tool = {"type": "function", "function": function}
        return model.chat.bind_tools([*tools, tool], tool_choice=NAME), list(messages)
    told = f"Answer with one JSON value that fits this JSON Schema, and with nothing else:\n{orjson.dumps(schema).decode()}"
    own = [message.text for message in messages if isinstance(message, SystemMessage)]
    others = [message for message in messages if not isinstance(message, SystemMessage)]
    return model.chat, [SystemMessage("\n\n".join([*own, told])), *others]


async def _read(model: ChatModel, answer: AIMessageChunk, schema: JSON) -> tuple[JSON, str | None]:
    """(the value, what is wrong with it)"""
    if is_cut(answer):
        raise NodeFailure("MODEL_OUTPUT", f"the answer of the model {model.name!r} was cut: give it more `max_tokens`")
    said = _said(answer)
    fenced = _FENCED.match(said)
    try:
        value: Any = orjson.loads(fenced[1] if fenced else said)
    except ValueError as wrong:
        return None, f"it is no JSON ({wrong})" if said.strip() else "it is empty"
    # In a thread: a schema with references is checked in another process.
    problems = await asyncio.to_thread(mismatches, value, schema, "answer")
    told = "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:MAX_TOLD])
    return value, told or None


def _said(answer: AIMessageChunk) -> str:
    """The JSON: arguments where the model was asked by a function, else its text."""
    calls = [call["args"] for call in answer.tool_calls if call["name"] == NAME]
    return orjson.dumps(calls[0]).decode() if calls else str(answer.text)


def _corrected(answer: AIMessageChunk, wrong: str) -> list[BaseMessage]:
    own = _said(answer)
    said: list[BaseMessage] = [AIMessage(own)] if own.strip() else []
    return [
        *said,
        HumanMessage(f"That does not fit: {wrong}. Answer again, with the whole JSON value and nothing else."),
    ]
