"""Who waits for a run to rest, in this process: one listener for all of them, on a channel that says no more than that.

A word may be lost; so nobody waits longer than a moment without looking into Postgres, and a word says only that it is worth it.
"""

import asyncio
from collections import OrderedDict
from contextlib import aclosing, suppress

from persistence.events.publisher import RESTS
from persistence.feed.pubsub import Channels

SILENCE_S = (1.0, 5.0)
"""How long one look into Postgres is from the next while nothing is heard: longer each time."""
REMEMBERED = 1000
"""Runs that rested before anybody waited for them: a quick one may be over before its caller gets so far."""


class RestWaiter:
    """Listens from the first `heard` on; end with `await close()`."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._rested: OrderedDict[str, None] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> frozenset[str]:
        """The runs that somebody waits for."""
        return frozenset(self._waiting)

    @property
    def remembered(self) -> frozenset[str]:
        return frozenset(self._rested)

    async def heard(self, run_id: str, within_s: float) -> None:
        """Until the run is said to rest, or something may have been missed, or `within_s` is over."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name="rests")
        if run_id in self._rested:
            del self._rested[run_id]
            return
        event = asyncio.Event()
        self._waiting.setdefault(run_id, set()).add(event)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await event.wait()
        finally:
            waiting = self._waiting[run_id]
            waiting.discard(event)
            if not waiting:
                del self._waiting[run_id]

    async def _listen(self) -> None:
        async with aclosing(self._channels.listen(RESTS)) as messages:
            async for run_id in messages:
                if run_id is None:
                    for told in list(self._waiting):
                        self._tell(told)
                elif run_id in self._waiting:
                    self._tell(run_id)
                else:
                    self._remember(run_id)

    def _tell(self, run_id: str) -> None:
        for event in self._waiting[run_id]:
            event.set()

    def _remember(self, run_id: str) -> None:
        self._rested[run_id] = None
        if len(self._rested) > REMEMBERED:
            self._rested.popitem(last=False)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
