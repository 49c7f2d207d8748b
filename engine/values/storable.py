"""Check that a value is JSON that Postgres and every client can hold, and give it its stored form.

Everything that leaves a node or enters a run is checked here before it is used. Only the exact JSON
types pass: a tuple, a set or a number of another library would come back from storage as another
type. JSON has one type of numbers, so a float without a fraction is stored as the whole number.
"""

from collections.abc import Iterable
from math import isfinite
from typing import Any

from engine.errors import NotStorable
from engine.types import JSON

MAX_DEPTH = 100
MAX_SIZE = 8 * 1024 * 1024
"""The maximum size of a value: the characters of its texts and keys, plus 4 for each value in
it. This is about its size as JSON.
"""
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


_Place = tuple[str | int, Any]
"""A key or index, and the place of its container. A path is built from it only for an error."""


def check_storable(value: JSON) -> int:
    """Check that a value can be stored and is read back as the same value.

    8 MiB take 0.5 s: large_values.off_loop does it in a thread.

    Returns:
        The size of the value, in the unit of MAX_SIZE.

    Raises:
        NotStorable: At the first value inside that is not JSON, or if the whole is too large.
    """
    return _scan(value)[0]


def stored_form(value: JSON) -> JSON:
    """Check a value as `check_storable` does, and return the form in which it is stored.

    A float without a fraction becomes the whole number: 10.0 becomes 10. One beyond 64 bits stays.

    Returns:
        The same object if it has the form already.

    Raises:
        NotStorable: As `check_storable`.
    """
    return _with_whole_numbers(value) if _scan(value)[1] else value


def _with_whole_numbers(value: JSON) -> JSON:
    kind = type(value)
    if kind is float:
        return int(value) if is_whole(value) else value
    if kind is list:
        items = [_with_whole_numbers(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if kind is dict:
        changed = {key: _with_whole_numbers(item) for key, item in value.items()}
        return value if all(changed[key] is item for key, item in value.items()) else changed
    return value


def is_whole(number: float) -> bool:
    """Tell whether a number is stored as a whole number."""
    return number.is_integer() and INT_MIN <= number < -INT_MIN  # INT_MAX as a float is 2**63


def _scan(value: JSON) -> tuple[int, bool]:
    """Check a value. Returns its size, and whether its stored form differs from it."""
    size, has_whole_float = 0, False
    # The value is put into a list, so that the loop handles it like every inner value.
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
                if not (item.isascii() and "\0" not in item) and (reason := _text_error(item)):
                    raise NotStorable(_path((key, place)), reason)
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
                    name = "not a number (NaN)" if item != item else "infinite"
                    raise NotStorable(_path((key, place)), f"is {name}, which JSON does not have")
                has_whole_float = has_whole_float or is_whole(item)
            elif item is not None and kind is not bool:
                raise NotStorable(_path((key, place)), f"is a {kind.__name__}, which JSON does not have")
        if size > MAX_SIZE:
            raise NotStorable("", f"is larger than {MAX_SIZE // 1024 // 1024} MiB")
    return size, has_whole_float


def _keys(container: dict[Any, JSON], place: _Place | None) -> int:
    """Check the keys of an object. Returns their size."""
    size = 0
    for key in container:
        if type(key) is not str:
            raise NotStorable(_path(place), f"has the key {_short(key)}, which is not a text")
        if reason := _text_error(key):
            raise NotStorable(_path(place), f"has a key that {reason}")
        size += len(key)
    return size


def _text_error(value: str) -> str:
    """Return the reason why a text cannot be stored, or an empty text."""
    if "\0" in value:
        return "contains a NUL character"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "contains half a character (a lone surrogate)"
    return ""


def _short(key: object) -> str:
    """Return a short form of a key for a message. A key may be an integer of any size."""
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    is_short = isinstance(key, float) or (isinstance(key, int) and abs(key) < 10**20)
    return repr(key) if is_short else f"of type {type(key).__name__}"


def _path(place: _Place | None) -> str:
    """Build the path of a place. The outermost list, added by `check_storable`, is left out."""
    steps: list[str] = []
    while place is not None and place[1] is not None:
        key, place = place
        steps.append(f"[{key}]" if isinstance(key, int) else f".{key}")
    return "".join(reversed(steps))


REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean_text(text: str) -> str:
    """Replace the characters that Postgres cannot store, NUL and lone surrogates, by U+FFFD."""
    if _text_error(text):
        return "".join(REPLACEMENT if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in text)
    return text


def clean_json(value: JSON) -> JSON:
    """Replace the characters that Postgres cannot store in all texts and keys of a value.

    Returns:
        The same object if it has none.
    """
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        items = [clean_json(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if isinstance(value, dict):
        changed = {clean_text(key): clean_json(item) for key, item in value.items()}
        is_same = all(changed.get(key) is item for key, item in value.items())
        return value if is_same else changed
    return value


def is_storable(value: JSON) -> bool:
    """Tell whether `check_storable` accepts a value."""
    try:
        check_storable(value)
    except NotStorable:
        return False
    return True
