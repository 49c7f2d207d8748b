"""Read-only views of run data for templates: a template can look at everything and change nothing.

Without them a template could call `list.append` on the very output that the run keeps. A view costs what is looked at, and
what is looked at is counted: a template that meets more than was allowed is stopped by `Heavy`, and done aside.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, TypeVar, overload

import orjson

from engine.types import JSON

DoneT = TypeVar("DoneT")
TEXT_UNIT = 16
"""Characters that count as much as one value."""


class Heavy(Exception):
    """The template looks at more than may be done here."""


class _Meter(threading.local):
    """What the template that this thread evaluates may still look at: values, with texts by their length."""

    left: float = inf
    takes_text = True

    def take(self, values: float) -> None:
        self.left -= values
        if self.left < 0:
            raise Heavy


_meter = _Meter()


def metered(evaluate: Callable[..., DoneT], *given: Any, values: int, takes_text: bool = True) -> DoneT:
    """`evaluate(*given)`. Raises Heavy at the end too, for an evaluation that has swallowed it."""
    _meter.left, _meter.takes_text = values, takes_text
    try:
        done = evaluate(*given)
        if _meter.left < 0:
            raise Heavy
        return done
    except Exception:
        if _meter.left < 0:
            raise Heavy from None
        raise
    finally:
        _meter.left, _meter.takes_text = inf, True


class _View:
    """The attribute with the data has a name that templates cannot ask for."""

    __slots__ = ("__value__",)

    def __init__(self, value: Any) -> None:
        self.__value__ = value

    def __len__(self) -> int:
        return len(self.__value__)

    def __eq__(self, other: object) -> bool:
        take_all(self.__value__)
        return bool(self.__value__ == unwrap(other))

    def __str__(self) -> str:
        try:
            return as_json(self)
        except Heavy:
            return ""  # minijinja passes no error on from here; the meter has it, and says so at the end


class ObjectView(_View, Mapping[str, Any]):
    __slots__ = ()
    __eq__ = _View.__eq__

    def __getitem__(self, key: str) -> Any:
        return view(self.__value__[key])

    def __iter__(self) -> Iterator[str]:
        _meter.take(len(self.__value__))
        return iter(self.__value__)

    # Lists, not Python's dict views: what a template takes from here must be JSON again.
    def keys(self) -> Any:
        return list(self)

    def values(self) -> Any:
        return [view(self.__value__[key]) for key in self]

    def items(self) -> Any:
        return [[key, view(self.__value__[key])] for key in self]


class ListView(_View, Sequence[Any]):
    __slots__ = ()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Any: ...
    def __getitem__(self, index: int | slice) -> Any:
        return view(self.__value__[index])


def view(value: Any) -> Any:
    """A value as a template gets it. Counts it."""
    if isinstance(value, str):
        if not _meter.takes_text:
            _meter.left = -1
        _meter.take(1 + len(value) / TEXT_UNIT)
        return value
    _meter.take(1)
    if isinstance(value, list):
        return ListView(value)
    if isinstance(value, Mapping) and not isinstance(value, ObjectView):
        return ObjectView(value)
    return value


def take(values: float) -> None:
    """Counts work that is not looking at values, in their measure."""
    _meter.take(values)


def take_all(value: Any) -> None:
    """Counts a value with everything in it."""
    stack = [] if _meter.left == inf else [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            _meter.take(len(item) / TEXT_UNIT)
        elif isinstance(item, list | Mapping):
            _meter.take(1 + len(item))
            stack.extend(item if isinstance(item, list) else item.values())


def unwrap(value: Any) -> Any:
    """What a view shows; anything else as it is."""
    return value.__value__ if isinstance(value, _View) else value


def to_json(value: Any) -> JSON:
    """A value that came out of a template, as plain JSON. Raises TypeError for what JSON does not have."""
    shown = unwrap(value)
    if shown is not value and isinstance(shown, dict | list):
        return shown  # run data, checked when it came in
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value) if type(value) is not str else value
    if isinstance(shown, Mapping):
        return {key: to_json(inner) for key, inner in shown.items()}
    if isinstance(value, list | tuple | ListView):
        return [to_json(inner) for inner in value]
    raise TypeError(f"the expression gives a {type(value).__name__}, which is no JSON value")


def as_json(value: Any) -> str:
    """Counted: it becomes a text that a template goes on with."""
    plain = to_json(value)
    take_all(plain)
    return orjson.dumps(plain, option=orjson.OPT_NON_STR_KEYS).decode()
