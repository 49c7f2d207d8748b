"""The parts that `llm` and `agent` share: config, rendered messages, model and time limit."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal, NamedTuple, Self

import orjson
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import AliasChoices, Field, TypeAdapter, ValidationError, model_validator

from engine.chat_models.base import ChatModel, Sampling
from engine.chat_models.catalog import Models
from engine.errors import NodeFailure
from engine.expressions.analysis import THREAD
from engine.invalid_values import sentences
from engine.nodes.ai.memory import Memory, as_chat, as_view, load_thread, names_thread
from engine.sdk.node import NodeConfig, NodeContext
from engine.types import JSON

_NO_LIST = "it gives no list"
TEMPLATE: dict[str, Any] = {"format": "template", "thread": True}
ROLES: dict[str, type[BaseMessage]] = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}


class Message(NodeConfig):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"] = Field(
        title="Role", description="The author of the message.", examples=["user"]
    )
    content: str | list[dict[str, Any]] = Field(
        title="Content",
        description="Text, or a list of content blocks of the provider, such as an image.",
        examples=["{{ input.question }}"],
        json_schema_extra=TEMPLATE,
    )


class PromptConfig(NodeConfig):
    """The fields of every node type that asks a model.

    Exactly one of `prompt` and `messages` is set.
    """

    model: str = Field(
        min_length=1,
        max_length=100,
        title="Model",
        description="The name in the catalog. `treadle/echo` is built in and needs no key.",
        examples=["treadle/echo"],
        json_schema_extra={"format": "model-name"},
    )
    prompt: JSON = Field(
        None,
        title="Prompt",
        description="The message of the user. A value that is no string is sent as JSON.",
        examples=["Summarise this: {{ input.text }}"],
        json_schema_extra=TEMPLATE,
    )
    messages: list[Message] | str | None = Field(
        None,
        title="Messages",
        description="Instead of a prompt: a whole conversation, or a template that gives the list.",
        examples=[[{"role": "user", "content": "{{ input.question }}"}], "{{ input.messages }}"],
        json_schema_extra=TEMPLATE,
    )
    system: str | None = Field(
        None,
        title="Instructions",
        description="The system message.",
        examples=["You are a friendly support agent. Answer in the customer's language."],
        json_schema_extra=TEMPLATE,
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=2,
        title="Temperature",
        description="0 gives the most uniform answers. Without it, the provider's default applies.",
        examples=[0],
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        validation_alias=AliasChoices("max_tokens", "maxTokens"),
        title="Longest answer (tokens)",
        description="The answer is cut at this length. Without it, the provider's default applies.",
        examples=[500],
    )
    on_truncated: Literal["accept", "fail"] = Field(
        "accept",
        validation_alias=AliasChoices("onTruncated", "on_truncated"),
        title="When the answer is cut",
        description="`accept`: an answer that the token limit has cut is the output, with a warning in the log and "
        "`finishReason`. `fail`: the node fails with the code MODEL_OUTPUT.",
        examples=["fail"],
    )
    memory: Memory | None = Field(
        None,
        title="Memory",
        description="The conversation of the thread, if the run has one (`options.thread`): its last messages are sent "
        "after the instructions, and the new ones are appended to it.",
        examples=[{"maxTokens": 4_000}],
    )
    timeout_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        validation_alias=AliasChoices("timeoutS", "timeout_s"),
        title="Time limit (s)",
        description="Seconds for the whole node. How long a model may send nothing is set in the catalog.",
        examples=[60],
    )

    @model_validator(mode="after")
    def _check_messages(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either `prompt` or `messages`")
        if self.messages == []:
            raise ValueError("`messages` is empty")
        return self

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.max_tokens)


class Conversation(NamedTuple):
    """The messages for the model: all of them, and those that are not from the thread."""

    all: list[BaseMessage]
    own: list[BaseMessage]


async def open_conversation(config: PromptConfig, ctx: NodeContext) -> Conversation:
    """Render the conversation for the model and record it as the input of the node.

    The messages of the thread follow the leading system messages.

    Raises:
        NodeFailure: TEMPLATE or CONFIG.
    """
    is_named = names_thread(_templates(config))
    thread = await load_thread(config.memory, ctx) if is_named or config.memory is not None else []
    messages = _render_messages(config, ctx, {THREAD: as_view(thread, ctx)} if is_named else {})
    own = [ROLES[str(message["role"])](content=message["content"]) for message in messages]
    if config.memory is None or not thread:
        ctx.note_input({"model": config.model, "messages": messages})
        return Conversation(own, own)
    first = next((place for place, message in enumerate(messages) if message["role"] != "system"), len(messages))
    past: list[dict[str, JSON]] = [{"role": message.role, "content": message.content} for message in thread]
    ctx.note_input({"model": config.model, "messages": [*messages[:first], *past, *messages[first:]]})
    return Conversation([*own[:first], *as_chat(thread), *own[first:]], own)


def _templates(config: PromptConfig) -> list[JSON]:
    messages = config.messages
    contents: JSON = messages if isinstance(messages, str) else [message.content for message in messages or ()]
    return [config.system, config.prompt, contents]


def _render_messages(config: PromptConfig, ctx: NodeContext, names: Mapping[str, JSON]) -> list[dict[str, JSON]]:
    messages: list[dict[str, JSON]] = []
    if config.system is not None:
        messages.append({"role": "system", "content": _as_text(ctx.render(config.system, names))})
    if config.messages is None:
        messages.append({"role": "user", "content": _as_text(ctx.render(config.prompt, names))})
    elif isinstance(config.messages, str):
        messages += _conversation(ctx.render(config.messages, names))
    else:
        messages += _conversation(ctx.render([message.model_dump() for message in config.messages], names))
    return messages


def _conversation(value: JSON) -> list[dict[str, JSON]]:
    """Validate rendered messages. A content that was a single expression may be any JSON value."""
    try:
        texts = [{**item, "content": _as_text(item["content"])} if _has_value(item) else item for item in value]
        return [message.model_dump() for message in TypeAdapter(list[Message]).validate_python(texts)]
    except (ValidationError, TypeError) as error:
        reason = sentences(error) if isinstance(error, ValidationError) else _NO_LIST
        raise NodeFailure("CONFIG", f"`messages` must give a list of {{role, content}}: {reason}") from error


def _has_value(message: JSON) -> bool:
    return isinstance(message, dict) and not isinstance(message.get("content", ""), str | list)


def _as_text(value: JSON) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


async def open_model(config: PromptConfig, ctx: NodeContext) -> ChatModel:
    """Open the model of the config and mask its key in the output of the node.

    Raises NodeFailure.
    """
    models: Models | None = ctx.resources.get("models")
    if models is None:
        raise NodeFailure("MODEL_UNAVAILABLE", "this process has no model catalog", retryable=True)
    model = await models.open(config.model, ctx.project_id, config.sampling)
    if model.hidden is not None:
        ctx.hide([model.hidden])
    return replace(model, accepts_cut=config.on_truncated == "accept")


@asynccontextmanager
async def time_limit(config: PromptConfig) -> AsyncIterator[None]:
    """Cancel the block after `timeoutS` seconds and raise NodeFailure(MODEL_TIMEOUT)."""
    limit = asyncio.timeout(config.timeout_s)
    try:
        async with limit:
            yield
    except TimeoutError as timeout:
        if not limit.expired():
            raise
        message = f"the model {config.model!r} did not finish within {config.timeout_s:g} s"
        raise NodeFailure("MODEL_TIMEOUT", message, retryable=True) from timeout
