"""`JournalBuffer`: the entries that Postgres has not committed yet.

The journal takes them in order and in groups. Entries that a caller waits for are bounded by their
callers; posted entries, which have no waiting caller, are bounded here. A crash loses the whole
buffer: no entry in it has been confirmed to its caller.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from engine.events import EventData, LogRecorded, NodeChange
from engine.runtime.ports import Entry

MAX_POSTED = 64 * 1024 * 1024
"""Approximate bytes of posted entries while Postgres is unavailable.

New ones beyond that are dropped and counted.
"""
EVENT_SIZE = 2_000
"""Approximate bytes of an event without its texts."""
MAX_GROUP = 500
"""Entries in one group. It bounds the statement, not the throughput."""


@dataclass(slots=True)
class BufferedEntry:
    """An entry, and the future of the caller that waits for its commit, if there is one."""

    entry: Entry
    future: asyncio.Future[int] | None
    size: int = 0
    """Approximate bytes of a posted entry; 0 for an entry that a caller waits for."""


class JournalBuffer:
    """A queue of entries in the order in which they were added."""

    def __init__(self) -> None:
        self._queue: deque[BufferedEntry] = deque()
        self._posted = 0
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, entry: Entry, future: asyncio.Future[int]) -> None:
        """Add an entry whose caller waits for `future`."""
        self._queue.append(BufferedEntry(entry, future))

    def post(self, entry: Entry) -> None:
        """Add an entry that no caller waits for, or drop it if MAX_POSTED is reached."""
        buffered = BufferedEntry(entry, None, _size_of(entry))
        if self._posted + buffered.size > MAX_POSTED:
            self._dropped += 1
            return
        self._posted += buffered.size
        self._queue.append(buffered)

    def take_dropped(self) -> int:
        """Return how many entries were dropped since the last call."""
        count, self._dropped = self._dropped, 0
        return count

    def next_group(self, refusals: Mapping[tuple[str, int], Exception]) -> list[list[BufferedEntry]]:
        """Take the next group from the queue.

        Args:
            refusals: The error of each run and epoch with a refused entry; later entries of these
                are answered with it.

        Returns:
            The entries by run, in order. An entry with a status change, which may be refused, is
            the last one of its run; the entries after it wait for the next group.
        """
        group: dict[str, list[BufferedEntry]] = {}
        closed: set[str] = set()
        later: list[BufferedEntry] = []
        for _ in range(min(len(self._queue), MAX_GROUP)):
            buffered = self._queue.popleft()
            self._posted -= buffered.size
            run_id, part = buffered.entry.run_id, group.get(buffered.entry.run_id)
            refusal = refusals.get((run_id, buffered.entry.epoch))
            if refusal is not None:
                resolve([buffered], refusal)
            elif run_id in closed or (part and part[0].entry.epoch != buffered.entry.epoch):
                closed.add(run_id)
                later.append(buffered)
                self._posted += buffered.size
            else:
                group.setdefault(run_id, []).append(buffered)
                if buffered.entry.change is not None:
                    closed.add(run_id)
        self._queue.extendleft(reversed(later))
        return list(group.values())


def resolve(part: Sequence[BufferedEntry], result: int | Exception) -> None:
    """Answer the callers of these entries with the run's last event number, or with an error."""
    for buffered in part:
        future = buffered.future
        if future is None or future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _size_of(entry: Entry) -> int:
    return sum(EVENT_SIZE + _text_size(data) for _, data in entry.events_to_write)


def _text_size(data: EventData) -> int:
    if isinstance(data, LogRecorded):
        return len(data.message) + (len(orjson.dumps(data.fields)) if data.fields else 0)
    return len(data.state.partial_output or "") if isinstance(data, NodeChange) else 0
