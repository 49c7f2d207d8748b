"""Shares the event loop between long pieces of work and everything else.

The event loop runs all callbacks that are ready, then polls its sockets: one pass. Work that
computes in this thread, such as the completion of a large response, takes at most SLICE_S of each
pass, all such work together. Then it waits for its turn in a later pass. Projects take turns, and so do
the callers and runs of a project (turns.py). Nothing is stored.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterable
from time import thread_time
from typing import TypeVar
from weakref import WeakKeyDictionary

from engine.isolation.turns import FairQueue, current_owner

ItemT = TypeVar("ItemT")
SLICE_S = 0.01
"""Seconds of CPU time in one pass of the event loop that long work may use."""
WOKEN = 256
"""Waiters that are woken in one pass, so that the loads of many of them become one statement."""


class LoopShare:
    """The share of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._until: float | None = None
        """The CPU time of this thread at which the slice of this pass ends; None before the first work."""
        self._waiting = FairQueue[asyncio.Future[None]](share=sys.maxsize)

    @property
    def is_used_up(self) -> bool:
        """Whether long work has used its slice of this pass."""
        if self._until is None:
            self._begin()
            return False
        return thread_time() > self._until

    async def turn(self) -> None:
        """Wait for a later pass while the slice of this one is used up."""
        if not self.is_used_up:
            return
        owner = current_owner.get()._replace(limit=None)
        put = self._waiting.put
        while self.is_used_up:
            waiter = self._loop.create_future()
            put(owner, waiter)
            # Who is woken in vain keeps its place before those that came later.
            put = self._waiting.put_back
            await waiter

    def _begin(self) -> None:
        self._until = thread_time() + SLICE_S
        self._loop.call_soon(self._end_pass)

    def _end_pass(self) -> None:
        """Begin the slice of the next pass, and let waiters continue until it is used up."""
        self._until = None
        if not self._waiting:
            return
        self._begin()
        for _ in range(WOKEN):
            taken = self._waiting.take()
            if taken is None:
                return
            project, waiter = taken
            self._waiting.give_back(project)
            if not waiter.done():
                waiter.set_result(None)


_shares: "WeakKeyDictionary[asyncio.AbstractEventLoop, LoopShare]" = WeakKeyDictionary()


def loop_share() -> LoopShare:
    """Return the share of the running event loop."""
    loop = asyncio.get_running_loop()
    share = _shares.get(loop)
    if share is None:
        share = _shares[loop] = LoopShare(loop)
    return share


async def in_turns(items: Iterable[ItemT]) -> AsyncGenerator[ItemT]:
    """Yield items whose processing takes long in total, and wait for a turn whenever it is due."""
    share = loop_share()
    for item in items:
        if share.is_used_up:
            await share.turn()
        yield item
