"""Read-only views of run data for templates, which count the data that a template reads.

Without a view a template could call `list.append` on the stored output of a node. Each value that a
template reads through a view is charged to a meter of its thread. A template that exceeds the meter
is stopped by WorkLimitExceeded, and then evaluated in the isolation process.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from types import MethodType
from typing import Any, TypeVar, overload

import orjson

from engine.types import JSON
from engine.values.storable import INT_MAX, check_storable

ResultT = TypeVar("ResultT")
LIMIT = INT_MAX + 1
TEXT_UNIT = 16
"""Characters of a text that cost as much as one value."""


class WorkLimitExceeded(Exception):
    """The template reads more data than may be read in this process."""


class _Meter(threading.local):
    """The data that the current evaluation of this thread may still read, in values."""

    remaining: float = inf
    allows_text = True
    has_limit_float = False
    """Whether the evaluation has read the float 2**63."""
    is_exact = False
    """Whether the float 2**63 is read as a whole number, and becomes a float again in the result."""

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


def with_limit_float(evaluate: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """Call `evaluate(*arguments)` so that the float 2**63 of run data is not changed.

    minijinja converts this float, and no other, to another number: the whole number 2**63-1. So an
    evaluation that reads it is done again, with the whole number 2**63 instead.
    """
    _meter.has_limit_float = False
    result = evaluate(*arguments)
    if not _meter.has_limit_float:
        return result
    _meter.is_exact = True
    try:
        return evaluate(*arguments)
    except WorkLimitExceeded:
        raise
    except Exception:
        return result  # It calculates with the number, and the whole number has a limit of its own.
    finally:
        _meter.is_exact = False


class _Method:
    """A method of a view. Templates can call it, as in `order.items()`, but cannot read it.

    minijinja reads `order.items` as an item and then, if there is none, as an attribute. Without
    this class a missing key with the name of a method would be a value.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._name = function, function.__name__

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self._function
        if instance.__absent__ == self._name:
            instance.__absent__ = None
            raise AttributeError(self._name)
        return MethodType(self._function, instance)


def _method(function: Callable[..., Any]) -> Any:
    return _Method(function)


class _View:
    """Base of the views. Templates cannot read attributes whose names begin with `_`.

    Attributes:
        __value__: The data.
        __absent__: The method's name that was just looked up as an item, without success.
        __methods__: The names of the methods that templates may call.
    """

    __slots__ = ("__absent__", "__value__")
    __methods__: frozenset[str] = frozenset()

    def __init__(self, value: Any) -> None:
        self.__value__ = value
        self.__absent__: str | None = None

    def __note__(self, key: object) -> None:
        """Remember that there is no item with this key."""
        if key in self.__methods__:
            self.__absent__ = str(key)

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
    __methods__ = frozenset({"keys", "values", "items", "get"})

    def __getitem__(self, key: str) -> Any:
        try:
            return view(self.__value__[key])
        except KeyError:
            self.__note__(key)
            raise

    def __iter__(self) -> Iterator[str]:
        _meter.charge(len(self.__value__))
        return iter(self.__value__)

    def __contains__(self, key: object) -> bool:
        return key in self.__value__

    # These return lists instead of dict views, because the result of a template must be JSON.
    @_method
    def keys(self) -> Any:
        return ListView(list(self))

    @_method
    def values(self) -> Any:
        return ListView([self.__value__[key] for key in self])

    @_method
    def items(self) -> Any:
        return ListView([[key, self.__value__[key]] for key in self])

    @_method
    def get(self, key: str, default: Any = None) -> Any:
        return view(self.__value__[key]) if key in self.__value__ else default


class ListView(_View, Sequence[Any]):
    """The view of a JSON list."""

    __slots__ = ()
    __methods__ = frozenset({"index", "count"})

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Any: ...
    def __getitem__(self, index: int | slice) -> Any:
        try:
            return view(self.__value__[index])
        except TypeError:
            self.__note__(index)
            raise

    @_method
    def index(self, value: Any, *bounds: int) -> int:
        charge_all(self.__value__)
        return int(self.__value__.index(to_plain(value), *bounds))

    @_method
    def count(self, value: Any) -> int:
        charge_all(self.__value__)
        return int(self.__value__.count(to_plain(value)))


class _GroupView(ListView):
    """The view of a group of `groupby`: a pair of its value and its items, which have names."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__({"grouper": 0, "list": 1}.get(index, index))


class _GroupsView(ListView):
    """The view of the groups of `groupby`."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        _meter.charge(1)
        return _GroupView(self.__value__[index])


def view(value: Any) -> Any:
    """Return a value in the form that templates read, and charge it to the meter."""
    if isinstance(value, str):
        if not _meter.allows_text:
            _meter.remaining = -1
        _meter.charge(1 + len(value) / TEXT_UNIT)
        return value
    _meter.charge(1)
    if type(value) is float and value == LIMIT:
        _meter.has_limit_float = True
        return LIMIT if _meter.is_exact else value
    if isinstance(value, list):
        return ListView(value)
    if isinstance(value, Mapping) and not isinstance(value, ObjectView):
        return ObjectView(value)
    return value


def computed(value: JSON, *, groups: bool = False) -> Any:
    """Return a list or object that a filter has computed, in the form that templates read.

    Args:
        value: Plain JSON.
        groups: Whether it is the result of `groupby`.
    """
    return _GroupsView(value) if groups else view(value)


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


def has_number(value: JSON, number: int) -> bool:
    """Tell whether a value is a number or contains it."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list | dict):
            stack.extend(item if isinstance(item, list) else item.values())
        elif item == number and not isinstance(item, bool):
            return True
    return False


def is_view(value: Any) -> bool:
    """Tell whether a value is a view."""
    return isinstance(value, _View)


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
        return float(LIMIT) if _meter.is_exact and value == LIMIT else value
    if isinstance(value, str):
        return str(value) if type(value) is not str else value
    if isinstance(data, Mapping):
        return {key: to_plain(inner) for key, inner in data.items()}
    if isinstance(value, list | tuple | ListView):
        return [to_plain(inner) for inner in value]
    raise TypeError("the result of the expression is a function, a method or another value that is not JSON")


def to_json_text(value: Any) -> str:
    """Write a value as JSON text. Charges it, because the template may process the text further."""
    plain = to_plain(value)
    charge_all(plain)
    if not is_view(value):
        check_storable(plain)  # orjson writes null for an infinite number
    return orjson.dumps(plain).decode()
