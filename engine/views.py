"""Read-only views of run data for templates: a template can look at everything and change nothing.

Without them a template could call `list.append` on the very output that the run keeps. A view costs what is looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import orjson

from engine.events import JSON


class ObjectView(Mapping[str, Any]):
    """An object. Its attribute with the data has a name that templates cannot ask for."""

    __slots__ = ("__value__",)

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.__value__ = value

    def __getitem__(self, key: str) -> Any:
        return view(self.__value__[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self.__value__)

    def __len__(self) -> int:
        return len(self.__value__)

    def __eq__(self, other: object) -> bool:
        return bool(unwrap(self) == unwrap(other))

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return as_json(self)

    # Lists, not Python's dict views: what a template takes from here must be JSON again.
    def keys(self) -> Any:
        return list(self.__value__)

    def values(self) -> Any:
        return [view(value) for value in self.__value__.values()]

    def items(self) -> Any:
        return [[key, view(value)] for key, value in self.__value__.items()]


class ListView(Sequence[Any]):
    __slots__ = ("__value__",)

    def __init__(self, value: list[Any]) -> None:
        self.__value__ = value

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Any: ...
    def __getitem__(self, index: int | slice) -> Any:
        return view(self.__value__[index])

    def __len__(self) -> int:
        return len(self.__value__)

    def __eq__(self, other: object) -> bool:
        return bool(unwrap(self) == unwrap(other))

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return as_json(self)


def view(value: Any) -> Any:
    if isinstance(value, list):
        return ListView(value)
    if isinstance(value, Mapping) and not isinstance(value, ObjectView):
        return ObjectView(value)
    return value


def unwrap(value: Any) -> Any:
    """What a view shows; anything else as it is."""
    return value.__value__ if isinstance(value, ObjectView | ListView) else value


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
    return orjson.dumps(to_json(value), option=orjson.OPT_NON_STR_KEYS).decode()
