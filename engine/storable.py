"""What may leave a node or enter a run: JSON that Postgres and every client can hold. Checked before it goes anywhere.

Exact types only: a tuple, a set or a number of another library would come back from storage as something else.
"""

import math
from collections.abc import Iterable
from typing import Any

from engine.events import JSON
from engine.nodes.base import NodeFailure

MAX_DEPTH = 100
MAX_SIZE = 8 * 1024 * 1024
"""Characters of text, with 4 for every other value: about the size as JSON."""
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


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
    """Raises NotStorable at a value that cannot be stored as what it is."""
    kind = type(value)
    if kind is not dict and kind is not list:
        size = _scalar(value, kind, "", None)
        stack = []
    else:
        size, stack = 0, [(value, _Place("", None), 1)]
    while stack:
        container, place, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise NotStorable(_path(place), f"is nested more than {MAX_DEPTH} levels deep")
        if type(container) is dict:
            size += _keys(container, place)
            members: Iterable[tuple[str | int, JSON]] = container.items()
        else:
            members = enumerate(container)
        for key, item in members:
            kind = type(item)
            if kind is dict or kind is list:
                stack.append((item, _Place(key, place), depth + 1))
            elif kind is str and item.isascii() and "\0" not in item:
                size += len(item)
            else:
                size += _scalar(item, kind, key, place)
        if size > MAX_SIZE:
            break
    if size > MAX_SIZE:
        raise NotStorable("", f"is larger than {MAX_SIZE // 1024 // 1024} MiB")


def _keys(container: dict[Any, JSON], place: _Place) -> int:
    """The size of the keys."""
    size = 0
    for key in container:
        if type(key) is not str:
            raise NotStorable(_path(place), f"has the key {_short(key)}, which is no text")
        if wrong := _text(key):
            raise NotStorable(_path(place), f"has a key that {wrong}")
        size += len(key)
    return size


def _scalar(value: JSON, kind: type, key: str | int, place: _Place | None) -> int:
    """The size of a value that is no container."""
    wrong = ""
    if kind is str:
        wrong = _text(value)
    elif kind is int:
        wrong = "" if INT_MIN <= value <= INT_MAX else "is a whole number beyond 64 bits"
    elif kind is float:
        wrong = "" if math.isfinite(value) else f"is {value}, which JSON does not have"
    elif value is not None and kind is not bool:
        wrong = f"is a {kind.__name__}, which JSON does not have"
    if wrong:
        raise NotStorable(_path(_Place(key, place)), wrong)
    return len(value) if kind is str else 4


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


def _path(place: _Place | None) -> str:
    steps: list[str] = []
    while place is not None:
        if place.key != "" or place.parent is not None:
            steps.append(f"[{place.key}]" if isinstance(place.key, int) else f".{place.key}")
        place = place.parent
    return "".join(reversed(steps))
