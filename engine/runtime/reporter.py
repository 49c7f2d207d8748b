"""Reports of a running visit of a node: progress, text, usage and log records.

A crash may lose the last reports, and then the visit runs again. All durable values are committed
once more when the node settles.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any, Protocol

from engine.events import EventData, NodeChange, OutputDelta, Usage
from engine.runtime.ports import Entry, Journal
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.states import NodeStatus

PROGRESS_INTERVAL_S = 0.1
"""The least time between two progress events of a node, in seconds."""
TEXT_INTERVAL_S = 1.0
"""The least time between two events with the streamed text of a node, in seconds."""
TEXT_GROWTH = 1.25
"""How much longer the text must be for the next such event. Each event contains the whole text, so
exponential growth limits the bytes written to a few times the length of the text.
"""
TEXT_LIMIT = 1024 * 1024
"""The number of characters of streamed text that are stored. Live readers get the rest as well."""

NO_TEXT: dict[str, Any] = {"partial_output": None, "thinking": None, "finish_reason": None}
"""The fields of a model's answer at the beginning of an attempt."""


class Reporter(Protocol):
    """The receiver of the reports of one visit."""

    def progress(self, fraction: float, message: str | None) -> None: ...
    def text(self, text: str) -> None: ...
    def thinking(self, text: str) -> None: ...
    def finish_reason(self, reason: str | None) -> None: ...
    def add_usage(self, usage: Usage) -> None: ...
    def post(self, at: datetime, data: EventData) -> None: ...
    def end_attempt(self) -> None: ...


class NodeReporter:
    """Writes the reports of one attempt to the state of the run and to the journal."""

    def __init__(
        self, info: RunInfo, node_id: str, visit: int, state: RunState, journal: Journal, attempt: int = 1
    ) -> None:
        self._info, self._node_id, self._visit, self._attempt = info, node_id, visit, attempt
        self._state, self._journal = state, journal
        self._next_progress_at = self._next_text_at = 0.0
        self._length = self._published_length = 0
        self._late_progress: tuple[float, str | None] | None = None
        """The last report of progress, if it came too early to be published."""
        self._timer: asyncio.TimerHandle | None = None

    def progress(self, fraction: float, message: str | None) -> None:
        """Publish progress, at most once in PROGRESS_INTERVAL_S.

        The last value is published when the interval is over: the next one may follow an hour later.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next_progress_at:
            self._publish_progress(fraction, message)
        else:
            self._late_progress = fraction, message
            self._timer = self._timer or loop.call_at(self._next_progress_at, self._publish_late_progress)

    def _publish_progress(self, fraction: float, message: str | None) -> None:
        self._late_progress = None
        self._next_progress_at = asyncio.get_running_loop().time() + PROGRESS_INTERVAL_S
        self._publish(progress=fraction, message=message)

    def _publish_late_progress(self) -> None:
        self._timer = None
        if self._late_progress is not None and self._is_running:
            self._publish_progress(*self._late_progress)

    @property
    def _is_running(self) -> bool:
        """Whether the state of the node is that of this attempt."""
        state = self._state.node_state(self._node_id)
        return (state.status, state.visits, state.attempt) == (NodeStatus.RUNNING, self._visit, self._attempt)

    def end_attempt(self) -> None:
        """Set the last progress, which the next event of the node contains."""
        if self._timer is not None:
            self._timer.cancel()
        if self._late_progress is not None and self._is_running:
            fraction, message = self._late_progress
            self._state.evolve(self._node_id, progress=fraction, message=message)
        self._timer = self._late_progress = None

    def text(self, text: str) -> None:
        """Stream text to live readers, and store it from time to time."""
        offset, self._length = self._length, self._length + len(text)
        stored = self._state.node_state(self._node_id).partial_output or ""
        if len(stored) < TEXT_LIMIT:
            self._state.evolve(self._node_id, partial_output=(stored + text)[:TEXT_LIMIT])
        self._journal.stream(self._info.id, OutputDelta(self._node_id, self._visit, self._attempt, offset, text))
        self._publish_text()

    def thinking(self, text: str) -> None:
        """Store the thinking of a model from time to time, as the text."""
        stored = self._state.node_state(self._node_id).thinking or ""
        if len(stored) < TEXT_LIMIT:
            self._state.evolve(self._node_id, thinking=(stored + text)[:TEXT_LIMIT])
            self._publish_text()

    def _publish_text(self) -> None:
        """Publish the stored text and thinking if it is time for it."""
        now, state = asyncio.get_running_loop().time(), self._state.node_state(self._node_id)
        length = len(state.partial_output or "") + len(state.thinking or "")
        if now >= self._next_text_at and length >= self._published_length * TEXT_GROWTH + 1:
            self._next_text_at, self._published_length = now + TEXT_INTERVAL_S, length
            self._publish()

    def finish_reason(self, reason: str | None) -> None:
        """Record why a model ended its answer. The next event of the node contains it."""
        self._state.evolve(self._node_id, finish_reason=reason)

    def add_usage(self, usage: Usage) -> None:
        """Add to the usage of the visit, over all its attempts."""
        before = self._state.node_state(self._node_id).usage
        self._state.evolve(self._node_id, usage=usage if before is None else before + usage)

    def post(self, at: datetime, data: EventData) -> None:
        info = self._info
        self._journal.post(Entry(info.id, info.epoch, info.lineage, [(at, data)], progress=self._state.progress))

    def _publish(self, **changes: Any) -> None:
        self.post(datetime.now(UTC), NodeChange(self._state.evolve(self._node_id, **changes)))
