"""Makes one streamed call of a model: streams its text, reports its usage, maps its errors.

A cancel closes the stream and its connection. The text that has arrived until then is in the node's
partial output.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import Runnable

from engine import tracing
from engine.chat_models.answer import AnswerBuilder, ModelAnswer
from engine.chat_models.base import ChatModel
from engine.chat_models.errors import failure_of
from engine.errors import NodeFailure
from engine.metrics import MODEL_CALL_SECONDS, MODEL_COST_USD, MODEL_TOKENS, bounded
from engine.sdk.node import NodeContext
from engine.states import LogLevel
from engine.types import JSON

Chat = Runnable[LanguageModelInput, Any]
SLICE_S = 0.01
"""Seconds of reading without a pause after which other tasks have their turn."""


async def ask(model: ChatModel, chat: Chat, messages: Sequence[BaseMessage], ctx: NodeContext) -> ModelAnswer:
    """Ask the model and return its complete answer.

    Args:
        model: The model.
        chat: Its LangChain model, with tools or a response format bound to it if needed.
        messages: The conversation.
        ctx: Receives the text and the thinking while they arrive, the finish reason and the usage.

    Raises:
        NodeFailure: The call failed, or the answer is not complete (see `check_answer`).
    """
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model.name}
    with tracing.span(f"chat {model.name}", "client", attributes):
        return await _ask(model, chat, messages, ctx)


async def _ask(model: ChatModel, chat: Chat, messages: Sequence[BaseMessage], ctx: NodeContext) -> ModelAnswer:
    """Ask the model; count the call, its duration and its tokens."""
    builder, began = AnswerBuilder(), time.perf_counter()
    code = "CANCELLED"
    try:
        try:
            await _receive(model, chat, messages, ctx, builder)
        except Exception as fault:
            _add_usage(model, _usage_of(fault, builder), ctx)
            raise failure_of(fault, model) from fault
        finally:
            _publish(builder.flush(), ctx)
        finished = builder.finish()
        if finished is not None and not builder.has_thinking:
            _publish(("", finished.thinking), ctx)
        answer = check_answer(model, finished, ctx)
        code = ""
        if (span := tracing.current_span()) is not None and answer.finish_reason:
            span.set_attribute("gen_ai.response.finish_reasons", [answer.finish_reason])
        _log_answer(model, answer, ctx, began)
        return answer
    except NodeFailure as failure:
        code = failure.code
        tracing.end_with(tracing.current_span(), code)
        ctx.log(LogLevel.WARNING, failure.message, model=model.name, code=code, seconds=_seconds_since(began))
        raise
    finally:
        MODEL_CALL_SECONDS.labels(bounded("model", model.name), code).observe(time.perf_counter() - began)


def _log_answer(model: ChatModel, answer: ModelAnswer, ctx: NodeContext, began: float) -> None:
    fields: dict[str, JSON] = {"model": model.name, "seconds": _seconds_since(began)}
    if answer.usage is not None:
        usage = model.usage(answer.usage)
        fields |= {"inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens}
    ctx.log(LogLevel.INFO, f"the model {model.name!r} answered", **fields)


def _seconds_since(began: float) -> float:
    return round(time.perf_counter() - began, 3)


def _add_usage(model: ChatModel, tokens: UsageMetadata | None, ctx: NodeContext) -> None:
    """Report the usage of one call to the node and to the metrics."""
    usage = model.usage(tokens)
    ctx.add_usage(usage)
    if (span := tracing.current_span()) is not None:
        span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
    name = bounded("model", model.name)
    MODEL_TOKENS.labels(name, "input").inc(usage.input_tokens)
    MODEL_TOKENS.labels(name, "output").inc(usage.output_tokens)
    if usage.cost_usd is not None:
        MODEL_COST_USD.labels(name).inc(usage.cost_usd)


async def _receive(
    model: ChatModel, chat: Chat, messages: Sequence[BaseMessage], ctx: NodeContext, builder: AnswerBuilder
) -> None:
    """Receive the whole stream, in which no pause may be longer than the model's limit."""
    now = asyncio.get_running_loop().time
    until = now() + SLICE_S
    stream = cast(AsyncGenerator[AIMessageChunk], chat.astream(list(messages)))
    async with asyncio.timeout(model.silence_s) as silence, aclosing(stream) as chunks:
        async for chunk in chunks:
            if model.silence_s is not None:
                silence.reschedule(now() + model.silence_s)
            _publish(builder.add(chunk), ctx)
            if now() > until:
                await asyncio.sleep(0)  # events that have arrived together need no wait between them
                until = now() + SLICE_S


def _publish(parts: tuple[str, str], ctx: NodeContext) -> None:
    text, thinking = parts
    if thinking:
        ctx.thinking(thinking)
    if text:
        ctx.text(text)


def _usage_of(fault: Exception, builder: AnswerBuilder) -> UsageMetadata | None:
    """Return the usage of a failed call, from the exception or from the chunks that arrived."""
    usage = getattr(getattr(fault, "completion", None), "usage", None)
    if usage is None:
        return builder.usage
    return UsageMetadata(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )


def check_answer(model: ChatModel, answer: ModelAnswer | None, ctx: NodeContext) -> ModelAnswer:
    """Report the usage and the finish reason of an answer, and return it if it is complete.

    Raises:
        NodeFailure: MODEL_STREAM if it is empty, was cut off or ended by an error; MODEL_FILTERED if
            it was refused; MODEL_OUTPUT if the token limit cut it and the node does not accept that.
    """
    if answer is None:
        raise NodeFailure("MODEL_STREAM", f"the model {model.name!r} sent an empty answer", retryable=True)
    _add_usage(model, answer.usage, ctx)
    if answer.usage is None:
        ctx.log(LogLevel.DEBUG, f"the model {model.name!r} does not report its tokens")
    ctx.finish_reason(answer.finish_reason)
    _check_end(model, answer)
    if answer.is_cut:
        if not model.accepts_cut:
            raise cut_failure(model)
        ctx.log(LogLevel.WARNING, f"the model {model.name!r} reached its token limit: the answer is cut")
    if not (answer.text.strip() or answer.calls):
        reason = "has only thinking and no text" if answer.thinking else "is empty"
        ctx.log(LogLevel.WARNING, f"the answer of the model {model.name!r} {reason}")
    return answer


def _check_end(model: ChatModel, answer: ModelAnswer) -> None:
    reason = answer.finish_reason
    if reason is None and model.has_finish_reason:
        raise NodeFailure("MODEL_STREAM", f"the answer of the model {model.name!r} was cut off", retryable=True)
    if answer.refusal:
        raise NodeFailure("MODEL_FILTERED", f"the model {model.name!r} refuses: {answer.refusal}"[:1000])
    if answer.is_filtered:
        message = f"the content filter of the model {model.name!r} ended its answer ({reason})"
        raise NodeFailure("MODEL_FILTERED", message[:1000])
    if answer.is_failed:
        message = f"an error of its endpoint ended the answer of the model {model.name!r} ({reason})"
        raise NodeFailure("MODEL_STREAM", message, retryable=True)


def cut_failure(model: ChatModel) -> NodeFailure:
    """Return the failure for an answer that the token limit has cut."""
    message = f"the answer of the model {model.name!r} was cut at its token limit: raise `max_tokens`"
    return NodeFailure("MODEL_OUTPUT", message)
