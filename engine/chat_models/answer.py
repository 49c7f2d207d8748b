"""The answer of a model, put together from the chunks of its stream.

Text, thinking and tool calls are kept apart. Nothing is stored here.
"""

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.ai import UsageMetadata

from engine.chat_models.thinking import ThinkingSplitter, split_unopened, thinking_of
from engine.chat_models.tool_call_parts import CALL_PIECES, CallAssembler, RequestedCall

_CUT = frozenset(
    {"length", "max_tokens", "max_output_tokens", "incomplete", "model_context_window_exceeded", "model_length"}
)
"""Finish reasons of an answer that the token limit has cut, in lower case."""
_FILTERED = frozenset(
    {"safety", "recitation", "blocklist", "prohibited_content", "spii", "language", "guardrail_intervened"}
)
"""Finish reasons of an answer that was withheld, in addition to those that say `filter` or `refusal`."""
USAGE_SO_FAR = "usage_so_far"
"""The attribute of a chunk with the usage of the whole answer so far.

It replaces that of the chunks before. Some endpoints report it with each chunk; LangChain would add
the reports up.
"""
_MERGED_AT = 64
"""Chunks that are merged together. Merging them one by one would copy a long answer each time."""


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A complete answer.

    `message` is the answer as the next request of the conversation repeats it: without thinking
    that was text, and with an id for every call. `finish_reason` is as the endpoint wrote it.
    """

    text: str
    thinking: str
    calls: tuple[RequestedCall, ...]
    finish_reason: str | None
    refusal: str | None
    usage: UsageMetadata | None
    message: AIMessage

    @property
    def is_cut(self) -> bool:
        """Whether the answer was cut at the token limit."""
        return (self.finish_reason or "").lower() in _CUT

    @property
    def is_filtered(self) -> bool:
        """Whether a content filter ended the answer."""
        reason = (self.finish_reason or "").lower()
        return "filter" in reason or "refusal" in reason or reason in _FILTERED

    @property
    def is_failed(self) -> bool:
        """Whether the endpoint ended the answer because of an error of its own."""
        return (self.finish_reason or "").lower() in ("error", "failed")


class AnswerBuilder:
    """Collects the chunks of an answer as they arrive."""

    def __init__(self) -> None:
        self._merged: AIMessageChunk | None = None
        self._unmerged: list[AIMessageChunk] = []
        self._last: AIMessageChunk | None = None
        """The last chunk with more than text."""
        self._splitter, self._calls = ThinkingSplitter(), CallAssembler()
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._finish_reason: str | None = None
        self._usage_so_far: UsageMetadata | None = None

    def add(self, chunk: AIMessageChunk) -> tuple[str, str]:
        """Add a chunk. Return the parts of the text and of the thinking that it completes."""
        if self._last is not None and _adds_only_text(chunk, self._last):
            return self._keep(*self._splitter.push(str(chunk.content)))
        self._last = chunk
        self._calls.add(getattr(chunk, CALL_PIECES, None) or chunk.tool_call_chunks)
        self._unmerged.append(_rest_of(chunk))
        if len(self._unmerged) >= _MERGED_AT:
            self._merge()
        self._finish_reason = _finish_reason(chunk) or self._finish_reason
        self._usage_so_far = getattr(chunk, USAGE_SO_FAR, None) or self._usage_so_far
        text, thinking = self._splitter.push(str(chunk.text))
        return self._keep(text, thinking_of(chunk) + thinking)

    def flush(self) -> tuple[str, str]:
        """Return the rest of the text and of the thinking at the end of the stream."""
        return self._keep(*self._splitter.flush())

    def _keep(self, text: str, thinking: str) -> tuple[str, str]:
        self._text.append(text)
        self._thinking.append(thinking)
        return text, thinking

    def _merge(self) -> None:
        if self._unmerged:
            first, *others = [*([] if self._merged is None else [self._merged]), *self._unmerged]
            self._merged, self._unmerged = first + others if others else first, []

    @property
    def usage(self) -> UsageMetadata | None:
        """The usage that has been reported so far."""
        self._merge()
        return self._usage_so_far or (None if self._merged is None else self._merged.usage_metadata)

    @property
    def has_thinking(self) -> bool:
        """Whether thinking has been recognised in the stream."""
        return any(part.strip() for part in self._thinking)

    def finish(self) -> ModelAnswer | None:
        """Return the answer; None if no chunk has arrived."""
        self._merge()
        if self._merged is None:
            return None
        text, thinking = "".join(self._text), "".join(self._thinking)
        if not self.has_thinking:
            text, thinking = split_unopened(text)
        calls = tuple(self._calls.finish())
        return ModelAnswer(
            text,
            thinking.strip(),
            calls,
            self._finish_reason,
            _refusal(self._merged),
            self.usage,
            _message(self._merged, text, calls),
        )


def _adds_only_text(chunk: AIMessageChunk, last: AIMessageChunk) -> bool:
    """Return whether a chunk has nothing that the chunk `last` does not have, except its text."""
    return (
        isinstance(chunk.content, str)
        and not (chunk.model_extra or chunk.additional_kwargs or chunk.usage_metadata or chunk.chunk_position)
        and not (chunk.tool_call_chunks or chunk.tool_calls or chunk.invalid_tool_calls)
        and chunk.id == last.id
        and chunk.response_metadata == last.response_metadata
    )


def _rest_of(chunk: AIMessageChunk) -> AIMessageChunk:
    """Return a chunk without its text and its calls, which are collected apart.

    LangChain parses the calls at every merge, and repairs them, which takes quadratic time.
    """
    rest: dict[str, Any] = {"tool_call_chunks": [], "tool_calls": [], "invalid_tool_calls": []}
    if isinstance(chunk.content, str):
        rest["content"] = ""
    return chunk.model_copy(update=rest)


def _message(merged: AIMessageChunk, text: str, calls: tuple[RequestedCall, ...]) -> AIMessage:
    """Return the message to repeat. A list of blocks stays, since some providers require it."""
    message = message_chunk_to_message(merged)
    assert isinstance(message, AIMessage)
    changes: dict[str, Any] = {
        "tool_calls": [call.tool_call for call in calls if call.arguments is not None],
        "invalid_tool_calls": [],
    }
    if isinstance(merged.content, str):
        changes["content"] = text
    return message.model_copy(update=changes)


def _finish_reason(chunk: AIMessageChunk) -> str | None:
    """Return why the model stopped, from the field that its provider uses."""
    data = chunk.response_metadata
    details = data.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    for name in ("finish_reason", "stop_reason", "done_reason", "status"):
        reason = reason or data.get(name)
    return None if reason is None else str(reason)


def _refusal(message: AIMessageChunk) -> str | None:
    """Return the words in which the model refuses, from its field or its content blocks."""
    refusal = message.additional_kwargs.get("refusal")
    blocks = message.content if isinstance(message.content, list) else []
    parts = [str(block.get("refusal") or "") for block in blocks if isinstance(block, dict)]
    return str(refusal) if refusal else "".join(parts) or None
