"""Separates the thinking of a model from its answer.

Models send their thinking in blocks or fields of its own, or as text between `<think>` and
`</think>` before the answer. The tags may be cut at any place by the stream.
"""

import re
from typing import Any

from langchain_core.messages import BaseMessage

OPEN, CLOSE = "<think>", "</think>"
MAX_UNDECIDED = 256
"""Characters, of which the last ones may begin a tag, that are held back at the start."""
MAX_BLOCKS = 8
"""Blocks of thinking before an answer."""
_CLOSE_LINE = re.compile(r"(?:\A|\n)[ \t]*</think>[ \t]*(?:\n|\Z)")


class ThinkingSplitter:
    """Splits streamed text into the answer and the thinking before it.

    Tags after the first other character belong to the answer, which may be about such tags.
    """

    def __init__(self) -> None:
        self._held = ""
        self._is_thinking = self._is_answering = False
        self._blocks = 0

    def push(self, piece: str) -> tuple[str, str]:
        """Return the parts of the answer and of the thinking that are certain after this piece."""
        if self._is_answering:
            return piece, ""
        self._held += piece
        text, thinking, before = "", "", ""
        while self._held and self._held != before and not self._is_answering:
            before = self._held
            if self._is_thinking:
                thinking += self._take_thinking()
            else:
                text += self._take_start()
        return text, thinking

    def flush(self) -> tuple[str, str]:
        """Return what was held back. The answer ends here."""
        held, self._held = self._held, ""
        if self._is_thinking:
            return "", held
        return (held.lstrip() if self._blocks else held), ""

    def _take_thinking(self) -> str:
        """Take the thinking up to the end tag, or up to what may be the beginning of one."""
        end = self._held.find(CLOSE)
        if end >= 0:
            thinking, self._held, self._is_thinking = self._held[:end], self._held[end + len(CLOSE) :], False
            return thinking
        kept = next((size for size in range(len(CLOSE) - 1, 0, -1) if self._held.endswith(CLOSE[:size])), 0)
        thinking, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return thinking

    def _take_start(self) -> str:
        """Decide whether thinking begins. Return the first text of the answer if it does not."""
        start = self._held.lstrip()
        if start.startswith(OPEN) and self._blocks < MAX_BLOCKS:
            self._held, self._is_thinking = start[len(OPEN) :], True
            self._blocks += 1
            return ""
        if OPEN.startswith(start) and len(self._held) <= MAX_UNDECIDED:
            return ""
        text, self._held, self._is_answering = start if self._blocks else self._held, "", True
        return text


def split_unopened(text: str) -> tuple[str, str]:
    """Split (answer, thinking) where a chat template contains the first tag and the model does not.

    Then the end tag is alone on its line. Any other text is returned as the answer.
    """
    end = _CLOSE_LINE.search(text)
    if end is None or OPEN in text[: end.start()]:
        return text, ""
    return text[end.end() :].lstrip(), text[: end.start()]


def thinking_of(chunk: BaseMessage) -> str:
    """Return the thinking in the fields and content blocks of a chunk, whatever the provider."""
    field = chunk.additional_kwargs.get("reasoning_content")
    blocks = chunk.content if isinstance(chunk.content, list) else []
    parts = [field if isinstance(field, str) else ""]
    parts += [_block_thinking(block) for block in blocks if isinstance(block, dict)]
    return "".join(parts)


def _block_thinking(block: dict[str, Any]) -> str:
    """Return the thinking of one content block, in the forms of Anthropic, Mistral and OpenAI."""
    if block.get("type") not in ("thinking", "reasoning", "reasoning_content"):
        return ""
    for name in ("thinking", "reasoning", "reasoning_content", "summary", "text"):
        if value := block.get(name):
            return _joined(value)
    return ""


def _joined(value: Any) -> str:
    if isinstance(value, list):
        return "".join(_joined(item) for item in value)
    if isinstance(value, dict):
        return _joined(value.get("text") or "")
    return value if isinstance(value, str) else ""
