"""Template filters that minijinja lacks (JSON in texts, timestamps), that order, and that write texts.

The filters read no clock and have no state. They raise FilterError or OrderingError.
"""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any

from engine.expressions import ordering, texts
from engine.expressions.ordering import OrderingError
from engine.expressions.parser import EXTREMES, PATHS_FILTER, PLACE, SLICE_FILTER
from engine.expressions.views import charge, charge_all, computed, to_plain, unwrap, view
from engine.types import JSON
from engine.values.json_text import NotJson, parse_json
from engine.values.storable import stored_form
from engine.values.timestamps import datetime_difference, datetime_format, datetime_shift

TIMESTAMP_COST = 10
"""The cost of parsing a timestamp, in the unit of views.charge."""


def fromjson(text: JSON) -> JSON:
    """Parse a text as JSON."""
    if not isinstance(text, str):
        raise ValueError(f"`fromjson` needs a text, not a {type(text).__name__}")
    charge_all(text)
    try:
        value = parse_json(text)
    except NotJson as error:
        raise ValueError(f"{text[:40]!r} {error}") from error
    charge_all(value)
    return stored_form(value)


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
            return view(function(*arguments, **options))
        except (ValueError, TypeError, AttributeError) as error:
            raise FilterError(function.__name__, str(error)) from error

    return wrapper


def _placed_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function of ordering.py or texts.py as a filter that tells its place when it fails."""
    parameters = signature(function).parameters.values()
    options = {parameter.name for parameter in parameters if parameter.kind is not Parameter.POSITIONAL_ONLY}
    positional = sum(parameter.kind is not Parameter.KEYWORD_ONLY for parameter in parameters)
    takes = ", ".join(f"`{name}`" for name in sorted(options))

    @wraps(function)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        place = keywords.pop(PLACE, None)
        if len(arguments) > positional or not keywords.keys() <= options:
            raise FilterError(name, f"`{name}` takes only {takes}" if takes else f"`{name}` has too many arguments")
        try:
            return function(*arguments, **keywords)
        except OrderingError as error:
            error.place, error.name = place, name
            raise
        except (ValueError, TypeError, AttributeError) as error:
            raise FilterError(name, str(error)) from error

    return wrapper


def _slice(value: Any, /, start: int | None = None, stop: int | None = None, step: int | None = None) -> Any:
    """Return a slice in a list; an empty list if the value is null."""
    data = unwrap(value)
    if data is None:
        return []
    if not isinstance(data, str | list | tuple):
        raise TypeError(f"{ordering.kind(value)} cannot be sliced")
    if any(bound is not None and not isinstance(bound, int) for bound in (start, stop, step)):
        raise TypeError("the bounds of a slice must be whole numbers")
    return computed([to_plain(data[start:stop:step])])


def _first_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the filter for `map('max')`, where an empty list gives null."""

    @wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        found = function(*arguments, **options)
        return found[0] if len(found) else None

    return wrapper


_EXTREMES: dict[str, Callable[..., Any]] = {"min": ordering.smallest, "max": ordering.largest}
_PLACED: dict[str, Callable[..., Any]] = {
    "sort": ordering.sort,
    "dictsort": ordering.dictsort,
    "groupby": ordering.groupby,
    "unique": ordering.unique,
    "string": texts.string,
    "upper": texts.upper,
    "lower": texts.lower,
    "capitalize": texts.capitalize,
    "title": texts.title,
    "trim": texts.trim,
    "replace": texts.replace,
    "split": texts.split,
    "lines": texts.lines,
    "urlencode": texts.urlencode,
    "int": texts.integer,
    "float": texts.decimal,
    "sum": texts.total,
    "join": texts.join,
}


def _is_whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_ORDERING_TESTS = {
    name: ordering.ordering_test(name, operator)
    for operator, names in {
        "<": ("lt", "lessthan", "<"),
        "<=": ("le", "<="),
        ">": ("gt", "greaterthan", ">"),
        ">=": ("ge", ">="),
    }.items()
    for name in names
}
TESTS: dict[str, Callable[..., bool]] = {**_ORDERING_TESTS, "integer": _is_whole_number}
EXTRA_FILTERS = {
    **{name: _placed_filter(name, function) for name, function in _PLACED.items()},
    **{EXTREMES[name]: _placed_filter(name, function) for name, function in _EXTREMES.items()},
    **{name: _first_of(_placed_filter(name, function)) for name, function in _EXTREMES.items()},
    PATHS_FILTER: _placed_filter("selectattr", ordering.with_values),
    SLICE_FILTER: _placed_filter("slice", _slice),
    "fromjson": _filter(fromjson),
    "datetime_shift": _filter(datetime_shift, timestamps=1),
    "datetime_difference": _filter(datetime_difference, timestamps=2),
    "datetime_format": _filter(datetime_format, timestamps=1),
}
