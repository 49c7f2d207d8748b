"""Filters of templates that minijinja lacks: JSON that comes as text, and moments. Pure: nothing here knows what time it is.

A FilterFault says what cannot be done.
"""

from collections.abc import Callable
from functools import wraps

import orjson

from engine.expressions.views import take, take_all
from engine.types import JSON
from engine.values.storable import check_storable
from engine.values.timestamps import datetime_difference, datetime_format, datetime_shift

EACH_MOMENT = 10
"""What reading one costs, in values looked at."""


def fromjson(text: JSON) -> JSON:
    """The value that a text is the JSON of."""
    if not isinstance(text, str):
        raise ValueError(f"`fromjson` reads a text, not a {type(text).__name__}")
    take_all(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as wrong:
        raise ValueError(f"{text[:40]!r} is no JSON: {wrong}") from wrong
    check_storable(value)
    take_all(value)
    return value


class FilterFault(Exception):
    """A filter of ours says no; `name` is its own, so that its place can be told."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def _told(function: Callable[..., JSON], moments: int = 0) -> Callable[..., JSON]:
    """As templates call it: for what it reads beforehand, and with its name where it says no."""

    @wraps(function)
    def told(*given: JSON, **named: JSON) -> JSON:
        try:
            take(moments * EACH_MOMENT)
            return function(*given, **named)
        except (ValueError, TypeError, AttributeError) as wrong:
            raise FilterFault(function.__name__, str(wrong)) from wrong

    return told


ADDED = {
    "fromjson": _told(fromjson),
    "datetime_shift": _told(datetime_shift, moments=1),
    "datetime_difference": _told(datetime_difference, moments=2),
    "datetime_format": _told(datetime_format, moments=1),
}
