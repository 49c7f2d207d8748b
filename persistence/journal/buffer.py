"""`JournalBuffer`: the entries that Postgres has not committed yet.

The journal takes them in order and in groups. Entries that a caller waits for are bounded by their
callers; posted entries, which have no waiting caller, are bounded here. A crash loses the whole
buffer: no entry in it has been confirmed to its caller.

Entries with large values have a lane of their own. To write 8 MiB takes a hundred times as long as an
ordinary group, so the entries of other runs would wait behind them. The entries of one run are taken
in order: while one of them is being written, or waits, in one lane, the other lane takes none.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import orjson

from engine.events import EventData, LogRecorded, NodeChange
from engine.runtime.ports import Entry
from engine.values.large_values import LARGE, is_large

MAX_POSTED = 64 * 1024 * 1024
"""Approximate bytes of posted entries while Postgres is unavailable.

New ones beyond that are dropped and counted.
"""
EVENT_SIZE = 2_000
"""Approximate bytes of an event without its texts."""
MAX_GROUP = 500
"""Entries in one group. It bounds the statement, not the throughput."""
MAX_WEIGHT = 2 * 1024 * 1024
"""The weight after which a group ends, so that no group keeps the others waiting for long."""
EVENT_WEIGHT = 1_000
"""The weight of an event. An entry weighs as much as its events and the bytes of its checkpoint."""


class Lane(Enum):
    """Entries that are written one after another. Those of the two lanes are written side by side."""

    QUICK = "quick"
    LARGE = "large"

    @property
    def other(self) -> "Lane":
        return Lane.LARGE if self is Lane.QUICK else Lane.QUICK


@dataclass(slots=True)
class BufferedEntry:
    """An entry, and the future of the caller that waits for its commit, if there is one."""

    entry: Entry
    future: asyncio.Future[int] | None
    size: int = 0
    """Approximate bytes of a posted entry; 0 for an entry that a caller waits for."""
    weight: int = EVENT_WEIGHT

    @property
    def lane(self) -> Lane:
        return Lane.LARGE if self.weight >= MAX_WEIGHT else Lane.QUICK


class JournalBuffer:
    """A queue of entries in the order in which they were added."""

    def __init__(self) -> None:
        self._queue: deque[BufferedEntry] = deque()
        self._posted = 0
        self._dropped = 0
        self._in_flight: dict[Lane, frozenset[str]] = dict.fromkeys(Lane, frozenset())
        """The runs of the group that each lane writes."""
        self._large = 0
        """Entries of the large lane that wait."""

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, entry: Entry, future: asyncio.Future[int]) -> None:
        """Add an entry whose caller waits for `future`."""
        buffered = BufferedEntry(entry, future, weight=_weight_of(entry))
        self._large += buffered.lane is Lane.LARGE
        self._queue.append(buffered)

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

    @property
    def is_drained(self) -> bool:
        """Whether nothing waits, and nothing is being written."""
        return not self._queue and not any(self._in_flight.values())

    def may_have(self, lane: Lane) -> bool:
        """Whether a group of a lane may wait."""
        return bool(self._queue) if lane is Lane.QUICK else self._large > 0

    def end_group(self, lane: Lane) -> None:
        """Let the other lane take entries of the runs of the last group, which is written."""
        self._in_flight[lane] = frozenset()

    def next_group(
        self, refusals: Mapping[tuple[str, int], Exception], lane: Lane = Lane.QUICK
    ) -> list[list[BufferedEntry]]:
        """Take the next group of a lane from the queue, after the end of the last one.

        Args:
            refusals: The error of each run and epoch with a refused entry; later entries of these
                are answered with it.
            lane: The lane.

        Returns:
            The entries by run, in order. An entry with a status change, which may be refused, is
            the last one of its run; the entries after it wait for the next group.
        """
        group: dict[str, list[BufferedEntry]] = {}
        if not self.may_have(lane):
            return []
        closed, later = set(self._in_flight[lane.other]), list[BufferedEntry]()
        count = weight = 0
        while self._queue and count < MAX_GROUP and weight < MAX_WEIGHT:
            buffered = self._queue.popleft()
            run_id, part = buffered.entry.run_id, group.get(buffered.entry.run_id)
            refusal = refusals.get((run_id, buffered.entry.epoch))
            is_other = buffered.lane is not lane or (part and part[0].entry.epoch != buffered.entry.epoch)
            if refusal is None and (is_other or run_id in closed):
                closed.add(run_id)
                later.append(buffered)
                continue
            self._posted -= buffered.size
            self._large -= buffered.lane is Lane.LARGE
            if refusal is not None:
                resolve([buffered], refusal)
                continue
            group.setdefault(run_id, []).append(buffered)
            count, weight = count + 1, weight + buffered.weight
            if buffered.entry.change is not None:
                closed.add(run_id)
        self._queue.extendleft(reversed(later))
        self._in_flight[lane] = frozenset(group)
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


def _weight_of(entry: Entry) -> int:
    """Return how much work it is to write an entry; MAX_WEIGHT or more for large values."""
    data = 0 if entry.checkpoint is None else len(entry.checkpoint.data)
    has_large = data > LARGE or (entry.change is not None and is_large(entry.change.output))
    if has_large or any(_has_large_value(data) for _, data in entry.events_to_write):
        return MAX_WEIGHT + data
    data += sum(len(appended.message.content) for appended in entry.messages)
    return data + EVENT_WEIGHT * len(entry.events_to_write)


def _has_large_value(data: EventData) -> bool:
    return isinstance(data, NodeChange) and (is_large(data.state.input) or is_large(data.state.output))


def _size_of(entry: Entry) -> int:
    return sum(EVENT_SIZE + _text_size(data) for _, data in entry.events_to_write)


def _text_size(data: EventData) -> int:
    if isinstance(data, LogRecorded):
        return len(data.message) + (len(orjson.dumps(data.fields)) if data.fields else 0)
    return len(data.state.partial_output or "") if isinstance(data, NodeChange) else 0
