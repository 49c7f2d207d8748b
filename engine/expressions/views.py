"""Read-only views of run data for templates, which count the data that a template reads.

Without a view a template could call `list.append` on the stored output of a node. Each value that a
template reads through a view is charged to a meter of its thread. A template that exceeds the meter
is stopped by WorkLimitExceeded, and then evaluated in the isolation process.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, TypeVar, overload

import orjson

from engine.types import JSON

ResultT = TypeVar("ResultT")
TEXT_UNIT = 16
"""Characters of a text that cost as much as one value."""


class WorkLimitExceeded(Exception):
    """The template reads more data than may be read in this process."""


class _Meter(threading.local):
    """The data that the current evaluation of this thread may still read, in values."""

    remaining: float = inf
    allows_text = True

    def charge(self, values: float) -> None:
        self.remaining -= values
        if self.remaining < 0:
            raise WorkLimitExceeded


_meter = _Meter()


def metered(evaluate: Callable[..., ResultT], *arguments: Any, values: int, allows_text: bool = True) -> ResultT:
    """Call `evaluate(*arguments)` with a limit on the data that it reads.

    Args:
        evaluate: The function.
        arguments: Its arguments.
        values: The number of values that it may read.
        allows_text: Whether it may read texts.

    Raises:
        WorkLimitExceeded: It read more. This is checked at the end again, because minijinja
            replaces an exception of a view by its own.
    """
    _meter.remaining, _meter.allows_text = values, allows_text
    try:
        result = evaluate(*arguments)
        if _meter.remaining < 0:
            raise WorkLimitExceeded
        return result
    except Exception:
        if _meter.remaining < 0:
            raise WorkLimitExceeded from None
        raise
    finally:
        _meter.remaining, _meter.allows_text = inf, True


class _View:
    """Base of the views. Templates cannot read the attribute with the data, because of its name."""

    __slots__ = ("__value__",)

    def __init__(self, value: Any) -> None:
        self.__value__ = value

    def __len__(self) -> int:
        return len(self.__value__)

    def __eq__(self, other: object) -> bool:
        charge_all(self.__value__)
        return bool(self.__value__ == unwrap(other))

    def __str__(self) -> str:
        try:
            return to_json_text(self)
        except WorkLimitExceeded:
            return ""  # minijinja ignores an error in __str__; `metered` raises it at the end


class ObjectView(_View, Mapping[str, Any]):
    """The view of a JSON object."""

    __slots__ = ()
    __eq__ = _View.__eq__

    def __getitem__(self, key: str) -> Any:
        return view(self.__value__[key])

    def __iter__(self) -> Iterator[str]:
        _meter.charge(len(self.__value__))
        return iter(self.__value__)

    # These return lists instead of dict views, because the result of a template must be JSON.
    def keys(self) -> Any:
        return list(self)

    def values(self) -> Any:
        return [view(self.__value__[key]) for key in self]

    def items(self) -> Any:
        return [[key, view(self.__value__[key])] for key in self]


class ListView(_View, Sequence[Any]):
    """The view of a JSON list."""

    __slots__ = ()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Any: ...
    def __getitem__(self, index: int | slice) -> Any:
        return view(self.__value__[index])


def view(value: Any) -> Any:
    """Return a value in the form that templates read, and charge it to the meter."""
    if isinstance(value, str):
        if not _meter.allows_text:
            _meter.remaining = -1
        _meter.charge(1 + len(value) / TEXT_UNIT)
        return value
    _meter.charge(1)
    if isinstance(value, list):
        return ListView(value)
    if isinstance(value, Mapping) and not isinstance(value, ObjectView):
        return ObjectView(value)
    return value


def charge(values: float) -> None:
    """Charge other work to the meter. The unit is the cost of reading one value."""
    _meter.charge(values)


def charge_all(value: Any) -> None:
    """Charge a value and all values in it to the meter."""
    stack = [] if _meter.remaining == inf else [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            _meter.charge(len(item) / TEXT_UNIT)
        elif isinstance(item, list | Mapping):
            _meter.charge(1 + len(item))
            stack.extend(item if isinstance(item, list) else item.values())


def unwrap(value: Any) -> Any:
    """Return the data of a view; another value unchanged."""
    return value.__value__ if isinstance(value, _View) else value


def to_plain(value: Any) -> JSON:
    """Convert the result of a template to plain JSON.

    Raises:
        TypeError: The result is not JSON, such as a function.
    """
    data = unwrap(value)
    if data is not value and isinstance(data, dict | list):
        return data  # Run data was checked when it entered the run.
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value) if type(value) is not str else value
    if isinstance(data, Mapping):
        return {key: to_plain(inner) for key, inner in data.items()}
    if isinstance(value, list | tuple | ListView):
        return [to_plain(inner) for inner in value]
    raise TypeError(f"the result of the expression is a {type(value).__name__}, which is not JSON")


def to_json_text(value: Any) -> str:
    """Write a value as JSON text. Charges it, because the template may process the text further."""
    plain = to_plain(value)
    charge_all(plain)
    return orjson.dumps(plain, option=orjson.OPT_NON_STR_KEYS).decode()
