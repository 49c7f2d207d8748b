"""Waits until runs of this process's callers rest: terminal, PAUSED or WAITING.

One Redis subscription serves all waiters. Messages may be lost, so each waiter also polls Postgres
every 1 to 5 s, and a message only says that a poll is worthwhile. Used by resolvers that answer
with a finished run.
"""

import asyncio
from contextlib import aclosing, suppress

from cachetools import FIFOCache

from persistence.events.publisher import IDLE_RUNS_CHANNEL
from persistence.feed.pubsub import ChannelReader

POLL_S = (1.0, 5.0)
"""The first and the longest pause between two polls of Postgres, while no message arrives."""
RECENT_RUNS = 1000
"""How many runs that rested without a waiter are remembered: a quick run may rest before its caller
waits for it."""


class RestWaiter:
    """Subscribes at the first `wait`; end it with `await close()`."""

    def __init__(self, channels: ChannelReader) -> None:
        self._channels = channels
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._recent = FIFOCache[str, None](RECENT_RUNS)
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> frozenset[str]:
        """The ids of the runs that have a waiter."""
        return frozenset(self._waiting)

    @property
    def recent(self) -> frozenset[str]:
        """The ids of the runs that rested before they had a waiter."""
        return frozenset(self._recent)

    async def wait(self, run_id: str, timeout_s: float) -> None:
        """Wait until the run may rest: its message arrives, messages are missing, or time is up."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name="rest_waiter")
        if run_id in self._recent:
            del self._recent[run_id]
            return
        event = asyncio.Event()
        self._waiting.setdefault(run_id, set()).add(event)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await event.wait()
        finally:
            events = self._waiting[run_id]
            events.discard(event)
            if not events:
                del self._waiting[run_id]

    async def _listen(self) -> None:
        async with aclosing(self._channels.listen(IDLE_RUNS_CHANNEL)) as messages:
            async for run_id in messages:
                if run_id is None:
                    for waiting in list(self._waiting):
                        self._notify(waiting)
                elif run_id in self._waiting:
                    self._notify(run_id)
                else:
                    self._recent[run_id] = None

    def _notify(self, run_id: str) -> None:
        for event in self._waiting[run_id]:
            event.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
