"""What nodes that ask a model have in common: which one, what it is told, and how long it may take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, Self

import orjson
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import AliasChoices, Field, TypeAdapter, ValidationError, model_validator

from engine.chat_models.base import ChatModel, Sampling
from engine.chat_models.catalog import Models
from engine.errors import NodeFailure
from engine.sdk.node import NodeConfig, NodeContext
from engine.types import JSON

TEMPLATE: dict[str, Any] = {"format": "template"}
ROLES: dict[str, type[BaseMessage]] = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}


class Message(NodeConfig):
    role: Literal["system", "user", "assistant"] = Field(title="Who", description="Who says it.", examples=["user"])
    content: str | list[dict[str, Any]] = Field(
        title="What",
        description="Text, or a list of content blocks of the provider, such as an image.",
        examples=["{{ input.question }}"],
        json_schema_extra=TEMPLATE,
    )


class Prompted(NodeConfig):
    model: str = Field(
        min_length=1,
        max_length=100,
        title="ChatModel",
        description="Its name in the catalog. `treadle/echo` is built in and needs no key.",
        examples=["treadle/echo"],
        json_schema_extra={"format": "model-name"},
    )
    prompt: JSON = Field(
        None,
        title="Prompt",
        description="What the user says. A value that is no text is given as JSON.",
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
        description="What the model is told before all else.",
        examples=["You are a friendly support agent. Answer in the customer's language."],
        json_schema_extra=TEMPLATE,
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=2,
        title="Temperature",
        description="0: always alike; unset: as its provider likes.",
        examples=[0],
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        validation_alias=AliasChoices("max_tokens", "maxTokens"),
        title="Longest answer (tokens)",
        description="Where an answer is cut; unset: as its provider likes.",
        examples=[500],
    )
    timeout_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        validation_alias=AliasChoices("timeoutS", "timeout_s"),
        title="Time limit (s)",
        description="For the whole of it. How long a model may say nothing is set in the catalog.",
        examples=[60],
    )

    @model_validator(mode="after")
    def _has_something_to_say(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either `prompt` or `messages`")
        if self.messages == []:
            raise ValueError("`messages` is empty")
        return self

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.max_tokens)


def rendered(config: Prompted, ctx: NodeContext) -> list[BaseMessage]:
    """The conversation as the model is given it, noted as the node's input. Raises NodeFailure(TEMPLATE or CONFIG)."""
    said: list[dict[str, JSON]] = []
    if config.system is not None:
        said.append({"role": "system", "content": _as_text(ctx.render(config.system))})
    if config.messages is None:
        said.append({"role": "user", "content": _as_text(ctx.render(config.prompt))})
    elif isinstance(config.messages, str):
        said += _conversation(ctx.render(config.messages))
    else:
        said += _conversation(ctx.render([message.model_dump() for message in config.messages]))
    ctx.note_input({"model": config.model, "messages": said})
    return [ROLES[str(message["role"])](content=message["content"]) for message in said]


def _conversation(value: JSON) -> list[dict[str, JSON]]:
    """A rendered list; a content that was one expression may have become anything."""
    try:
        texts = [{**one, "content": _as_text(one["content"])} if _has_value(one) else one for one in value]
        return [message.model_dump() for message in TypeAdapter(list[Message]).validate_python(texts)]
    except (ValidationError, TypeError) as wrong:
        error = wrong.errors(include_url=False)[0] if isinstance(wrong, ValidationError) else None
        where = ".".join(str(part) for part in error["loc"]) if error else ""
        told = f"`messages` is no list of {{role, content}}: {where or 'it'}: {error['msg'] if error else 'is no list'}"
        raise NodeFailure("CONFIG", told) from wrong


def _has_value(message: JSON) -> bool:
    return isinstance(message, dict) and not isinstance(message.get("content", ""), str | list)


def _as_text(value: JSON) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


async def opened(config: Prompted, ctx: NodeContext) -> ChatModel:
    """Raises NodeFailure."""
    models: Models | None = ctx.resources.get("models")
    if models is None:
        raise NodeFailure("MODEL_UNAVAILABLE", "this process has no models", retryable=True)
    model = await models.open(config.model, ctx.project_id, config.sampling)
    if model.hidden is not None:
        ctx.hide([model.hidden])
    return model


@asynccontextmanager
async def within(config: Prompted) -> AsyncIterator[None]:
    """Raises NodeFailure(MODEL_TIMEOUT) when the node's own time is over; everything inside is cancelled."""
    limit = asyncio.timeout(config.timeout_s)
    try:
        async with limit:
            yield
    except TimeoutError as late:
        if not limit.expired():
            raise
        told = f"the model {config.model!r} was not done within {config.timeout_s:g} s"
        raise NodeFailure("MODEL_TIMEOUT", told, retryable=True) from late
