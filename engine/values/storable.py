"""What may leave a node or enter a run: JSON that Postgres and every client can hold. Checked before it goes anywhere.

Exact types only: a tuple, a set or a number of another library would come back from storage as something else.
"""

from collections.abc import Iterable
from math import isfinite
from typing import Any

from engine.errors import NotStorable
from engine.types import JSON

MAX_DEPTH = 100
MAX_SIZE = 8 * 1024 * 1024
"""Characters of text, with 4 for every other value, lists and objects too: about the size as JSON."""
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


_Place = tuple[str | int, Any]
"""A key or index and the place of the container that it is in, so that a path is only put together for an error."""


def check_storable(value: JSON) -> int:
    """Its size. Raises NotStorable at a value that cannot be stored as what it is. The event loop waits: 0.5 s for 8 MiB."""
    size = 0
    # As if it were in a list of its own, so that there is one way to look at a value.
    stack: list[tuple[Any, _Place | None, int]] = [([value], None, 0)]
    while stack:
        container, place, depth = stack.pop()
        if type(container) is dict:
            size += _keys(container, place)
            members: Iterable[tuple[str | int, JSON]] = container.items()
        else:
            members = enumerate(container)
        for key, item in members:
            kind = type(item)
            size += 4  # brackets, quotes, a comma, or a number
            if kind is str:
                if not (item.isascii() and "\0" not in item) and (wrong := _text(item)):
                    raise NotStorable(_path((key, place)), wrong)
                size += len(item)
                continue
            if kind is dict or kind is list:
                if depth == MAX_DEPTH:
                    raise NotStorable(_path((key, place)), f"is nested more than {MAX_DEPTH} levels deep")
                if item:
                    stack.append((item, (key, place), depth + 1))
            elif kind is int:
                if not INT_MIN <= item <= INT_MAX:
                    raise NotStorable(_path((key, place)), "is a whole number beyond 64 bits")
            elif kind is float:
                if not isfinite(item):
                    raise NotStorable(_path((key, place)), f"is {item}, which JSON does not have")
            elif item is not None and kind is not bool:
                raise NotStorable(_path((key, place)), f"is a {kind.__name__}, which JSON does not have")
        if size > MAX_SIZE:
            raise NotStorable("", f"is larger than {MAX_SIZE // 1024 // 1024} MiB")
    return size


def _keys(container: dict[Any, JSON], place: _Place | None) -> int:
    """The size of the keys."""
    size = 0
    for key in container:
        if type(key) is not str:
            raise NotStorable(_path(place), f"has the key {_short(key)}, which is no text")
        if wrong := _text(key):
            raise NotStorable(_path(place), f"has a key that {wrong}")
        size += len(key)
    return size


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
    """The outermost step is that into the list which `check_storable` puts around the value."""
    steps: list[str] = []
    while place is not None and place[1] is not None:
        key, place = place
        steps.append(f"[{key}]" if isinstance(key, int) else f".{key}")
    return "".join(reversed(steps))


SHOWN = "\N{REPLACEMENT CHARACTER}"


def clean_text(text: str) -> str:
    """What Postgres cannot keep, NUL and half surrogate pairs, is shown as the replacement character."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return "".join(SHOWN if one == "\0" or "\ud800" <= one <= "\udfff" else one for one in text)
    return text


def is_storable(value: JSON) -> bool:
    try:
        check_storable(value)
    except NotStorable:
        return False
    return True
