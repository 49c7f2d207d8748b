"""Write values as texts, by one rule: in `{{ … }}`, for `~`, and in the filters `string` and `join`.

A text is written as it is, null as nothing, and everything else as JSON. The module has no state.
"""

from typing import Any

from engine.expressions.ordering import UNDEFINED, kind, missing_input, present, value_at
from engine.expressions.views import charge, to_json_text, to_plain


def as_text(value: Any) -> str:
    """Write a value as a text."""
    if isinstance(value, str):
        return str(value)
    return "" if value is None else to_json_text(value)


def operand(value: Any, place: int) -> str:
    """Write an operand of `~` as a text. See ordering.present for the arguments."""
    return as_text(present(value, place))


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
