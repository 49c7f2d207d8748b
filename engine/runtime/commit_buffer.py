"""The commit buffer of one claimed run: it passes collected changes to the journal as entries.

A crash loses the entries that are not durable yet and nothing else. Each change is passed on once,
in the order in which it happened.
"""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime

from engine.events import CheckpointSaved, RunError, StatusChange
from engine.runtime.ports import CheckpointRecord, Entry, Journal, RunChange, StatusMoved
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.runtime.waits import Waits
from engine.states import RunStatus

MAX_IN_FLIGHT = 50
"""The number of entries that the graph may be ahead of the journal. It limits how much pure work a
crash loses, and how much memory the entries take.
"""


class CommitBuffer:
    """The changes for the next entry, and the entries whose commit has not ended."""

    def __init__(self, info: RunInfo, state: RunState, waits: Waits, journal: Journal) -> None:
        self._info, self._state, self._waits, self._journal = info, state, waits, journal
        self._in_flight: list[Awaitable[int]] = []

    @property
    def has_changes(self) -> bool:
        """Whether there is something to commit."""
        return bool(self._state.events)

    @property
    def is_full(self) -> bool:
        """Whether the graph must wait for the journal."""
        return len(self._in_flight) >= MAX_IN_FLIGHT

    def commit(self, record: CheckpointRecord | None, failure: RunError | None) -> None:
        """Pass one entry with all changes to the journal, without waiting for it."""
        self._in_flight.append(self._journal.commit(self._entry(record, failure)))

    async def commit_status(
        self, record: CheckpointRecord | None, change: RunChange, failure: RunError | None
    ) -> RunStatus | None:
        """Commit all changes with a change of the run's status, and wait until both are durable.

        If somebody else has changed the status before, the status change is left out and the rest
        of the entry is committed, because it did happen.

        Returns:
            None if the status was changed; else the status that the run has instead.
        """
        if change.status.is_terminal:
            self._waits.abandon()
        entry = self._entry(record, failure)
        entry.change = change
        if change.status is RunStatus.COMPLETED:
            entry.progress = 1.0
        status_event = StatusChange(change.status, change.expected, change.message or "")
        entry.events_to_write.append((datetime.now(UTC), status_event))
        self._in_flight.append(self._journal.commit(entry))
        try:
            await self.flush()
        except StatusMoved as moved:
            self._in_flight = []
            entry.events_to_write.pop()
            entry.change = None
            await self._journal.commit(entry)
            return moved.status
        return None

    async def flush(self) -> None:
        """Wait until all entries are durable.

        They are in order: if one fails, all later ones have failed too.
        """
        for commit in self._in_flight:
            await commit
        self._in_flight = []

    async def close(self) -> None:
        """Wait until no commit is in flight, and ignore failures."""
        await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _entry(self, record: CheckpointRecord | None, failure: RunError | None) -> Entry:
        info, events = self._info, self._state.take_events()
        if record is not None:
            events.append((datetime.now(UTC), CheckpointSaved(record.id, record.step)))
        opened_waits, settled_wait_ids = self._waits.take_changes()
        messages, self._state.messages = self._state.messages, []
        return Entry(
            info.id,
            info.epoch,
            info.lineage,
            events,
            record,
            opened_waits,
            settled_wait_ids,
            progress=self._state.progress,
            failure=failure,
            messages=messages,
        )
