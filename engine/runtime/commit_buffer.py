"""The entries of one take-up: what is gathered for the next one, and those that are given to the journal and not yet durable.

A crash loses these and nothing else. What has happened is handed over once, in the order in which it happened.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from datetime import UTC, datetime

from engine.events import CheckpointSaved, RunError, StatusChange
from engine.runtime.ports import CheckpointRecord, Entry, Journal, PendingWrite, RunChange, StatusMoved
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.runtime.waits import Waits
from engine.states import RunStatus

MAX_AHEAD = 50
"""Waves that the graph may be ahead of the journal: bounds what a crash loses of pure work, and what is kept in memory."""


class CommitBuffer:
    def __init__(self, info: RunInfo, memory: RunState, waits: Waits, journal: Journal) -> None:
        self._facts, self._memory, self._waits, self._journal = info, memory, waits, journal
        self._rows: list[PendingWrite] = []
        self._under_way: list[Awaitable[int]] = []

    def gather(self, rows: Iterable[PendingWrite]) -> None:
        """What makes durable that something has entered the head; goes with the next entry."""
        self._rows += rows

    @property
    def has_gathered(self) -> bool:
        return bool(self._memory.wave or self._rows)

    @property
    def is_far_ahead(self) -> bool:
        return len(self._under_way) >= MAX_AHEAD

    def commit(self, record: CheckpointRecord | None, failure: RunError | None) -> None:
        """Gives the journal one entry for all that was gathered, and does not wait for it."""
        self._under_way.append(self._journal.commit(self._entry(record, failure)))

    async def change(
        self, record: CheckpointRecord | None, change: RunChange, failure: RunError | None
    ) -> RunStatus | None:
        """As `commit`, with a change of the run's status, and waits. None: it is so now; else how the run stands instead.

        A change that loses is left out and the rest of the entry committed: it did happen.
        """
        if change.status.is_terminal:
            self._waits.abandon()
        entry = self._entry(record, failure)
        entry.change = change
        told = StatusChange(change.status, change.expected, change.message or "")
        entry.events_to_write.append((datetime.now(UTC), told))
        self._under_way.append(self._journal.commit(entry))
        try:
            await self.land()
        except StatusMoved as moved:
            self._under_way = []
            entry.events_to_write.pop()
            entry.change = None
            await self._journal.commit(entry)
            return moved.status
        return None

    async def land(self) -> None:
        """Waits until all that happened so far is durable. In order: when one fails, all after it have failed too."""
        for landed in self._under_way:
            await landed
        self._under_way = []

    async def close(self) -> None:
        """Waits until nothing is under way, however that ends: the run is given up or it rests."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _entry(self, record: CheckpointRecord | None, failure: RunError | None) -> Entry:
        info, events_to_write = self._facts, self._memory.take()
        if record is not None:
            events_to_write.append((datetime.now(UTC), CheckpointSaved(record.id, record.step)))
        opened, settled = self._waits.take()
        rows, self._rows = self._rows, []
        return Entry(
            info.id,
            info.epoch,
            info.lineage,
            events_to_write,
            record,
            rows,
            opened,
            settled,
            progress=self._memory.progress,
            failure=failure,
        )
