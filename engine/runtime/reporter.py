"""What one visit of a node tells while it runs: how far it is, the text it writes, what it took of a model.

All of it may be lost with the process: the visit runs again then. What counts is told once more when the node settles.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any, Protocol

from engine.events import EventData, NodeChange, OutputDelta, RunError, Usage
from engine.runtime.ports import Entry, Journal
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.states import NodeStatus

PROGRESS_INTERVAL_S = 0.1
"""The least time between two progress events of one node."""
KEEP_INTERVAL_S = 1.0
KEEP_GROWTH = 1.25
"""Streamed text is kept when it has grown by a quarter: all that is ever written of it is a few times its length."""
TEXT_LIMIT = 1024 * 1024
"""Characters of streamed text that are kept; what follows is shown live alone."""


class Telling(Protocol):
    """Who hears what a node tells."""

    def progress(self, fraction: float, message: str | None) -> None: ...
    def text(self, text: str) -> None: ...
    def add_usage(self, usage: Usage) -> None: ...
    def post(self, at: datetime, what: EventData) -> None: ...


class NodeReporter:
    def __init__(self, info: RunInfo, node_id: str, visit: int, memory: RunState, journal: Journal) -> None:
        self._facts, self._node_id, self._visit = info, node_id, visit
        self._memory, self._journal = memory, journal
        self._attempt = 1
        self._next_progress = self._next_keep = 0.0
        self._length = self._kept = 0

    def progress(self, fraction: float, message: str | None) -> None:
        """At most one each PROGRESS_INTERVAL_S gets through; the node's end tells the last one."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_progress:
            self._next_progress = now + PROGRESS_INTERVAL_S
            self._tell(progress=fraction, message=message)

    def text(self, text: str) -> None:
        offset, self._length = self._length, self._length + len(text)
        so_far = self._memory.state(self._node_id).partial_output or ""
        if len(so_far) < TEXT_LIMIT:
            self._memory.evolve(self._node_id, partial_output=(so_far + text)[:TEXT_LIMIT])
        self._journal.stream(self._facts.id, OutputDelta(self._node_id, self._visit, self._attempt, offset, text))
        now = asyncio.get_running_loop().time()
        if now >= self._next_keep and min(self._length, TEXT_LIMIT) >= self._kept * KEEP_GROWTH + 1:
            self._next_keep, self._kept = now + KEEP_INTERVAL_S, self._length
            self._tell()

    def add_usage(self, usage: Usage) -> None:
        """Adds to what the visit has taken so far, all attempts together."""
        before = self._memory.state(self._node_id).usage
        self._memory.evolve(self._node_id, usage=usage if before is None else before + usage)

    def retrying(self, number: int, error: RunError, pause: float) -> None:
        message = f"attempt {number} failed: {error.message}; the next in {pause:g} s"
        self._tell(status=NodeStatus.RETRYING, attempt=number, error=error, message=message)

    def again(self, number: int) -> None:
        """The next attempt begins, and writes its text from the start."""
        self._attempt, self._length, self._kept = number, 0, 0
        self._tell(status=NodeStatus.RUNNING, attempt=number, message=None, partial_output=None)

    def post(self, at: datetime, what: EventData) -> None:
        self._journal.post(Entry(self._facts.id, self._facts.epoch, self._facts.lineage, [(at, what)]))

    def _tell(self, **changes: Any) -> None:
        self.post(datetime.now(UTC), NodeChange(self._memory.evolve(self._node_id, **changes)))
