"""Filters of templates that minijinja lacks: JSON that comes as text, and moments. Pure: nothing here knows what time it is.

A FilterFault says what cannot be done.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps

import orjson

from engine.events import JSON
from engine.moments import read_moment, read_zone, written
from engine.storable import check_storable
from engine.views import take, take_all

EACH_MOMENT = 10
"""What reading one costs, in values looked at."""
MAX_FORMAT = 200


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


def datetime_shift(moment: JSON, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> str:
    """A moment some time after another one, or before it."""
    try:
        shifted = _moment(moment) + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError as wrong:
        raise ValueError(f"that is out of range: {wrong}") from wrong
    return written(shifted)


def datetime_difference(start: JSON, end: JSON) -> dict[str, float]:
    """The time from one moment to another: `{seconds, days}`."""
    between = _moment(end) - _moment(start)
    return {"seconds": between.total_seconds(), "days": between / timedelta(days=1)}


def datetime_format(moment: JSON, format: str, timezone: str = "UTC") -> str:
    """A moment as text, by a format as for strftime."""
    if len(format) > MAX_FORMAT:
        raise ValueError(f"a format has at most {MAX_FORMAT} characters")
    try:
        return _moment(moment).astimezone(read_zone(timezone)).strftime(format)
    except OverflowError as wrong:
        raise ValueError(f"the moment cannot be written so: {wrong}") from wrong


def _moment(text: JSON) -> datetime:
    take(EACH_MOMENT)
    return read_moment(text)


class FilterFault(Exception):
    """A filter of ours says no; `name` is its own, so that its place can be told."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def _told(function: Callable[..., JSON]) -> Callable[..., JSON]:
    @wraps(function)
    def told(*given: JSON, **named: JSON) -> JSON:
        try:
            return function(*given, **named)
        except (ValueError, TypeError, AttributeError) as wrong:
            raise FilterFault(function.__name__, str(wrong)) from wrong

    return told


_FUNCTIONS: tuple[Callable[..., JSON], ...] = (fromjson, datetime_shift, datetime_difference, datetime_format)
ADDED = {function.__name__: _told(function) for function in _FUNCTIONS}
