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

from engine.isolation.turns import FairQueue, Owner, current_owner

ItemT = TypeVar("ItemT")
SLICE_S = 0.01
"""Seconds of CPU time in one pass of the event loop that long work may use."""
WOKEN = 256
"""Waiters that are woken in one pass, so that the loads of many of them become one statement."""


class LoopShare:
    """The share of one event loop.

    Args:
        slice_s: Seconds of CPU time in one pass that the work may use.
        woken: How many waiters are woken in one pass.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, slice_s: float = SLICE_S, woken: int = WOKEN) -> None:
        self._loop, self._slice_s, self._woken = loop, slice_s, woken
        self._until: float | None = None
        """The CPU time of this thread at which the slice of this pass ends; None before the first work."""
        self._waiting = FairQueue[asyncio.Future[None]](share=sys.maxsize)
        self._woken_in_vain: list[tuple[Owner, asyncio.Future[None]]] = []
        """Those that were woken in this pass and found the slice used up, in this order."""

    @property
    def is_used_up(self) -> bool:
        """Whether long work has used its slice of this pass."""
        if self._until is None:
            self._begin()
            return False
        return thread_time() > self._until

    async def turn(self, owner: Owner | None = None) -> None:
        """Wait for a later pass while the slice of this one is used up.

        Args:
            owner: For whom the work is done. Default: the current owner.
        """
        if not self.is_used_up:
            return
        owner = (owner or current_owner.get())._replace(limit=None)
        waiter = self._loop.create_future()
        self._waiting.put(owner, waiter)
        await waiter
        while self.is_used_up:
            waiter = self._loop.create_future()
            self._woken_in_vain.append((owner, waiter))
            await waiter

    def _begin(self) -> None:
        self._until = thread_time() + self._slice_s
        self._loop.call_soon(self._end_pass)

    def _end_pass(self) -> None:
        """Begin the slice of the next pass, and let waiters continue until it is used up."""
        self._until = None
        while self._woken_in_vain:
            self._waiting.put_back(*self._woken_in_vain.pop())
        if not self._waiting:
            return
        self._begin()
        for _ in range(self._woken):
            taken = self._waiting.take()
            if taken is None:
                return
            project, waiter = taken
            self._waiting.give_back(project)
            if not waiter.done():
                waiter.set_result(None)


class LoopShares:
    """One kind of work, with a share of each event loop. The arguments are those of LoopShare."""

    def __init__(self, slice_s: float = SLICE_S, woken: int = WOKEN) -> None:
        self._slice_s, self._woken = slice_s, woken
        self._shares: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopShare] = WeakKeyDictionary()

    def running(self) -> LoopShare:
        """Return the share of the running event loop."""
        loop = asyncio.get_running_loop()
        share = self._shares.get(loop)
        if share is None:
            share = self._shares[loop] = LoopShare(loop, self._slice_s, self._woken)
        return share


loop_share = LoopShares().running
"""Returns the share of the running event loop for all work that takes long in total."""


async def in_turns(items: Iterable[ItemT]) -> AsyncGenerator[ItemT]:
    """Yield items whose processing takes long in total, and wait for a turn whenever it is due."""
    share = loop_share()
    for item in items:
        if share.is_used_up:
            await share.turn()
        yield item
