"""What runs have done and Postgres has not taken yet, in order, handed on in groups. What nobody waits for is bounded here."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from engine.events import EventData, LogRecorded, NodeChange
from engine.runtime.ports import Entry

MAX_POSTED = 64 * 1024 * 1024
"""Bytes, about, of posted entries that wait while Postgres is away: beyond that, new ones are dropped and counted."""
ROUGHLY = 2_000
"""Bytes of a happening without its texts."""
MAX_GROUP = 500
"""Entries in one group: bounds the statement, not the throughput."""


@dataclass(slots=True)
class Waiting:
    entry: Entry
    future: asyncio.Future[int] | None
    size: int = 0
    """Of a posted entry. Those that somebody waits for are bounded by that."""


class JournalBuffer:
    def __init__(self) -> None:
        self._queue: deque[Waiting] = deque()
        self._posted = 0
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, entry: Entry, future: asyncio.Future[int]) -> None:
        self._queue.append(Waiting(entry, future))

    def post(self, entry: Entry) -> None:
        """Takes an entry that nobody waits for, if there is room."""
        waiting = Waiting(entry, None, _size_of(entry))
        if self._posted + waiting.size > MAX_POSTED:
            self._dropped += 1
            return
        self._posted += waiting.size
        self._queue.append(waiting)

    def take_dropped(self) -> int:
        """How many there was no room for, since it was asked last."""
        count, self._dropped = self._dropped, 0
        return count

    def next_group(self, refusals: Mapping[tuple[str, int], Exception]) -> list[list[Waiting]]:
        """By run, in order. An entry with a status change is the last of its run's part: the next ones wait a group.

        What comes after a refused entry, by run and epoch, is answered with its refusal.
        """
        group: dict[str, list[Waiting]] = {}
        closed: set[str] = set()
        later: list[Waiting] = []
        for _ in range(min(len(self._queue), MAX_GROUP)):
            waiting = self._queue.popleft()
            self._posted -= waiting.size
            run_id, part = waiting.entry.run_id, group.get(waiting.entry.run_id)
            refusal = refusals.get((run_id, waiting.entry.epoch))
            if refusal is not None:
                answer([waiting], refusal)
            elif run_id in closed or (part and part[0].entry.epoch != waiting.entry.epoch):
                closed.add(run_id)
                later.append(waiting)
                self._posted += waiting.size
            else:
                group.setdefault(run_id, []).append(waiting)
                if waiting.entry.change is not None:
                    closed.add(run_id)
        self._queue.extendleft(reversed(later))
        return list(group.values())


def answer(part: Sequence[Waiting], answer: int | Exception) -> None:
    for waiting in part:
        future = waiting.future
        if future is None or future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _size_of(entry: Entry) -> int:
    """About what an entry takes in memory: its texts, and something for the rest."""
    return sum(ROUGHLY + _text_of(what) for _, what in entry.events_to_write)


def _text_of(what: EventData) -> int:
    if isinstance(what, LogRecorded):
        return len(what.message) + (len(orjson.dumps(what.fields)) if what.fields else 0)
    return len(what.state.partial_output or "") if isinstance(what, NodeChange) else 0
