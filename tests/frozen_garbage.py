"""Keeps the garbage collector away from what other tests have left, for tests that measure CPU time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def frozen_garbage() -> Iterator[None]:
    """Leave everything that exists now out of collections inside the block: to visit it takes long."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
