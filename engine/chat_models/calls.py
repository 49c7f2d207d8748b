"""One call to a model: its text is shown as it comes, what it took is told, and whatever goes wrong is a NodeFailure.

A cancel closes the stream, and with it the connection; what had been said until then has been told.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import Runnable

from engine.chat_models.base import ChatModel
from engine.chat_models.errors import failure_of
from engine.errors import NodeFailure
from engine.sdk.node import NodeContext
from engine.states import LogLevel

Chat = Runnable[LanguageModelInput, Any]
_MERGED_AT = 64
"""Chunks that are put together at once: one by one, a long answer is copied again and again."""


class ModelAnswer:
    """What a model has said so far."""

    def __init__(self) -> None:
        self._whole: AIMessageChunk | None = None
        self._rest: list[AIMessageChunk] = []

    def add(self, chunk: AIMessageChunk) -> None:
        self._rest.append(chunk)
        if len(self._rest) >= _MERGED_AT:
            self._merge()

    def _merge(self) -> None:
        if self._rest:
            first, *others = [*([] if self._whole is None else [self._whole]), *self._rest]
            self._whole, self._rest = first + others if others else first, []

    @property
    def message(self) -> AIMessageChunk | None:
        self._merge()
        return self._whole


async def ask(model: ChatModel, chat: Chat, messages: Sequence[BaseMessage], ctx: NodeContext) -> AIMessageChunk:
    """The whole answer, once it is there. `chat` is the model's, perhaps with tools bound to it. Raises NodeFailure."""
    answer = ModelAnswer()
    now = asyncio.get_running_loop().time
    try:
        stream = cast(AsyncGenerator[AIMessageChunk], chat.astream(list(messages)))
        async with asyncio.timeout(model.silence_s) as silence, aclosing(stream) as chunks:
            async for chunk in chunks:
                if model.silence_s is not None:
                    silence.reschedule(now() + model.silence_s)
                answer.add(chunk)
                ctx.text(str(chunk.text))
    except Exception as fault:
        ctx.add_usage(model.usage(_usage_of(fault, answer.message)))
        raise failure_of(fault, model) from fault
    return checked(model, answer.message, ctx)


def _usage_of(fault: Exception, message: AIMessageChunk | None) -> UsageMetadata | None:
    """What a call took that failed at its very end."""
    usage = getattr(getattr(fault, "completion", None), "usage", None)
    if usage is None:
        return None if message is None else message.usage_metadata
    return UsageMetadata(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )


def checked(model: ChatModel, message: AIMessageChunk | None, ctx: NodeContext) -> AIMessageChunk:
    """The answer, if it is a whole one. Raises NodeFailure."""
    if message is None:
        raise NodeFailure("MODEL_STREAM", f"the model {model.name!r} answered nothing at all", retryable=True)
    ctx.add_usage(model.usage(message.usage_metadata))
    if message.usage_metadata is None:
        ctx.log(LogLevel.DEBUG, f"the model {model.name!r} does not tell how many tokens it took")
    reason = _end_of(message)
    if reason is None and model.tells_its_end:
        raise NodeFailure("MODEL_STREAM", f"the answer of the model {model.name!r} was cut off", retryable=True)
    if refusal := message.additional_kwargs.get("refusal"):
        raise NodeFailure("MODEL_FILTERED", f"the model {model.name!r} refuses: {refusal}"[:1000])
    if reason is not None and ("filter" in reason or "refusal" in reason or reason == "safety"):
        raise NodeFailure(
            "MODEL_FILTERED", f"the content filter of the model {model.name!r} ended its answer ({reason})"
        )
    if is_cut(message):
        ctx.log(LogLevel.WARNING, f"the model {model.name!r} came to the limit of its tokens: the answer is cut")
    return message


def _end_of(message: AIMessageChunk) -> str | None:
    """Why the model stopped, in lower case, by whichever name its provider has for that."""
    told = message.response_metadata
    reason = told.get("finish_reason") or told.get("stop_reason") or told.get("done_reason") or told.get("status")
    return None if reason is None else str(reason).lower()


def is_cut(message: AIMessageChunk) -> bool:
    """The model had more to say than it was allowed to."""
    return _end_of(message) in ("length", "max_tokens", "incomplete", "model_context_window_exceeded")
