"""Prepares firings side by side, so that a slow template delays its own trigger only.

To prepare a firing is to render the inputs of its run. A heavy template waits for a helper process,
in which projects take turns. A firing that is not prepared within QUICK_S is slow: its trigger is left
out of the batches that are read next, and it is fired alone when it is ready. A project with MAX_SLOW
of them is left out as a whole. Nothing is stored: after a crash the trigger is still due.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from engine.isolation.turns import Owner, working_for

PreparedT = TypeVar("PreparedT")

QUICK_S = 0.1
"""How long a batch waits for its firings to be prepared."""
MAX_SLOW = 20
"""Slow firings of one project in one process. More of its triggers are not read meanwhile."""


class LeftOut(NamedTuple):
    """What is not read for the next batch: ids of triggers and of projects."""

    triggers: list[str]
    projects: list[str]


class Preparations(Generic[PreparedT]):
    """The firings of one process that are being prepared."""

    def __init__(self) -> None:
        self.on_ready: Callable[[], None] = lambda: None
        self._slow: dict[asyncio.Task[PreparedT], Owner] = {}
        self._ready: list[tuple[Owner, PreparedT]] = []

    async def prepare(self, work: Iterable[tuple[Owner, Awaitable[PreparedT]]]) -> list[PreparedT]:
        """Prepare firings, and return those that are ready within QUICK_S in their order.

        Args:
            work: For each firing its owner, with the id of its trigger as the caller, and what
                prepares it. It raises nothing.
        """
        tasks = {_start(owner, awaitable): owner for owner, awaitable in work}
        if not tasks:
            return []
        try:
            done, slow = await asyncio.wait(tasks, timeout=QUICK_S)
        except asyncio.CancelledError:
            _cancel(tasks)
            raise
        for task in slow:
            self._slow[task] = tasks[task]
            task.add_done_callback(self._finished)
        return [task.result() for task in tasks if task in done]

    def take_ready(self) -> list[PreparedT]:
        """Return the slow firings that are ready now. The caller fires them."""
        ready, self._ready = [one for _, one in self._ready], []
        return ready

    def left_out(self) -> LeftOut:
        """Return what is not read until its slow firings have been taken."""
        owners = [*self._slow.values(), *(owner for owner, _ in self._ready)]
        counts = Counter(owner.project for owner in owners)
        full = [project for project, count in counts.items() if count >= MAX_SLOW]
        return LeftOut(sorted({owner.caller for owner in owners}), full)

    def cancel(self) -> None:
        """Cancel the slow firings: the process ends."""
        _cancel(self._slow)

    def _finished(self, task: "asyncio.Task[PreparedT]") -> None:
        owner = self._slow.pop(task)
        if not task.cancelled():
            self._ready.append((owner, task.result()))
            self.on_ready()


def _start(owner: Owner, awaitable: Awaitable[PreparedT]) -> "asyncio.Task[PreparedT]":
    with working_for(owner):
        return asyncio.ensure_future(awaitable)


def _cancel(tasks: Iterable["asyncio.Task[PreparedT]"]) -> None:
    for task in tasks:
        task.cancel()
