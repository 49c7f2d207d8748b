"""Reads the updates of a subscription ahead, so that the loads of several become one statement.

Updates that are ready at once, as in a replay or a snapshot, form a batch. While its updates are
sent, each loader reads each key once. The rows are read after the batch is complete, so they are at
least as new as every update in it. Nothing is stored.
"""

import asyncio
from collections.abc import AsyncGenerator, Hashable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

UpdateT = TypeVar("UpdateT")
MAX_UPDATES = 100
"""Updates that are read ahead."""
MAX_AGE_S = 1.0
"""Seconds for which the rows of a batch are used. What an update reads in addition is as of now."""


class KeyLoader(Protocol):
    """A data loader that reads keys of one tick of the event loop in one statement."""

    name: str

    def load_now(self, key: Any) -> asyncio.Future[Any]: ...


class UpdateBatch(Generic[UpdateT]):
    """Updates that were ready at once, and what is loaded for them."""

    def __init__(self, updates: Sequence[UpdateT], keys: Mapping[str, Sequence[Hashable]]) -> None:
        """`keys` are those that all updates together may load, by the name of the loader."""
        self.updates, self._keys = updates, keys
        self._loaded: dict[tuple[str, Hashable], asyncio.Future[Any]] = {}
        self._began_at = monotonic()

    def load(self, loader: KeyLoader, key: Hashable) -> asyncio.Future[Any]:
        """Load a key, with the keys of the other updates; or return what was loaded before."""
        if monotonic() - self._began_at > MAX_AGE_S:
            self._loaded.clear()
            self._began_at = monotonic()
        if (loader.name, key) not in self._loaded:
            siblings = self._keys.get(loader.name, ())
            for each in siblings if key in siblings else (key,):
                future = self._loaded[loader.name, each] = loader.load_now(each)
                future.add_done_callback(_retrieve)
        return self._loaded[loader.name, key]


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark an error as seen: not every update may need what was loaded for it."""
    if not future.cancelled():
        future.exception()


current_batch: ContextVar[UpdateBatch[Any] | None] = ContextVar("update_batch", default=None)


async def read_ahead(updates: AsyncGenerator[UpdateT]) -> AsyncGenerator[list[UpdateT]]:
    """Yield the updates in lists of those that are ready at once."""
    reading: asyncio.Future[UpdateT] | None = None
    async with aclosing(updates):
        try:
            while True:
                reading = reading or asyncio.ensure_future(anext(updates))
                try:
                    ready = [await reading]
                except StopAsyncIteration:
                    return
                while len(ready) < MAX_UPDATES:
                    reading = asyncio.ensure_future(anext(updates))
                    await asyncio.sleep(0)  # The task runs until it waits for something.
                    if not reading.done() or reading.exception() is not None:
                        break
                    ready.append(reading.result())
                else:
                    reading = None
                yield ready
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
