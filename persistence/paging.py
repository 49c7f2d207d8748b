"""Keyset paging: a cursor is the id of the last row seen, so a page costs the same at any depth."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from persistence.problems import invalid

MAX_PAGE = 100
ID = re.compile(r"[a-z]+_[0-9a-z]+")


class HasId(Protocol):
    @property
    def id(self) -> str: ...


ItemT = TypeVar("ItemT", bound=HasId)


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """One page, newest first. `cursors[i]` belongs to `items[i]`."""

    items: list[ItemT]
    cursors: list[str]
    has_next: bool
    has_previous: bool


def checked_first(first: int | None, default: int = 25) -> int:
    """The size of a page, 1 to 100; null means the default."""
    size = default if first is None else first
    if not 1 <= size <= MAX_PAGE:
        raise invalid("first", "OUT_OF_RANGE", f"must be from 1 to {MAX_PAGE}, is {size}")
    return size


def page_of(rows: Sequence[ItemT], *, first: int, after: str | None) -> Page[ItemT]:
    """`rows` was read with a limit of `first + 1`: the one too many tells that there is a next page."""
    items = list(rows[:first])
    return Page(items, [cursor_of(item.id) for item in items], len(rows) > first, after is not None)


def cursor_of(id: str) -> str:
    return base64.urlsafe_b64encode(id.encode()).decode().rstrip("=")


def after_of(cursor: str) -> str:
    """The id inside a cursor."""
    try:
        id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        id = ""
    if not ID.fullmatch(id):
        raise invalid("after", "BAD_CURSOR", "is not a cursor of this list")
    return id
