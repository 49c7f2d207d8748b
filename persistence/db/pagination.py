"""Keyset pagination: a page begins after the id in its cursor, and costs the same at any depth."""

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
QueryT = TypeVar("QueryT", bound=Any)


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """One page, newest first. `cursors[i]` belongs to `items[i]`."""

    items: list[ItemT]
    cursors: list[str]
    has_next: bool
    has_previous: bool


def checked_first(first: int | None, default: int = 25) -> int:
    """Return the size of a page, `default` for None.

    Raises Invalid unless it is from 1 to MAX_PAGE.
    """
    size = default if first is None else first
    if not 1 <= size <= MAX_PAGE:
        raise invalid("first", "OUT_OF_RANGE", f"must be from 1 to {MAX_PAGE}, is {size}")
    return size


def checked_after(cursor: str | None, prefix: Prefix) -> str | None:
    """Return the cursor unchanged.

    Raises Invalid for a malformed one, before it is batched with other queries.
    """
    if cursor is not None:
        decode_cursor(cursor, prefix)
    return cursor


def make_page(rows: Sequence[ItemT], *, first: int, after: str | None) -> Page[ItemT]:
    """Make a page of up to `first` rows from a query with the limit `first + 1`.

    The extra row means that there is a next page.
    """
    items = list(rows[:first])
    return Page(items, [encode_cursor(item.id) for item in items], len(rows) > first, after is not None)


def group_by_parent(queries: Sequence[QueryT], parent: str) -> dict[QueryT, list[str]]:
    """Group queries that differ only in their parent, so that each group becomes one statement.

    Args:
        queries: Dataclasses with a field that names the parent. The fields of one operation mostly
            agree in the rest.
        parent: The name of that field.

    Returns:
        The parents' ids by the query with an empty parent.
    """
    groups: dict[QueryT, list[str]] = defaultdict(list)
    for query in dict.fromkeys(queries):
        groups[replace(query, **{parent: ""})].append(getattr(query, parent))
    return groups


def first_rows_of_each(
    query: Select[Any],
    parent: ColumnElement[Any],
    parents: Sequence[str],
    count: int,
    order: ColumnElement[Any] | None = None,
) -> Select[Any]:
    """Select the first rows of each parent in one statement, by a lateral join.

    Args:
        query: Selects the rows of all parents. Its columns are the columns of the result.
        parent: The column with the id of a row's parent.
        parents: The ids of the parents.
        count: How many rows of each parent are needed; one more is selected, to see whether there
            is a next page.
        order: The order of a parent's rows; None for the newest first.
    """
    ids = func.unnest(cast(list(parents), ARRAY(Text))).table_valued("id", name="parents").render_derived()
    ordered = query.order_by(query.selected_columns.id.desc() if order is None else order)
    rows = ordered.where(parent == ids.c.id).limit(count + 1).lateral()
    return select(rows).select_from(ids.join(rows, true()))


def encode_cursor(id: str) -> str:
    return base64.urlsafe_b64encode(id.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, prefix: Prefix) -> str:
    """Return the id in a cursor of a list of resources with this prefix.

    Raises Invalid for any other text.
    """
    try:
        id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        id = ""
    if not ID.fullmatch(id) or not id.startswith(f"{prefix}_"):
        raise invalid("after", "BAD_CURSOR", "is not a cursor of this list")
    return id
