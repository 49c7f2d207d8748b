"""The budget of one response: how many objects and how much text it may have.

The price of an operation (schema/limits) is computed before the operation runs, from assumed lengths
of lists. The budget counts what the response really has while it is made, and stops it. Resolvers
reserve long lists before they read them. A response is one execution, or one event of a subscription.
Nothing is stored.
"""

from collections.abc import Hashable
from contextvars import ContextVar
from typing import NoReturn

from persistence.problems import Limit

MAX_OBJECTS = 10_000
"""Objects of one response. Python keeps several objects for each; with more of them, a full garbage
collection would block the event loop for more than 100 ms."""
MAX_BYTES = 16 * 1024 * 1024
"""Bytes of one response as JSON, about."""
MAX_ROWS = 40_000
"""Node states that are read for one response, also where it contains only a few of them."""
OBJECTS = (
    f"The response has more than {MAX_OBJECTS:,} objects, which is the limit. Ask for fewer runs or smaller pages in "
    "one operation."
)
BYTES = (
    f"The response is larger than {MAX_BYTES // 1024 // 1024} MiB, which is the limit. Ask for smaller pages, or for "
    "large values in operations of their own."
)
ROWS = (
    f"The response needs more than {MAX_ROWS:,} node states, which is the limit. Ask for fewer runs or checkpoints in "
    "one operation."
)


class ResponseBudget:
    """What one response has used so far. Once a limit is exceeded, the whole response fails."""

    __slots__ = ("_places", "_reserved", "_rows", "is_exceeded", "objects", "size")

    def __init__(self) -> None:
        self.objects = self.size = self._reserved = self._rows = 0
        self._places: set[Hashable] = set()
        self.is_exceeded = False

    def reserve(self, count: int) -> None:
        """Check that a list of `count` objects fits, before it is read. Raises Limit."""
        self._reserved += count
        if self._reserved > MAX_OBJECTS:
            self._exceed(OBJECTS)

    def reserve_rows(self, place: Hashable, count: int) -> None:
        """Check that `count` rows may be read. The rows of one place count once. Raises Limit."""
        if place not in self._places:
            self._places.add(place)
            self._rows += count
        if self._rows > MAX_ROWS:
            self._exceed(ROWS)

    def add_object(self) -> None:
        """Count one object. Raises Limit."""
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            self._exceed(OBJECTS)

    def add_bytes(self, size: int) -> None:
        """Count the bytes of a field. Raises Limit."""
        self.size += size
        if self.size > MAX_BYTES:
            self._exceed(BYTES)

    def _exceed(self, message: str) -> NoReturn:
        self.is_exceeded = True
        raise Limit(message)


_current: ContextVar[ResponseBudget | None] = ContextVar("response_budget", default=None)


def begin_response() -> ResponseBudget:
    """Begin a response of the current task, and return its budget."""
    budget = ResponseBudget()
    _current.set(budget)
    return budget


def reserve(count: int) -> None:
    """Check that a list of `count` objects fits into the current response, before it is read. Raises Limit."""
    if (budget := _current.get()) is not None:
        budget.reserve(count)


def reserve_rows(place: Hashable, count: int) -> None:
    """Check that the current response may read `count` rows; see ResponseBudget. Raises Limit."""
    if (budget := _current.get()) is not None:
        budget.reserve_rows(place, count)


def used_by_response() -> dict[str, int]:
    """Return what the current response has used, and its limits."""
    budget = _current.get() or ResponseBudget()
    return {"objects": budget.objects, "maxObjects": MAX_OBJECTS, "bytes": budget.size, "maxBytes": MAX_BYTES}
