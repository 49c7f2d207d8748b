"""Makes one streamed call of a model: streams its text, reports its usage, maps its errors.

A cancel closes the stream and its connection. The text that has arrived until then is in the node's
partial output.
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
"""Chunks that are merged together. Merging them one by one would copy a long answer each time."""


class ModelAnswer:
    """The chunks of an answer that have arrived."""

    def __init__(self) -> None:
        self._merged: AIMessageChunk | None = None
        self._unmerged: list[AIMessageChunk] = []

    def add(self, chunk: AIMessageChunk) -> None:
        self._unmerged.append(chunk)
        if len(self._unmerged) >= _MERGED_AT:
            self._merge()

    def _merge(self) -> None:
        if self._unmerged:
            first, *others = [*([] if self._merged is None else [self._merged]), *self._unmerged]
            self._merged, self._unmerged = first + others if others else first, []

    @property
    def message(self) -> AIMessageChunk | None:
        """All chunks as one message; None before the first."""
        self._merge()
        return self._merged


async def ask(model: ChatModel, chat: Chat, messages: Sequence[BaseMessage], ctx: NodeContext) -> AIMessageChunk:
    """Ask the model and return its complete answer.

    Args:
        model: The model.
        chat: Its LangChain model, with tools or a response format bound to it if needed.
        messages: The conversation.
        ctx: Receives the text while it arrives, and the usage.

    Raises:
        NodeFailure: The call failed, or the answer is not complete (see `check_answer`).
    """
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
    return check_answer(model, answer.message, ctx)


def _usage_of(fault: Exception, message: AIMessageChunk | None) -> UsageMetadata | None:
    """Return the usage of a failed call, from the exception or from the chunks that arrived."""
    usage = getattr(getattr(fault, "completion", None), "usage", None)
    if usage is None:
        return None if message is None else message.usage_metadata
    return UsageMetadata(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )


def check_answer(model: ChatModel, message: AIMessageChunk | None, ctx: NodeContext) -> AIMessageChunk:
    """Report the usage of an answer and return it if it is complete.

    Raises:
        NodeFailure: MODEL_STREAM if it is empty or was cut off, MODEL_FILTERED if it was refused.
    """
    if message is None:
        raise NodeFailure("MODEL_STREAM", f"the model {model.name!r} sent an empty answer", retryable=True)
    ctx.add_usage(model.usage(message.usage_metadata))
    if message.usage_metadata is None:
        ctx.log(LogLevel.DEBUG, f"the model {model.name!r} does not report its tokens")
    reason = _finish_reason(message)
    if reason is None and model.has_finish_reason:
        raise NodeFailure("MODEL_STREAM", f"the answer of the model {model.name!r} was cut off", retryable=True)
    if refusal := message.additional_kwargs.get("refusal"):
        raise NodeFailure("MODEL_FILTERED", f"the model {model.name!r} refuses: {refusal}"[:1000])
    if reason is not None and ("filter" in reason or "refusal" in reason or reason == "safety"):
        raise NodeFailure(
            "MODEL_FILTERED", f"the content filter of the model {model.name!r} ended its answer ({reason})"
        )
    if is_cut(message):
        ctx.log(LogLevel.WARNING, f"the model {model.name!r} reached its token limit: the answer is cut")
    return message


def _finish_reason(message: AIMessageChunk) -> str | None:
    """Return why the model stopped, in lower case, from the field that its provider uses."""
    data = message.response_metadata
    reason = data.get("finish_reason") or data.get("stop_reason") or data.get("done_reason") or data.get("status")
    return None if reason is None else str(reason).lower()


def is_cut(message: AIMessageChunk) -> bool:
    """Return whether the answer was cut at the token limit."""
    return _finish_reason(message) in ("length", "max_tokens", "incomplete", "model_context_window_exceeded")
