"""Keyset pagination in both directions: a page begins at the id in its cursor, and costs the same at any depth."""

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import ARRAY, ColumnElement, Select, Text, cast, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.caller import Caller
from persistence.db import barrier
from persistence.db.ids import Prefix
from persistence.problems import Invalid, invalid

MAX_PAGE = 100
DEFAULT_PAGE = 25
COUNTED = 10_000
"""How far the objects of a list are counted."""
ID = re.compile(r"[a-z]+_[0-9a-z]+")


class HasId(Protocol):
    @property
    def id(self) -> str: ...


ItemT = TypeVar("ItemT", bound=HasId)
AnyT = TypeVar("AnyT")
QueryT = TypeVar("QueryT", bound=Any)


@dataclass(frozen=True, slots=True)
class Page(Generic[AnyT]):
    """One page, in the order of its list. `cursors[i]` belongs to `items[i]`."""

    items: list[AnyT]
    cursors: list[str]
    has_next: bool
    has_previous: bool
    counted: Select[Any] | None = None
    """Selects the whole list up to one more than COUNTED, for lists that can be counted."""


@dataclass(frozen=True, slots=True)
class PageRange:
    """A part of a list: the first `count` items, or the last ones if it `is_backward`.

    Only items behind the id `after` and before the id `before` count. A cursor is a position, so it
    stays valid when its item is deleted, and when items are added anywhere.
    """

    count: int
    after: str | None = None
    before: str | None = None
    is_backward: bool = False

    def of(self, query: Select[Any], id: ColumnElement[Any]) -> Select[Any]:
        """Limit a query of a list that is newest first to the rows between the cursors."""
        if self.after is not None:
            query = query.where(id < self.after)
        return query if self.before is None else query.where(id > self.before)

    def order(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the order in which the rows of a list that is newest first are read."""
        return column.asc() if self.is_backward else column.desc()

    def position(self, item: Any) -> str:
        """Return the position of an item, for its cursor."""
        id: str = item.id
        return id

    def limited(self, query: Select[Any], id: ColumnElement[Any]) -> Select[Any]:
        """Select the rows of the page, and one more, which shows whether the list goes on."""
        return self.of(query, id).order_by(self.order(id)).limit(self.count + 1)


@dataclass(frozen=True, slots=True)
class PageArguments:
    """The arguments of a connection, as a client has sent them."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None

    def checked(self, prefix: Prefix) -> PageRange:
        """Return the part of a list of resources with this prefix.

        Raises Invalid for `first` together with `last`, a size out of range, and a cursor of
        another list.
        """
        after, before = (
            None if cursor is None else decode_cursor(cursor, prefix, name)
            for name, cursor in (("after", self.after), ("before", self.before))
        )
        return PageRange(self.checked_count(), after, before, self.last is not None)

    def checked_count(self) -> int:
        """Return the size of the page. Raises Invalid as `checked` does."""
        if self.first is not None and self.last is not None:
            raise invalid("last", "EXCLUSIVE", "cannot be used together with `first`: send one of them")
        name, size = ("first", self.first) if self.last is None else ("last", self.last)
        size = DEFAULT_PAGE if size is None else size
        if not 1 <= size <= MAX_PAGE:
            raise invalid(name, "OUT_OF_RANGE", f"must be from 1 to {MAX_PAGE}, is {size}")
        return size


def make_page(rows: Sequence[ItemT], range_: PageRange, counted: Select[Any] | None = None) -> Page[ItemT]:
    """Make a page from rows in the order in which they were read, one more than the page has.

    The extra row means that the list goes on in that direction. In the other direction it goes on if
    there is a cursor (Relay cursor connections specification, section 4.2).
    """
    goes_on, items = len(rows) > range_.count, list(rows[: range_.count])
    if range_.is_backward:
        items.reverse()
        has_next, has_previous = range_.before is not None, goes_on
    else:
        has_next, has_previous = goes_on, range_.after is not None
    cursors = [encode_cursor(range_.position(item)) for item in items]
    return Page(items, cursors, has_next, has_previous, counted)


def to_count(query: Select[Any]) -> Select[Any]:
    """Return the value of `Page.counted` for a query of a whole list."""
    return query.order_by(None).limit(COUNTED + 1)


async def totals(connection: AsyncConnection, _: Caller, counted: Sequence[Select[Any]]) -> dict[Select[Any], int]:
    """Count lists, each up to one more than COUNTED. Each query has the condition of its caller."""
    sizes: dict[Select[Any], int] = {}
    for query in counted:
        count = select(func.count()).select_from(query.subquery())
        async with barrier.before(connection) if barrier.needs_index(query) else nullcontext():
            sizes[query] = (await connection.execute(count)).scalar_one()
    return sizes


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


def page_of_each(
    query: Select[Any], parent: ColumnElement[Any], parents: Sequence[str], range_: PageRange
) -> Select[Any]:
    """Select the page of each parent, and one row more of each, from lists that are newest first."""
    id = query.selected_columns.id
    return first_rows_of_each(range_.of(query, id), parent, parents, range_.count, range_.order(id))


def encode_cursor(id: str) -> str:
    return base64.urlsafe_b64encode(id.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, prefix: Prefix, argument: str = "after") -> str:
    """Return the id in a cursor of a list of resources with this prefix.

    Raises Invalid for any other text.
    """
    id = cursor_text(cursor)
    if not ID.fullmatch(id) or not id.startswith(f"{prefix}_"):
        raise bad_cursor(argument)
    return id


def cursor_text(cursor: str) -> str:
    """Return the text in a cursor; an empty one if it is no cursor."""
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return ""


def bad_cursor(argument: str) -> Invalid:
    """Return the error for a text that is no cursor of the list."""
    return invalid(argument, "BAD_CURSOR", "is not a cursor of this list: pass one from its `pageInfo` or `edges`")
