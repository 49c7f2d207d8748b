"""A bounded queue of messages for one reader in this process. Nothing in it survives a crash."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

SIZE = 256
"""Messages that wait for one slow reader. One more, and the oldest is dropped."""
MAX_BYTES = 1024 * 1024
"""Bytes of the messages that wait for one slow reader, as they were received."""

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A queue that never blocks its writer: when it is full, it drops its oldest message.

    The reader gets None in place of messages that are missing, before the messages that follow.
    """

    def __init__(self, size: int = SIZE, max_bytes: int = MAX_BYTES) -> None:
        self._messages: deque[T] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._size, self._max_bytes = size, max_bytes
        self._has_gap = False
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def is_full(self) -> bool:
        return len(self._messages) >= self._size or self._bytes >= self._max_bytes

    @property
    def newest(self) -> T | None:
        """The last message that was put in, while it waits."""
        return self._messages[-1] if self._messages else None

    def put(self, message: T, size: int = 0) -> None:
        """Add a message of `size` bytes. The oldest are dropped while the mailbox is full."""
        while self.is_full:
            self._take()
            self._has_gap = True
        self._messages.append(message)
        self._sizes.append(size)
        self._bytes += size
        self._ready.set()

    def _take(self) -> T:
        self._bytes -= self._sizes.popleft()
        return self._messages.popleft()

    def keep(self, is_kept: Callable[[T], bool]) -> None:
        """Drop the messages that are not kept, for a reader that is about to read them elsewhere."""
        kept = [pair for pair in zip(self._messages, self._sizes, strict=True) if is_kept(pair[0])]
        self.clear()
        for message, size in kept:
            self.put(message, size)

    def mark_gap(self) -> None:
        """Record that messages may be missing."""
        self._has_gap = True
        self._ready.set()

    def clear(self) -> None:
        """Drop what waits. For a reader that is about to read everything from another source."""
        self._messages.clear()
        self._sizes.clear()
        self._bytes, self._has_gap = 0, False

    async def next(self) -> T | None:
        """Wait for the next message. None: messages may be missing before the one that follows."""
        while not self._has_gap and not self._messages:
            self._ready.clear()
            await self._ready.wait()
        if self._has_gap:
            self._has_gap = False
            return None
        return self._take()
