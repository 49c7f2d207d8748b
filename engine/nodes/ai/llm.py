"""`llm`: asks a model once. Text streams as it comes; with a schema the output is a value that fits it."""

from typing import Annotated, Any, ClassVar

from langchain_core.messages import BaseMessage
from pydantic import AfterValidator, AliasChoices, Field

from engine.chat_models.base import ChatModel
from engine.chat_models.calls import ask
from engine.chat_models.structured_output import structured
from engine.chat_models.tool_calling import BoundTool, answered, ask_with_tools, bind_tools
from engine.errors import NodeFailure
from engine.nodes.ai.prompting import Prompted, opened, rendered, within
from engine.nodes.tool import tools_of
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.types import JSON
from engine.values.json_schema import check_schema

MAX_ROUNDS = 5
"""How often the model may call tools; an `agent` may do it more often."""


def _is_object_schema(schema: JSON) -> JSON:
    if schema is None:
        return None
    if wrong := check_schema(schema, "responseSchema"):
        raise ValueError(f"is no JSON Schema: {wrong[0].message} (at {wrong[0].field})")
    if schema.get("type") != "object":
        raise ValueError("has to be of type object: most providers take no other")
    return schema


class LlmConfig(Prompted):
    response_schema: Annotated[dict[str, Any] | None, AfterValidator(_is_object_schema)] = Field(
        None,
        validation_alias=AliasChoices("responseSchema", "response_schema"),
        title="Structured answer",
        description="JSON Schema of an object. The output is then a value that fits it, instead of text.",
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
    name: ClassVar[str] = "llm"
    title: ClassVar[str] = "Language model"
    description: ClassVar[str] = "Asks a language model, for text or for data of a given shape."
    category: ClassVar[str] = "ai"
    icon: ClassVar[str] = "sparkles"
    Config: ClassVar[type[NodeConfig]] = LlmConfig
    output_schema: ClassVar[dict[str, Any]] = {
        "description": "The text of the answer; with `responseSchema` the value that fits it, nothing around it."
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
        messages = rendered(config, ctx)
        async with within(config):
            model = await opened(config, ctx)
            lent = await bind_tools(config.tools, tools_of(ctx), ctx) if config.tools else []
            text, messages = await _text(model, messages, lent, ctx) if lent else ("", messages)
            if config.response_schema is not None:
                return Output(await structured(model, config.response_schema, messages, ctx, lent))
            return Output(text if lent else str((await ask(model, model.chat, messages, ctx)).text))


async def _text(
    model: ChatModel, messages: list[BaseMessage], lent: list[BoundTool], ctx: NodeContext
) -> tuple[str, list[BaseMessage]]:
    """The answer, and the conversation with what the tools said, the answer left out."""
    chat = model.chat.bind_tools(lent)
    for number in range(MAX_ROUNDS + 1):
        answer = await ask_with_tools(model, chat, messages, ctx)
        if not answer.tool_calls:
            return str(answer.text), messages
        if number < MAX_ROUNDS:
            ctx.progress(0.0, f"calls {', '.join(call['name'] for call in answer.tool_calls)}")
            messages = [*messages, answer, *await answered(answer, lent)]
    told = f"the model {model.name!r} still calls tools after {MAX_ROUNDS} rounds; an `agent` may have more"
    raise NodeFailure("BUDGET", told, details={"limit": "rounds"})
