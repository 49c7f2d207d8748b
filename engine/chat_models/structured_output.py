"""Asks a model for a value that matches a JSON Schema, and asks once more if it does not.

The value is always checked here, since not every endpoint that accepts a schema follows it.
"""

import asyncio
import json
from collections.abc import Sequence

import orjson
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import BaseTool

from engine.chat_models.answer import ModelAnswer
from engine.chat_models.base import ChatModel
from engine.chat_models.calls import Chat, ask, cut_failure
from engine.chat_models.json_in_text import json_values
from engine.errors import NodeFailure
from engine.sdk.node import NodeContext
from engine.states import LogLevel
from engine.types import JSON
from engine.values.json_schema import mismatches
from engine.values.json_text import NotJson, parse_json

NAME = "answer"
"""The name of the schema, or of the function, that the model sees."""
MAX_PROBLEMS = 5
"""Mismatches that a message lists."""
MAX_EXCERPT = 4000
"""Characters of the answer in the details of a failure."""


async def ask_structured(
    model: ChatModel, schema: JSON, messages: Sequence[BaseMessage], ctx: NodeContext, tools: Sequence[BaseTool] = ()
) -> JSON:
    """Ask the model for a value that matches the schema.

    Args:
        model: The model.
        schema: A JSON Schema of an object.
        messages: The conversation.
        ctx: Receives text, usage and logs.
        tools: The tools whose calls are in the messages; some providers require their definitions.

    Raises:
        NodeFailure: MODEL_OUTPUT if the second answer does not match either; the failure of a call.
    """
    chat, messages = _with_schema(model, schema, messages, tools)
    answer = await ask(model, chat, messages, ctx)
    value, mismatch = await _parse(model, answer, schema)
    if mismatch is None:
        return value
    ctx.log(LogLevel.WARNING, f"the answer does not match the schema: {mismatch}; the model is asked once more")
    ctx.text("\n")
    answer = await ask(model, chat, [*messages, *_correction(answer, mismatch)], ctx)
    value, mismatch = await _parse(model, answer, schema)
    if mismatch is None:
        return value
    message = f"two answers of the model {model.name!r} do not match `responseSchema`: {mismatch}"
    details = {"answer": _json_text(answer)[:MAX_EXCERPT]}
    raise NodeFailure("MODEL_OUTPUT", message[:2000], retryable=True, details=details)


def _with_schema(
    model: ChatModel, schema: JSON, messages: Sequence[BaseMessage], tools: Sequence[BaseTool]
) -> tuple[Chat, list[BaseMessage]]:
    """Request the schema in the way that the model supports."""
    if model.structured == "json_schema":
        response_format = {"type": "json_schema", "json_schema": {"name": NAME, "schema": schema}}
        return model.chat.bind(response_format=response_format), list(messages)
    if model.structured == "function_calling":
        function = {"name": NAME, "description": "Gives the answer.", "parameters": schema}
        tool = {"type": "function", "function": function}
        return model.chat.bind_tools([*tools, tool], tool_choice=NAME), list(messages)
    request = f"Answer with one JSON value that fits this JSON Schema, and with nothing else:\n{orjson.dumps(schema).decode()}"
    system = [message.text for message in messages if isinstance(message, SystemMessage)]
    others = [message for message in messages if not isinstance(message, SystemMessage)]
    return model.chat, [SystemMessage("\n\n".join([*system, request])), *others]


async def _parse(model: ChatModel, answer: ModelAnswer, schema: JSON) -> tuple[JSON, str | None]:
    """Return (the value, why it does not match the schema).

    Of several values in the text, the last one that matches is the answer.
    """
    if answer.is_cut:
        raise cut_failure(model)
    try:
        values = _values(answer)
    except NotJson as problem:
        return None, f"it {problem}"
    mismatch = ""
    for value in reversed(values):
        # In a thread: a schema with references is checked in the isolated process.
        problems = await asyncio.to_thread(mismatches, value, schema, "answer")
        if not problems:
            return value, None
        mismatch = mismatch or "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:MAX_PROBLEMS])
    return None, mismatch


def _values(answer: ModelAnswer) -> list[JSON]:
    """Return the JSON: the arguments of the function call, or else what the text contains.

    Raises NotJson.
    """
    calls = [call for call in answer.calls if call.name == NAME]
    if not calls:
        return json_values(answer.text)
    if calls[0].arguments is None:
        raise NotJson("is no JSON object")
    return [parse_json(_json_text(answer))]


def _json_text(answer: ModelAnswer) -> str:
    """Return the answer as text, for the model and for the author."""
    calls = [call.arguments for call in answer.calls if call.name == NAME and call.arguments is not None]
    # json, since orjson refuses whole numbers beyond 64 bits; the parser says what is wrong with them.
    return json.dumps(calls[0], ensure_ascii=False) if calls else answer.text


def _correction(answer: ModelAnswer, mismatch: str) -> list[BaseMessage]:
    """Return the messages that ask again: the answer, and what is wrong with it."""
    text = _json_text(answer)
    previous: list[BaseMessage] = [AIMessage(text)] if text.strip() else []
    request = f"That does not fit: {mismatch}. Answer again, with the whole JSON value and nothing else."
    return [*previous, HumanMessage(request)]
