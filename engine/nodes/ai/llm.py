"""The node type `llm`: asks a language model once.

Text is streamed while it arrives. With a response schema the output is a value that matches it.
Nothing is stored before the answer is complete.
"""

from typing import Annotated, Any, ClassVar

import orjson
from langchain_core.messages import BaseMessage
from pydantic import AfterValidator, AliasChoices, Field

from engine.chat_models.base import ChatModel
from engine.chat_models.calls import ask
from engine.chat_models.structured_output import ask_structured
from engine.chat_models.tool_calling import BoundTool, ask_with_tools, bind_tools, call_tools
from engine.errors import NodeFailure
from engine.nodes.ai.memory import new_messages
from engine.nodes.ai.prompting import PromptConfig, open_conversation, open_model, time_limit
from engine.nodes.tool import tools_of
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.types import JSON
from engine.values.json_schema import check_schema

MAX_ROUNDS = 5
"""Rounds of tool calls; an `agent` can have more."""


def _check_schema(schema: JSON) -> JSON:
    if schema is None:
        return None
    if problems := check_schema(schema, "responseSchema"):
        raise ValueError(f"is no JSON Schema: {problems[0].message} (at {problems[0].field})")
    if schema.get("type") != "object":
        raise ValueError("must have the type object: most providers accept no other")
    return schema


class LlmConfig(PromptConfig):
    """The config of an `llm`."""

    response_schema: Annotated[dict[str, Any] | None, AfterValidator(_check_schema)] = Field(
        None,
        validation_alias=AliasChoices("responseSchema", "response_schema"),
        title="Structured answer",
        description="JSON Schema of an object. The output is then a value that matches it, instead of text.",
        examples=[
            {
                "type": "object",
                "properties": {"category": {"type": "string", "enum": ["billing", "technical", "other"]}},
                "required": ["category"],
            }
        ],
        json_schema_extra={"format": "json-schema"},
    )
    tools: tuple[str, ...] = Field(
        (),
        max_length=64,
        title="Tools",
        description=f"Tools of the catalog that the model may call, in up to {MAX_ROUNDS} rounds.",
        examples=[["json_query"]],
        json_schema_extra={"items": {"type": "string", "format": "tool-name"}},
    )


class LlmNode(NodeType[LlmConfig]):
    """Asks the model within the time limit of the node."""

    name: ClassVar[str] = "llm"
    title: ClassVar[str] = "Language model"
    description: ClassVar[str] = "Asks a language model for text, or for data that matches a schema."
    category: ClassVar[str] = "ai"
    icon: ClassVar[str] = "sparkles"
    Config: ClassVar[type[NodeConfig]] = LlmConfig
    output_schema: ClassVar[dict[str, Any]] = {
        "description": "The text of the answer; with `responseSchema` the value itself."
    }
    example: ClassVar[dict[str, Any]] = {
        "model": "treadle/echo",
        "system": "Classify the ticket.",
        "prompt": "{{ input.text }}",
        "responseSchema": {
            "type": "object",
            "properties": {"category": {"type": "string", "enum": ["billing", "technical", "other"]}},
            "required": ["category"],
        },
    }

    async def execute(self, config: LlmConfig, ctx: NodeContext) -> Output:
        messages, own = await open_conversation(config, ctx)
        async with time_limit(config):
            model = await open_model(config, ctx)
            value = await _answer(config, model, messages, ctx)
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        return Output(value, messages=new_messages(config.memory, own, text))


async def _answer(config: LlmConfig, model: ChatModel, messages: list[BaseMessage], ctx: NodeContext) -> JSON:
    """Ask, with the tools and the schema of the config, and return the output of the node."""
    tools = await bind_tools(config.tools, tools_of(ctx), ctx) if config.tools else []
    text, messages = await _ask_in_rounds(model, messages, tools, ctx) if tools else ("", messages)
    if config.response_schema is not None:
        return await ask_structured(model, config.response_schema, messages, ctx, tools)
    return text if tools else await _ask_for_text(model, messages, ctx)


async def _ask_for_text(model: ChatModel, messages: list[BaseMessage], ctx: NodeContext) -> str:
    """Ask for text.

    Raises:
        NodeFailure: MODEL_OUTPUT if the model calls a tool instead; the failure of the call.
    """
    answer = await ask(model, model.chat, messages, ctx)
    if answer.calls and not answer.text.strip():
        names = ", ".join(call.name for call in answer.calls)
        message = f"the model {model.name!r} called {names} instead of answering; add it to `tools`"
        raise NodeFailure("MODEL_OUTPUT", message[:1000], retryable=True)
    return answer.text


async def _ask_in_rounds(
    model: ChatModel, messages: list[BaseMessage], tools: list[BoundTool], ctx: NodeContext
) -> tuple[str, list[BaseMessage]]:
    """Ask until the model calls no more tools.

    Returns:
        The text of the answer, and the conversation before it with the results of the tools.

    Raises:
        NodeFailure: BUDGET after MAX_ROUNDS rounds; the failure of a model call or of a tool.
    """
    chat = model.chat.bind_tools(tools)
    for number in range(MAX_ROUNDS + 1):
        answer = await ask_with_tools(model, chat, messages, ctx)
        if not answer.calls:
            return answer.text, messages
        if number < MAX_ROUNDS:
            ctx.progress(0.0, f"calls {', '.join(call.name for call in answer.calls)}")
            messages = [*messages, answer.message, *await call_tools(answer, tools)]
    message = f"the model {model.name!r} still calls tools after {MAX_ROUNDS} rounds; an `agent` can have more"
    raise NodeFailure("BUDGET", message, details={"limit": "rounds"})
