"""What may leave a node or enter a run: JSON that Postgres and every client can hold. Checked before it goes anywhere.

Exact types only: a tuple, a set or a number of another library would come back from storage as something else.
"""

import math
from collections.abc import Iterator

from engine.events import JSON
from engine.nodes.base import NodeFailure

MAX_DEPTH = 100
MAX_SIZE = 8 * 1024 * 1024
"""Characters of text, with 4 for every other value: about the size as JSON."""
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_Entry = tuple[JSON, str | int, "_Place | None", int]


class NotStorable(NodeFailure):
    """`path` leads to the value, like `.rows[3].price`; it is empty for the value itself."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__("OUTPUT", f"the value at {path} {what}" if path else f"the value {what}")
        self.path = path


class _Place:
    """A container and how it was reached, so that a path is only put together for an error."""

    __slots__ = ("key", "parent")

    def __init__(self, key: str | int, parent: "_Place | None") -> None:
        self.key, self.parent = key, parent


def check_storable(value: JSON) -> None:
    """Raises NotStorable at the first value that cannot be stored as what it is."""
    size = 0
    stack: list[_Entry] = [(value, "", None, 0)]
    while stack:
        item, key, parent, depth = stack.pop()
        kind = type(item)
        if kind is str:
            size += len(item)
            if wrong := _text(item):
                raise NotStorable(_path(key, parent), wrong)
        elif kind is dict or kind is list:
            if depth >= MAX_DEPTH:
                raise NotStorable(_path(key, parent), f"is nested more than {MAX_DEPTH} levels deep")
            place = _Place(key, parent)
            size += _push(stack, item, place, depth + 1)
        elif wrong := _scalar(item, kind):
            raise NotStorable(_path(key, parent), wrong)
        else:
            size += 4
        if size > MAX_SIZE:
            raise NotStorable("", f"is larger than {MAX_SIZE // 1024 // 1024} MiB")


def _push(stack: list[_Entry], container: JSON, place: _Place, depth: int) -> int:
    """Puts the members on the stack; returns the size of the keys."""
    if type(container) is list:
        stack.extend([(item, index, place, depth) for index, item in enumerate(container)][::-1])
        return 0
    size = 0
    for key in container:
        if type(key) is not str:
            raise NotStorable(_path("", place), f"has the key {_short(key)}, which is no text")
        if wrong := _text(key):
            raise NotStorable(_path("", place), f"has a key that {wrong}")
        size += len(key)
    stack.extend([(item, key, place, depth) for key, item in container.items()][::-1])
    return size


def _scalar(value: JSON, kind: type) -> str:
    """What is wrong with a value that is neither text nor a container; empty if nothing is."""
    if value is None or kind is bool:
        return ""
    if kind is int:
        return "" if INT_MIN <= value <= INT_MAX else "is a whole number beyond 64 bits"
    if kind is float:
        return "" if math.isfinite(value) else f"is {value}, which JSON does not have"
    return f"is a {kind.__name__}, which JSON does not have"


def _text(value: str) -> str:
    if "\0" in value:
        return "contains a NUL character"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "contains half a character (a lone surrogate)"
    return ""


def _short(key: object) -> str:
    """A key as a message can show it, whatever its size."""
    is_short = isinstance(key, bool | float | None) or (isinstance(key, int) and abs(key) < 10**20)
    return repr(key) if is_short else f"of type {type(key).__name__}"


def _path(key: str | int, parent: _Place | None) -> str:
    return "".join(reversed(list(_steps(key, parent))))


def _steps(key: str | int, parent: _Place | None) -> Iterator[str]:
    while parent is not None or key != "":
        if isinstance(key, int):
            yield f"[{key}]"
        elif key != "":
            yield f".{key}"
        if parent is None:
            return
        key, parent = parent.key, parent.parent
