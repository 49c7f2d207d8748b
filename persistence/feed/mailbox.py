"""A bounded queue of messages for one reader in this process. Nothing in it survives a crash."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

SIZE = 256
"""Messages that wait for one slow reader. One more, and the oldest is dropped."""

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A queue that never blocks its writer: when it is full, it drops its oldest message.

    The reader gets None in place of messages that are missing, before the messages that follow.
    """

    def __init__(self, size: int = SIZE) -> None:
        self._messages: deque[T] = deque()
        self._size = size
        self._has_gap = False
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def is_full(self) -> bool:
        return len(self._messages) >= self._size

    @property
    def newest(self) -> T | None:
        """The last message that was put in, while it waits."""
        return self._messages[-1] if self._messages else None

    def put(self, message: T) -> None:
        if self.is_full:
            self._messages.popleft()
            self._has_gap = True
        self._messages.append(message)
        self._ready.set()

    def mark_gap(self) -> None:
        """Record that messages may be missing."""
        self._has_gap = True
        self._ready.set()

    def clear(self) -> None:
        """Drop what waits. For a reader that is about to read everything from another source."""
        self._messages.clear()
        self._has_gap = False

    async def next(self) -> T | None:
        """Wait for the next message. None: messages may be missing before the one that follows."""
        while not self._has_gap and not self._messages:
            self._ready.clear()
            await self._ready.wait()
        if self._has_gap:
            self._has_gap = False
            return None
        return self._messages.popleft()
