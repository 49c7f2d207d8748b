"""Puts the tool calls of a streamed answer together, and checks that their arguments are whole.

LangChain repairs arguments that break off. A call with repaired arguments would act on half a path
or half an amount, so they are parsed strictly here. Endpoints differ in the other parts: ids and
indexes may be missing or repeated.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from langchain_core.messages.tool import ToolCall, tool_call

from engine.chat_models.json_in_text import refuse_constant
from engine.types import JSON

CALL_PIECES = "call_pieces"
"""The attribute of a chunk with its pieces of calls: dictionaries with index, id, name and args."""
MAX_ARGUMENTS = 2 * 1024 * 1024
"""Characters of the arguments of all calls of an answer. Beyond it, none of them is whole."""
MAX_EXAMINED = 100
"""Parts of a call up to which it is examined whether another call begins."""


@dataclass(slots=True)
class _CallParts:
    """The parts of one call that have arrived."""

    id: str | None = None
    name: str = ""
    index: int | None = None
    arguments: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.arguments)

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are one whole object. Only a call of few parts is examined."""
        if len(self.arguments) > MAX_EXAMINED:
            return False
        last = next((part for part in reversed(self.arguments) if part.strip()), "")
        return last.rstrip().endswith("}") and parse_arguments(self.text) is not None

    def is_followed_by(self, name: str, arguments: str) -> bool:
        """Whether a part with this name begins another call, and is no part of this one.

        Endpoints repeat ids, indexes and names. But after one whole object there is only white space.
        """
        return bool(name) and self.is_complete and (name != self.name or arguments.lstrip().startswith("{"))


@dataclass(frozen=True, slots=True)
class RequestedCall:
    """A call that the model requests. `arguments` is None if they are no JSON object."""

    id: str
    name: str
    arguments: dict[str, JSON] | None

    @property
    def tool_call(self) -> ToolCall:
        """The call in the form of LangChain."""
        return tool_call(name=self.name, args=self.arguments or {}, id=self.id)


class CallAssembler:
    """The calls of one answer."""

    def __init__(self) -> None:
        self._length = 0
        self._calls: list[_CallParts] = []
        self._by_index: dict[int, _CallParts] = {}
        self._by_id: dict[str, _CallParts] = {}

    def add(self, chunks: Iterable[Any]) -> None:
        """Add the `tool_call_chunks` of one chunk of the answer."""
        for chunk in chunks:
            index, id_, name = chunk.get("index"), chunk.get("id") or None, chunk.get("name") or ""
            arguments = chunk.get("args") or ""
            call = self._find(index, id_, name)
            if call is None or call.is_followed_by(name, arguments):
                call = _CallParts(index=index if isinstance(index, int) else None)
                self._calls.append(call)
            call.id = call.id or id_
            if name != call.name:  # some endpoints repeat it in each chunk
                call.name += name
            self._length += len(arguments)
            if self._length <= MAX_ARGUMENTS:
                call.arguments.append(arguments)
            if isinstance(index, int):
                self._by_index[index] = call
            if id_ is not None:
                self._by_id[id_] = call

    def _find(self, index: Any, id_: str | None, name: str) -> _CallParts | None:
        """Return the call that a chunk continues, or None if it begins a new one."""
        if not isinstance(index, int):
            if id_ is not None:
                return self._by_id.get(id_)
            return self._calls[-1] if self._calls and not name else None
        call = self._by_index.get(index)
        if call is None or (id_ is not None and call.id is not None and id_ != call.id):
            return None
        return call

    def finish(self) -> Sequence[RequestedCall]:
        """Return the calls in the order of their indexes, or of their beginnings, each with an id of its own."""
        taken: set[str] = set()
        calls = []
        is_readable = self._length <= MAX_ARGUMENTS
        for parts in self._in_order():
            id_ = parts.id if parts.id and parts.id not in taken else new_call_id()
            taken.add(id_)
            arguments = parse_arguments(parts.text) if is_readable else None
            calls.append(RequestedCall(id_, parts.name, arguments))
        return calls

    def _in_order(self) -> list[_CallParts]:
        indexes = {call.index for call in self._calls if call.index is not None}
        if len(indexes) < len(self._calls):
            return self._calls
        return sorted(self._calls, key=lambda call: call.index or 0)


def new_call_id() -> str:
    """Return an id for a call without one: nine letters and digits, which every provider accepts."""
    return f"c{token_hex(4)}"


def parse_arguments(text: str) -> dict[str, JSON] | None:
    """Parse the arguments of a call strictly. No text means no arguments; None: no JSON object.

    A whole number beyond 64 bits stays what it is, so that the call can be refused because of it.
    Half a character (a lone surrogate) is no text: the conversation could not be sent any more.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(text, parse_constant=refuse_constant)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # a UnicodeEncodeError is a ValueError
        return None
    return value if isinstance(value, dict) else None
