"""Tunes the garbage collector of Python for a long-lived process.

A full collection visits every object that is not frozen. Over all modules, or the sockets of a
thousand readers, it takes 0.2 s, in which the process serves nothing. So what exists at the start is
frozen. Nearly all objects of a run are freed by reference counts, so a worker collects seldom: this
saves 5 % of its CPU on a chain of ten nodes.

In a server subscriptions and requests leave cycles. Its full collections come often and are small:
each freezes what has survived, so that no later one visits it again. A cycle of frozen objects stays
in memory until `FrozenObjects.release`, which visits everything, while nobody is connected.
"""

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar, Literal

THRESHOLDS = 50_000, 2, 1000
"""Allocations between two collections of the youngest generation of a worker, and the ratios of the older
ones. The second one bounds the time of a collection of the middle generation."""
SERVER_THRESHOLDS = 700, 10, 4
"""The same of a server. A full collection follows at most 40,000 allocations. As each object is visited by one
full collection only, short ones cost no more in total than the long ones of Python's default (10)."""
MAX_GROWTH = 300_000
"""Frozen objects of a server, in addition to those after its start, that are released when nobody is
connected: about 30 MB."""
MOST_GROWTH = 5_000_000
"""Those that are released at once, because without it the memory would grow without end."""


def freeze_modules() -> None:
    """Exclude everything that exists now from collections. Call it once all modules are loaded."""
    gc.collect()
    gc.freeze()


def collect_seldom() -> None:
    gc.set_threshold(*THRESHOLDS)


class FrozenObjects:
    """Keeps the full collections of a server short: it freezes what survives one.

    Python delays a full collection until a quarter of the last survivors is new (`long_lived_total` in
    gcmodule.c), and does not know that these are frozen. So a second collection follows, of what is left: it
    makes that number small, and the next full collection comes early and is short.
    """

    _is_second: ClassVar[bool] = False
    """Whether a second collection runs. All objects of a process share it: one must not follow another."""

    def __init__(self) -> None:
        self._base = self._base_blocks = 0
        """After the start: the frozen objects, and the allocated blocks of memory."""
        self._thresholds = gc.get_threshold()

    def start(self) -> None:
        freeze_modules()
        gc.collect()  # It has few survivors, so the next full collection is not delayed.
        self._thresholds = gc.get_threshold()
        gc.set_threshold(*SERVER_THRESHOLDS)
        self._set_base()
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        gc.callbacks.remove(self._on_collection)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def release(self, is_idle: bool) -> bool:
        """Free the cycles among the frozen objects, if these have become many.

        Args:
            is_idle: Whether nobody is connected, so that nobody waits for the collection.

        Returns:
            Whether it has collected.
        """
        limit = MAX_GROWTH if is_idle else MOST_GROWTH
        # The count of the frozen objects visits each of them, so it is made only if there may be too many.
        if sys.getallocatedblocks() - self._base_blocks <= limit or gc.get_freeze_count() - self._base <= limit:
            return False
        gc.unfreeze()
        gc.collect()  # The callback freezes what survives.
        self._set_base()
        return True

    def _set_base(self) -> None:
        self._base, self._base_blocks = gc.get_freeze_count(), sys.getallocatedblocks()

    def _on_collection(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        if phase != "stop" or info["generation"] != 2:
            return
        gc.freeze()
        if self._is_second:
            return
        with suppress(RuntimeError):  # There is no event loop before and after the server.
            asyncio.get_running_loop().call_soon(self._collect_again)

    def _collect_again(self) -> None:
        FrozenObjects._is_second = True
        gc.collect()
        FrozenObjects._is_second = False


@contextmanager
def frozen_objects() -> Iterator[FrozenObjects]:
    """Freeze what exists, and inside the block the survivors of each full collection."""
    frozen = FrozenObjects()
    frozen.start()
    try:
        yield frozen
    finally:
        frozen.stop()
