"""`RunOrder`: the order of a list of runs, and the positions in it.

Every order ends with the id, so that each run has a position of its own. A page begins at a position
(keyset pagination), and costs the same at any depth.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Interval, Select, Text, literal, tuple_

from persistence.db.ids import Prefix
from persistence.db.pagination import PageArguments, PageRange, bad_cursor, cursor_text, decode_cursor
from persistence.db.tables import runs
from persistence.runs.run import Run

DURATION = runs.c.finished_at - runs.c.started_at
"""Written as the index has it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POSITION = re.compile(rf"(?P<field>[A-Z_]+):-?[0-9]{{1,17}}:{Prefix.RUN}_[0-9a-z]+")
"""17 digits of microseconds are more than 3,000 years."""


class RunOrderField(StrEnum):
    """What a list of runs is sorted by."""

    CREATED_AT = "CREATED_AT"
    FINISHED_AT = "FINISHED_AT"
    DURATION = "DURATION"


class OrderDirection(StrEnum):
    """The direction of a sorted list."""

    ASC = "ASC"
    DESC = "DESC"


@dataclass(frozen=True, slots=True)
class RunOrder:
    """The order of a list of runs. By end or duration, it has only the runs that have one."""

    field: RunOrderField = RunOrderField.CREATED_AT
    direction: OrderDirection = OrderDirection.DESC

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions of the runs that the order has. The indexes have the same."""
        match self.field:
            case RunOrderField.CREATED_AT:
                return []
            case RunOrderField.FINISHED_AT:
                return [runs.c.finished_at.is_not(None)]
            case RunOrderField.DURATION:
                return [runs.c.finished_at.is_not(None), runs.c.started_at.is_not(None)]

    def key(self) -> list[ColumnElement[Any]]:
        """Return what the runs are sorted by."""
        match self.field:
            case RunOrderField.CREATED_AT:
                return [runs.c.id]
            case RunOrderField.FINISHED_AT:
                return [runs.c.finished_at, runs.c.id]
            case RunOrderField.DURATION:
                return [DURATION, runs.c.id]

    def position(self, run: Run) -> str:
        """Return the position of a run that the order has, for a cursor."""
        if self.field is RunOrderField.CREATED_AT:
            return run.id
        assert run.finished_at is not None
        since = _EPOCH if self.field is RunOrderField.FINISHED_AT else run.started_at
        assert since is not None
        return f"{self.field}:{(run.finished_at - since) // _MICROSECOND}:{run.id}"

    def checked(self, arguments: PageArguments) -> "RunRange":
        """Return the part of the list that a client asks for.

        Raises Invalid as `PageArguments.checked` does, also for a cursor of another order.
        """
        for name, cursor in (("after", arguments.after), ("before", arguments.before)):
            if cursor is not None:
                self._check_cursor(cursor, name)
        after, before = (None if one is None else cursor_text(one) for one in (arguments.after, arguments.before))
        return RunRange(arguments.checked_count(), after, before, arguments.last is not None, self)

    def _check_cursor(self, cursor: str, argument: str) -> None:
        if self.field is RunOrderField.CREATED_AT:
            decode_cursor(cursor, Prefix.RUN, argument)
            return
        parts = _POSITION.fullmatch(cursor_text(cursor))
        if parts is None or parts["field"] != self.field:
            raise bad_cursor(argument)

    def values(self, position: str) -> list[ColumnElement[Any]]:
        """Return the values of `key` at a position."""
        if self.field is RunOrderField.CREATED_AT:
            return [literal(position, Text)]
        _, value, id = position.split(":")
        since = timedelta(microseconds=int(value))
        if self.field is RunOrderField.FINISHED_AT:
            return [literal(_EPOCH + since, DateTime(timezone=True)), literal(id, Text)]
        return [literal(since, Interval), literal(id, Text)]


NEWEST_FIRST = RunOrder()


@dataclass(frozen=True, slots=True)
class RunRange(PageRange):
    """A part of a list of runs in an order."""

    sort: RunOrder = NEWEST_FIRST

    @property
    def is_newest_first(self) -> bool:
        return self.sort == NEWEST_FIRST

    def of(self, query: Select[Any], id: ColumnElement[Any] = runs.c.id) -> Select[Any]:
        """Limit a query of runs to those that the order has, between the cursors."""
        query, key = query.where(*self.sort.conditions()), tuple_(*self.sort.key())
        is_descending = self.sort.direction is OrderDirection.DESC
        if self.after is not None:
            position = tuple_(*self.sort.values(self.after))
            query = query.where(key < position if is_descending else key > position)
        if self.before is not None:
            position = tuple_(*self.sort.values(self.before))
            query = query.where(key > position if is_descending else key < position)
        return query

    def ordered(self, query: Select[Any]) -> Select[Any]:
        """Sort a query of runs in the order of reading."""
        is_descending = (self.sort.direction is OrderDirection.DESC) is not self.is_backward
        return query.order_by(*(one.desc() if is_descending else one.asc() for one in self.sort.key()))

    def position(self, item: Any) -> str:
        return self.sort.position(item)
