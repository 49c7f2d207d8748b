"""Template filters that minijinja lacks: JSON in texts, and timestamps.

The filters read no clock and have no state. They raise FilterError.
"""

from collections.abc import Callable
from functools import wraps

import orjson

from engine.expressions.views import charge, charge_all
from engine.types import JSON
from engine.values.storable import check_storable
from engine.values.timestamps import datetime_difference, datetime_format, datetime_shift

TIMESTAMP_COST = 10
"""The cost of parsing a timestamp, in the unit of views.charge."""


def fromjson(text: JSON) -> JSON:
    """Parse a text as JSON."""
    if not isinstance(text, str):
        raise ValueError(f"`fromjson` needs a text, not a {type(text).__name__}")
    charge_all(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{text[:40]!r} is not JSON: {error}") from error
    check_storable(value)
    charge_all(value)
    return value


class FilterError(Exception):
    """A filter failed. `name` is the name of the filter, used to find its place in the text."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def _filter(function: Callable[..., JSON], timestamps: int = 0) -> Callable[..., JSON]:
    """Wrap a function as a filter: charge the timestamps that it parses, and raise FilterError."""

    @wraps(function)
    def wrapper(*arguments: JSON, **options: JSON) -> JSON:
        try:
            charge(timestamps * TIMESTAMP_COST)
            return function(*arguments, **options)
        except (ValueError, TypeError, AttributeError) as error:
            raise FilterError(function.__name__, str(error)) from error

    return wrapper


EXTRA_FILTERS = {
    "fromjson": _filter(fromjson),
    "datetime_shift": _filter(datetime_shift, timestamps=1),
    "datetime_difference": _filter(datetime_difference, timestamps=2),
    "datetime_format": _filter(datetime_format, timestamps=1),
}
