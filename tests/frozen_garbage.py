"""Keeps the collections of garbage short in a process of the tests, which has a million objects.

A full collection visits each object that is not frozen: 0.6 s of CPU after the imports alone, and
seconds beside other processes. Meanwhile the event loop stands still. So a test could lose its
connection inside a transaction (`persistence.db.database.SET_IDLE_TIMEOUT`), and its measured CPU time
would depend on what other tests have left.
"""

import gc
import sys

MAX_GROWTH = 3_000_000
"""Allocated blocks after which the cycles among the frozen objects are freed: about 300 MB."""


class FrozenGarbage:
    """Keeps what exists before a test out of the collections during it."""

    def __init__(self) -> None:
        self._base = sys.getallocatedblocks()

    def freeze(self) -> None:
        """Freeze all objects, and free the cycles among them if these may have become many."""
        if sys.getallocatedblocks() - self._base > MAX_GROWTH:
            gc.unfreeze()
            gc.collect()
            self._base = sys.getallocatedblocks()
        gc.freeze()
