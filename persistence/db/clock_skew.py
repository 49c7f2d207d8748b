"""`ClockSkew`: the difference between this host's clock and the database's clock.

All moments are stored by the database's clock, which decides when they are due. Nodes and executors
use the clock of their host. Where the two differ, the journal and the saver convert the moments of
waits on the way in and out. Without that, a worker whose clock is behind would be woken again and
again for a timer that is due by only one of the clocks.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from engine.runtime.ports import Entry, OpenWait

log = structlog.get_logger(__name__)

TOLERATED = timedelta(seconds=3)
"""A smaller difference counts as none.

A reply takes time, and executors wait in the process for short timers.
"""
MAX_REPLY_S = 1.0
"""A reply that took longer is too inaccurate a measure of the database's time."""


class ClockSkew:
    """The measured difference of one process.

    A host moment plus `offset` is the same moment by the database's clock.
    """

    def __init__(self) -> None:
        self.offset = timedelta()
        self._is_measured = False

    def measure(self, database_now: datetime, reply_s: float) -> None:
        """Update the offset from the database's `now()`.

        `reply_s` is how long that statement took, in seconds. The result of a slow one is used only
        if there is no better one, and if the difference is larger than its error.
        """
        difference = database_now - datetime.now(UTC)
        is_slow = reply_s > MAX_REPLY_S
        if is_slow and (self._is_measured or abs(difference) < TOLERATED + timedelta(seconds=reply_s)):
            return
        self._is_measured = not is_slow
        offset = difference if abs(difference) > TOLERATED else timedelta()
        if bool(offset) != bool(self.offset):
            log.warning("journal.clock_skew", offset_s=round(offset.total_seconds(), 1))
        self.offset = offset


def to_database_clock(entry: Entry, offset: timedelta) -> Entry:
    """Convert the waits of an entry.

    Its events keep the host's time, because it is only shown to people.
    """
    if not offset:
        return entry
    change = entry.change
    if change is not None and change.wake_at is not None:
        change = replace(change, wake_at=change.wake_at + offset)
    return replace(entry, opened_waits=[shift_wait(wait, offset) for wait in entry.opened_waits], change=change)


def shift_wait(wait: OpenWait, offset: timedelta) -> OpenWait:
    """Add `offset` to the moments of a wait."""
    if not offset:
        return wait
    return replace(wait, since=wait.since + offset, until=None if wait.until is None else wait.until + offset)
