"""`BatchQueue`: work of many requests on one object, done together and by few connections.

A sender may post a message a thousand times at once. Without a bound, its requests would take all
connections of the process, and every other caller would wait behind them. An item that comes while a batch
of its key is executed becomes a part of the next batch. Keys take turns. Nothing is stored: a crash
loses what waits, and its requests have no answer then.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Execute = Callable[[list[ItemT]], Awaitable[Sequence[ResultT | BaseException]]]
"""Executes a batch, and returns the result or the error of each item. What it raises is the error of all."""
MOST_BATCHES = 6
"""Batches that are executed at once. A process has ten connections in each of its pools."""
MOST_WAITING = 2_000
MOST_BYTES = 64 * 1024 * 1024
"""Items, and their bytes, that are in the queue at once. One key has at most half of them."""
MOST_OF_BATCH, MOST_BYTES_OF_BATCH = 50, 1024 * 1024


class TooManyWaiting(Exception):
    """As many items as may be in the queue, or may be of one key, are in it."""


@dataclass(frozen=True, slots=True)
class _Entry:
    item: Any
    execute: Execute[Any, Any]
    size: int
    result: "asyncio.Future[Any]"
    context: Context = field(default_factory=copy_context)


@dataclass(slots=True)
class _Use:
    """The items, and their bytes, that are in the queue."""

    count: int = 0
    bytes: int = 0

    def add(self, count: int, bytes: int) -> None:
        self.count, self.bytes = self.count + count, self.bytes + bytes

    def has_place(self, size: int, most: int, most_bytes: int) -> bool:
        """Whether one more item is within the bounds. One that is larger than the bound may be alone."""
        return self.count < most and (not self.count or not size or self.bytes + size <= most_bytes)


class BatchQueue:
    """The work of one process that is done in batches.

    Args:
        most_batches: How many batches are executed at once.
        most_waiting: How many items may be in the queue.
        most_bytes: How many bytes the items in the queue may have.
    """

    def __init__(
        self, most_batches: int = MOST_BATCHES, most_waiting: int = MOST_WAITING, most_bytes: int = MOST_BYTES
    ) -> None:
        self._most_batches, self._most_waiting, self._most_bytes = most_batches, most_waiting, most_bytes
        self._waiting: dict[Hashable, deque[_Entry]] = {}
        self._ready: deque[Hashable] = deque()
        """The keys that have waiting entries and no batch, in turn."""
        self._batches: dict[Hashable, asyncio.Task[None]] = {}
        self._use, self._use_of_keys = _Use(), dict[Hashable, _Use]()

    async def add(self, key: Hashable, item: ItemT, execute: Execute[ItemT, ResultT], size: int = 0) -> ResultT:
        """Add an item, and return its result.

        An item whose caller is cancelled is executed nevertheless.

        Args:
            key: Only one batch of a key is executed at a time.
            item: What is executed.
            execute: Executes the batch. It is the same for all items of a key.
            size: The bytes that the item holds.

        Raises:
            TooManyWaiting: The queue is full, or the key has its half. Nothing was added.
        """
        of_key = self._use_of_keys.get(key, _Use())
        most, most_bytes = self._most_waiting, self._most_bytes
        if not (self._use.has_place(size, most, most_bytes) and of_key.has_place(size, most // 2, most_bytes // 2)):
            raise TooManyWaiting
        self._use.add(1, size)
        self._use_of_keys.setdefault(key, of_key).add(1, size)
        entry = _Entry(item, execute, size, asyncio.get_running_loop().create_future())
        if key not in self._waiting:
            self._waiting[key] = deque()
            if key not in self._batches:
                self._ready.append(key)
        self._waiting[key].append(entry)
        self._begin()
        result: ResultT = await entry.result
        return result

    def _begin(self) -> None:
        while self._ready and len(self._batches) < self._most_batches:
            key = self._ready.popleft()
            batch = self._take(key)
            work = self._execute(key, batch)
            self._batches[key] = asyncio.get_running_loop().create_task(work, context=batch[0].context)

    def _take(self, key: Hashable) -> list[_Entry]:
        entries = self._waiting[key]
        batch = [entries.popleft()]
        size = batch[0].size
        while entries and len(batch) < MOST_OF_BATCH and size + entries[0].size <= MOST_BYTES_OF_BATCH:
            batch.append(entries.popleft())
            size += batch[-1].size
        if not entries:
            del self._waiting[key]
        return batch

    async def _execute(self, key: Hashable, batch: list[_Entry]) -> None:
        results: Sequence[Any] = [asyncio.CancelledError()] * len(batch)
        try:
            results = await batch[0].execute([entry.item for entry in batch])
        except Exception as error:
            results = [error] * len(batch)
        finally:
            for entry, result in zip(batch, results, strict=True):
                _resolve(entry.result, result)
            self._end(key, batch)

    def _end(self, key: Hashable, batch: list[_Entry]) -> None:
        count, size = len(batch), sum(entry.size for entry in batch)
        self._use.add(-count, -size)
        self._use_of_keys[key].add(-count, -size)
        if not self._use_of_keys[key].count:
            del self._use_of_keys[key]
        del self._batches[key]
        if key in self._waiting:
            self._ready.append(key)
        self._begin()


def _resolve(future: "asyncio.Future[Any]", result: Any) -> None:
    if future.done():
        return  # Its caller was cancelled.
    if isinstance(result, asyncio.CancelledError):
        future.cancel()
    elif isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
