"""Write values as texts, by one rule: in `{{ … }}`, for `~`, and in every filter for texts.

A text is written as it is, null as nothing, and everything else as JSON. The filters `int` and
`float` read numbers. The module has no state.
"""

import re
from math import isfinite
from typing import Any
from urllib.parse import quote

from engine.expressions.ordering import UNDEFINED, kind, missing_input, present, value_at
from engine.expressions.views import charge, charge_all, computed, to_json_text, to_plain
from engine.values.storable import is_whole

_WHOLE = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WORDS = re.compile(r"[^-\s({\[<]+")
_MAX_DIGITS = 400
_MAX_WHOLE = 2**127
"""The whole numbers with which minijinja calculates are smaller."""


def as_text(value: Any) -> str:
    """Write a value as a text."""
    if isinstance(value, str):
        return str(value)
    return "" if value is None else to_json_text(value)


def operand(value: Any, place: int) -> str:
    """Write an operand of `~` as a text. See ordering.present for the arguments."""
    return as_text(present(value, place))


def argument(value: Any, place: int) -> Any:
    """Write an argument of the method `format`. Numbers, lists and objects keep their type."""
    found = present(value, place)
    if found is None or isinstance(found, bool):
        return as_text(found)
    return computed(to_plain(found)) if kind(found) in ("a list", "an object") else found


def written(value: Any, place: int) -> Any:
    """Write the items of the argument of the method `join`."""
    plain = to_plain(present(value, place))
    return [as_text(item) for item in plain] if isinstance(plain, list) else value


def string(value: Any, /) -> str:
    """Write a value as a text. Raises OrderingError if it is undefined."""
    if value is UNDEFINED:
        raise missing_input()
    return as_text(value)


def join(value: Any, separator: Any = "", /, *, attribute: str | None = None) -> str:
    """Write the items of a list as one text.

    Args:
        value: The list; null is an empty one. A text is a list of its characters.
        separator: What is written between two items.
        attribute: A path in each item, whose value is written instead. It may be missing.

    Raises:
        OrderingError: The value is undefined.
        TypeError: The value is no list.
    """
    if value is UNDEFINED:
        raise missing_input()
    plain = to_plain(value)
    if not isinstance(plain, list | dict | str | None):
        raise TypeError(f"`join` needs a list or a text, not {kind(value)}")
    items = list(plain or ())
    charge(len(items))
    if attribute is not None:
        items = [value_at(item, str(attribute), None) for item in items]
    return as_text(separator).join(map(as_text, items))


def _text(value: Any) -> str:
    """Write the input or an argument of a filter. Raises OrderingError if the value is undefined."""
    text = string(value)
    charge_all(text)
    return text


def upper(value: Any, /) -> str:
    """Write a text in upper case."""
    return _text(value).upper()


def lower(value: Any, /) -> str:
    """Write a text in lower case."""
    return _text(value).lower()


def capitalize(value: Any, /) -> str:
    """Write the first character in upper case, and the others in lower case."""
    text = _text(value)
    return text[:1].upper() + text[1:].lower()


def title(value: Any, /) -> str:
    """Capitalize each word. Spaces, hyphens and opening brackets separate words."""
    return _WORDS.sub(lambda word: capitalize(word[0]), _text(value))


def trim(value: Any, characters: Any = None, /) -> str:
    """Remove white space, or the characters of a text, at both ends."""
    return _text(value).strip(None if characters is None else _text(characters))


def replace(value: Any, old: Any = UNDEFINED, new: Any = UNDEFINED, /) -> str:
    """Replace every occurrence of a text."""
    if old is UNDEFINED or new is UNDEFINED:
        raise TypeError("`replace` needs two texts: the old one and the new one")
    return _text(value).replace(_text(old), _text(new))


def split(value: Any, separator: Any = None, most: Any = None, /) -> Any:
    """Split a text at a separator, or at white space.

    Args:
        value: The text.
        separator: The separator; null for white space.
        most: The maximum number of splits; null for no limit.
    """
    text = _text(value)
    if most is not None and not isinstance(most, int):
        raise TypeError(f"the number of splits must be a whole number, not {kind(most)}")
    between, limit = None if separator is None else _text(separator), -1 if most is None else most
    if between == "":
        return computed(["", *text, ""])
    return computed(list(text.split(between, limit)))


def lines(value: Any, /) -> Any:
    """Split a text into its lines."""
    *ended, last = _text(value).split("\n")
    return computed([line.removesuffix("\r") for line in ended] + ([last] if last else []))


def urlencode(value: Any, /) -> str:
    """Encode a text for a URL; an object as the parameters of a query, without those that are null."""
    plain = None if value is UNDEFINED else to_plain(value)
    if not isinstance(plain, dict):
        return _encoded(_text(value))
    pairs = ((key, _text(inner)) for key, inner in plain.items() if inner is not None)
    return "&".join(f"{_encoded(key)}={_encoded(inner)}" for key, inner in pairs)


def _encoded(text: str) -> str:
    return quote(text, safe="/").replace("~", "%7E")


def integer(value: Any, /, default: Any = UNDEFINED, *, base: int = 10) -> Any:
    """Convert a number, a boolean or a text to a whole number, without its fraction."""
    return _converted(value, default, "int", base)


def decimal(value: Any, /, default: Any = UNDEFINED) -> Any:
    """Convert a number, a boolean or a text to a number."""
    return _converted(value, default, "float", 10)


def _converted(value: Any, default: Any, name: str, base: int) -> Any:
    if value is UNDEFINED:
        raise missing_input()
    try:
        number = _number(value, name, base)
        return int(number) if name == "int" or is_whole(float(number)) else number
    except ValueError:
        if default is UNDEFINED:
            raise
        return default


def _number(value: Any, name: str, base: int) -> int | float:
    """Read a number. Raises ValueError if there is none."""
    if isinstance(value, bool | int | float):
        found: int | float = value + 0
    elif not isinstance(value, str):
        advice = ": write `(… or 0)` before it to use 0 for null" if value is None else ""
        raise ValueError(f"`{name}` needs a number or a text, not {kind(value)}{advice}")
    elif len(value) > _MAX_DIGITS or not (base != 10 or _NUMBER.fullmatch(value)):
        raise ValueError("the text is no number" if value else "the text is empty, so it is no number")
    elif base != 10 or _WHOLE.fullmatch(value):
        found = int(value, base)
    else:
        found = float(value)
    if not isfinite(found if isinstance(found, float) else 0) or (name == "int" and abs(found) >= _MAX_WHOLE):
        raise ValueError("the number is too large")
    return found


def total(value: Any, /, *, attribute: str | None = None) -> Any:
    """Add the numbers of a list. An item that lacks the value at the path `attribute` is left out."""
    if value is UNDEFINED:
        raise missing_input()
    plain = to_plain(value)
    if not isinstance(plain, list):
        raise TypeError(f"`sum` needs a list, not {kind(value)}")
    charge(len(plain))
    found = plain if attribute is None else [value_at(item, str(attribute), UNDEFINED) for item in plain]
    result: int | float = 0
    for item in found:
        if kind(item) not in ("a number", "undefined"):
            raise TypeError(f"`sum` needs numbers, not {kind(item)}")
        result += 0 if item is UNDEFINED else item
    return result
