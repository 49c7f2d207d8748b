"""What a server allows beyond roles: rates, time and number of operations, and introspection."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from persistence.caller import Caller
from persistence.problems import Limit

LONGEST_WAIT_S = 600.0
"""Seconds that a mutation may wait for a run, in addition to the time of an operation."""


class Rates(Protocol):
    """Takes the price of an operation from what a caller may use."""

    async def take(self, caller: Caller, points: int) -> None: ...


class TooManySubscriptions(Limit):
    """The caller has the maximum number of subscriptions on this server.

    The same subscription succeeds after one of them has ended.
    """

    title, status = "Too many subscriptions", 429


class SubscriptionLimit:
    """Counts the active subscriptions of this process by caller."""

    def __init__(self, per_caller: int = 1000) -> None:
        self._limit = per_caller
        self._active: Counter[str] = Counter()

    @contextmanager
    def hold(self, subject: str) -> Iterator[None]:
        """Count a subscription for the duration of the block. Raises TooManySubscriptions."""
        if self._active[subject] >= self._limit:
            raise TooManySubscriptions(
                f"{self._limit} subscriptions of this caller are active, which is the limit "
                "(TREADLE_SUBSCRIPTIONS_PER_CALLER). Complete one first."
            )
        self._active[subject] += 1
        try:
            yield
        finally:
            self._active[subject] -= 1
            if not self._active[subject]:
                del self._active[subject]


@dataclass(frozen=True, slots=True)
class OperationPolicy:
    """The policy of one server."""

    allows_introspection: bool = True
    operation_s: float = 30.0
    """Seconds that a query may take."""
    rates: Rates | None = None
    subscriptions: SubscriptionLimit = field(default_factory=SubscriptionLimit)
    project_limit: int | None = None
    """How many runs of one project all workers together execute at once."""
