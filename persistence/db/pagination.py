"""Keyset paging: a cursor is the id of the last row seen, so a page costs the same at any depth."""

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import ARRAY, ColumnElement, Select, Text, cast, func, select, true

from persistence.db.ids import Prefix
from persistence.problems import invalid

MAX_PAGE = 100
ID = re.compile(r"[a-z]+_[0-9a-z]+")


class HasId(Protocol):
    @property
    def id(self) -> str: ...


ItemT = TypeVar("ItemT", bound=HasId)
AskT = TypeVar("AskT", bound=Any)


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


def checked_after(cursor: str | None, prefix: Prefix) -> str | None:
    """Raises Invalid where it is none: before it is put together with others."""
    if cursor is not None:
        after_of(cursor, prefix)
    return cursor


def page_of(rows: Sequence[ItemT], *, first: int, after: str | None) -> Page[ItemT]:
    """`rows` was read with a limit of `first + 1`: the one too many tells that there is a next page."""
    items = list(rows[:first])
    return Page(items, [cursor_of(item.id) for item in items], len(rows) > first, after is not None)


def alike(asks: Sequence[AskT], parent: str) -> dict[AskT, list[str]]:
    """What is asked for of many parents: the parents' ids by all else that is asked, each to be one statement.

    `parent` is the field that names the parent. The fields of one operation mostly ask alike.
    """
    grouped: dict[AskT, list[str]] = defaultdict(list)
    for ask in dict.fromkeys(asks):
        grouped[replace(ask, **{parent: ""})].append(getattr(ask, parent))
    return grouped


def of_each(
    query: Select[Any],
    parent: ColumnElement[Any],
    parents: Sequence[str],
    count: int,
    order: ColumnElement[Any] | None = None,
) -> Select[Any]:
    """The first rows of `query` for each of `parents`, one too many each: many lists in one statement.

    `parent` is the column that names a row's parent. The row's own columns come out as they are. `order` None: newest first.
    """
    given = func.unnest(cast(list(parents), ARRAY(Text))).table_valued("id", name="given").render_derived()
    ordered = query.order_by(query.selected_columns.id.desc() if order is None else order)
    found = ordered.where(parent == given.c.id).limit(count + 1).lateral()
    return select(found).select_from(given.join(found, true()))


def cursor_of(id: str) -> str:
    return base64.urlsafe_b64encode(id.encode()).decode().rstrip("=")


def after_of(cursor: str, prefix: Prefix) -> str:
    """The id inside a cursor of a list of such things. Raises Invalid."""
    try:
        id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        id = ""
    if not ID.fullmatch(id) or not id.startswith(f"{prefix}_"):
        raise invalid("after", "BAD_CURSOR", "is not a cursor of this list")
    return id
