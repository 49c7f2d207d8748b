"""Template filters that minijinja lacks (JSON in texts, timestamps), that order, and that write texts.

The filters read no clock and have no state. They raise FilterError or OrderingError.
"""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from json import dumps
from typing import Any

from engine.expressions import ordering, texts
from engine.expressions.ordering import UNDEFINED, OrderingError, kind, missing_input
from engine.expressions.parser import EXTREMES, PATHS_FILTER, PLACE, SLICE_FILTER
from engine.expressions.views import charge, charge_all, computed, is_view, to_json_text, to_plain, unwrap, view
from engine.types import JSON
from engine.values.json_text import NotJson, parse_json
from engine.values.storable import check_storable, stored_form
from engine.values.timestamps import datetime_difference, datetime_format, datetime_shift

MAX_INDENT = 4
"""Spaces of each level of `tojson(indent=…)`."""
TIMESTAMP_COST = 10
"""The cost of parsing a timestamp, in the unit of views.charge."""


def fromjson(text: JSON, /) -> JSON:
    """Parse a text as JSON."""
    if not isinstance(text, str):
        advice = "; an object or a list needs no `fromjson`" if isinstance(unwrap(text), dict | list) else ""
        raise ValueError(f"`fromjson` needs a text, not {kind(text)}{advice}")
    charge_all(text)
    try:
        value = parse_json(text)
    except NotJson as error:
        raise ValueError(f"{text[:40]!r} {error}") from error
    charge_all(value)
    return stored_form(value)


def tojson(value: Any, /, indent: Any = None) -> str:
    """Write a value as JSON, on one line or with indented lines."""
    if indent is None:
        return to_json_text(value)
    if kind(indent) != "a number" or indent not in range(MAX_INDENT + 1):
        raise ValueError(f"`indent` must be a whole number from 0 to {MAX_INDENT}")
    to_json_text(value)  # charges the value, and checks that it is JSON
    text = dumps(to_plain(value), indent=int(indent), ensure_ascii=False)
    charge_all(text)
    return text


def _timestamps(function: Callable[..., JSON], count: int) -> Callable[..., JSON]:
    """Charge the timestamps that a function of timestamps.py parses."""

    @wraps(function)
    def charged(*arguments: JSON, **options: JSON) -> JSON:
        charge(count * TIMESTAMP_COST)
        return function(*arguments, **options)

    return charged


def chain(value: Any, /, *others: Any) -> Any:
    """Append lists to a list, or merge objects. Null is an empty list."""
    values = [to_plain(one) for one in (value, *others)]
    charge(sum(len(one) for one in values if isinstance(one, list | dict | str)))
    if wrong := [one for one in values if not isinstance(one, list | dict | str | None)]:
        raise TypeError(f"`chain` needs lists, not {kind(wrong[0])}")
    objects = [one for one in values if isinstance(one, dict)]
    is_merge = len(objects) == len(values)
    result = {key: inner for one in objects for key, inner in one.items()} if is_merge else []
    if isinstance(result, list):
        result = [item for one in values for item in one or ()]
    if not all(map(is_view, (value, *others))):
        check_storable(result)
    return result


class FilterError(Exception):
    """A filter failed.

    Attributes:
        name: The name of the filter.
        place: Its index in its source (engine/expressions/lowering.py); None for `map('name')`.
    """

    def __init__(self, name: str, message: str, place: int | None = None) -> None:
        super().__init__(message)
        self.name, self.place = name, place


def _placed_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as a filter that tells its place when it fails, and gives what templates read."""
    bind, takes = signature(function).bind, _parameters(name, function)

    @wraps(function)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        place = keywords.pop(PLACE, None)
        try:
            bind(*arguments, **keywords)
        except TypeError as error:
            raise FilterError(name, takes, place) from error
        try:
            if arguments[0] is UNDEFINED:
                raise missing_input()
            return view(function(*arguments, **keywords))
        except OrderingError as error:
            error.place, error.name = place, name
            raise
        except (ValueError, TypeError, AttributeError) as error:
            raise FilterError(name, str(error), place) from error

    return wrapper


def _parameters(name: str, function: Callable[..., Any]) -> str:
    """Return what a message says about the arguments of a filter."""
    _, *parameters = signature(function).parameters.values()
    shown = ", ".join(
        f"`{one.name}`" + (" (needed)" if one.default is Parameter.empty else "")
        for one in parameters
        if one.kind is not Parameter.VAR_POSITIONAL
    )
    return f"`{name}` has the arguments {shown}" if shown else f"`{name}` has no arguments"


def _slice(value: Any, /, start: int | None = None, stop: int | None = None, step: int | None = None) -> Any:
    """Return a slice in a list; an empty list if the value is null."""
    data = unwrap(value)
    if data is None:
        return []
    if not isinstance(data, str | list | tuple):
        raise TypeError(f"{kind(value)} cannot be sliced")
    if any(bound is not None and not isinstance(bound, int) for bound in (start, stop, step)):
        raise TypeError("the bounds of a slice must be whole numbers")
    if step == 0:
        raise ValueError("the step of a slice cannot be 0")
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


def _is_fraction(value: Any) -> bool:
    return isinstance(value, float)  # minijinja passes a float without a fraction as a whole number


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
TESTS: dict[str, Callable[..., bool]] = {
    **_ORDERING_TESTS,
    "integer": _is_whole_number,
    "int": _is_whole_number,
    "float": _is_fraction,
    "sameas": ordering.is_same,
}
EXTRA_FILTERS = {
    **{name: _placed_filter(name, function) for name, function in _PLACED.items()},
    **{EXTREMES[name]: _placed_filter(name, function) for name, function in _EXTREMES.items()},
    **{name: _first_of(_placed_filter(name, function)) for name, function in _EXTREMES.items()},
    "chain": _placed_filter("chain", chain),
    "tojson": _placed_filter("tojson", tojson),
    "fromjson": _placed_filter("fromjson", fromjson),
    "datetime_shift": _placed_filter("datetime_shift", _timestamps(datetime_shift, 1)),
    "datetime_difference": _placed_filter("datetime_difference", _timestamps(datetime_difference, 2)),
    "datetime_format": _placed_filter("datetime_format", _timestamps(datetime_format, 1)),
    PATHS_FILTER: _placed_filter("selectattr", ordering.with_values),
    SLICE_FILTER: _placed_filter("slice", _slice),
}
