"""How far this host's clock is from the database's, by which all moments are stored: it says when they have come.

Nodes and drives go by their host's clock. Where the two are apart, moments are translated on the way in and out: else a worker
that is behind would be woken again and again, for a timer that has come by one clock and not by the other.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from engine.runtime.ports import Entry, OpenWait

log = structlog.get_logger(__name__)

TOLERATED = timedelta(seconds=3)
"""Taken for no difference: an answer takes its time, and a drive waits in the process for what is over soon."""
QUICK_S = 1.0
"""An answer that took longer says too little about what the time is."""


class Clocks:
    """What this process knows of the two. `apart` makes of a moment of this host the database's."""

    def __init__(self) -> None:
        self.apart = timedelta()

    def told(self, theirs: datetime, took_s: float) -> None:
        """What the database has said that the time is, in an answer that took that long."""
        if took_s > QUICK_S:
            return
        between = theirs - datetime.now(UTC)
        known = between if abs(between) > TOLERATED else timedelta()
        if bool(known) != bool(self.apart):
            log.warning("journal.clocks", apart_s=round(known.total_seconds(), 1))
        self.apart = known


def stored(entry: Entry, apart: timedelta) -> Entry:
    """The entry with its waits by the database's clock. What happened keeps the host's time: it is for people alone."""
    if not apart:
        return entry
    change = entry.change
    if change is not None and change.wake_at is not None:
        change = replace(change, wake_at=change.wake_at + apart)
    return replace(entry, waits=[moved(wait, apart) for wait in entry.waits], change=change)


def moved(wait: OpenWait, by: timedelta) -> OpenWait:
    """The same wait by another clock."""
    if not by:
        return wait
    return replace(wait, since=wait.since + by, until=None if wait.until is None else wait.until + by)
