"""One pub/sub connection for all listeners of this process. Messages have no history: who is away misses them.

A listener gets None in place of what it may have missed: after Redis was away, or when it was too slow.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

LISTENER_SIZE = 256
BACKOFF_S = (0.1, 2.0)
READ_S = 5.0
SUBSCRIBE_S = 2.0
"""How long a new listener waits for Redis to confirm; without that it listens all the same, once Redis is back."""


class Listener:
    """The messages for one listener, in order."""

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = frozenset(channels)
        self._waiting: deque[str | None] = deque()
        self._ready = asyncio.Event()

    def put(self, message: str | None) -> None:
        if len(self._waiting) >= LISTENER_SIZE:
            self._waiting.clear()
            message = None
        self._waiting.append(message)
        self._ready.set()

    async def next(self) -> str | None:
        while not self._waiting:
            self._ready.clear()
            await self._ready.wait()
        return self._waiting.popleft()


class Channels:
    """Starts with the first listener; end with `await close()`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listeners: set[Listener] = set()
        self._confirmed: set[str] = set()
        self._changed = asyncio.Condition()
        self._wanted = asyncio.Event()
        self._control = f"feed:control:{uuid4().hex}"
        self._task: asyncio.Task[None] | None = None

    @property
    def listening(self) -> frozenset[str]:
        """Every channel that somebody listens to."""
        return frozenset(channel for listener in self._listeners for channel in listener.channels)

    @property
    def confirmed(self) -> frozenset[str]:
        """Those whose messages arrive."""
        return frozenset(self._confirmed)

    async def listen(self, *channels: str) -> AsyncGenerator[str | None]:
        """What is published on `channels` from now on; first one None, once messages can no more be missed."""
        listener = Listener(channels)
        self._listeners.add(listener)
        try:
            await self._subscribe(listener)
            yield None
            while True:
                yield await listener.next()
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._wanted.clear()

    async def _subscribe(self, listener: Listener) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._read())
        self._wanted.set()
        try:
            async with asyncio.timeout(SUBSCRIBE_S):
                await self._redis.publish(self._control, "wake")
                async with self._changed:
                    await self._changed.wait_for(lambda: listener.channels <= self._confirmed)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("feed.listening_later", error=str(error) or type(error).__name__)

    async def _read(self) -> None:
        least, most = BACKOFF_S
        pause = least
        while True:
            await self._wanted.wait()
            try:
                async with self._redis.pubsub() as pubsub:
                    await self._listen_on(pubsub)
                pause = least
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("feed.redis_away", error=str(error) or type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, most)
                for listener in self._listeners:
                    listener.put(None)
            finally:
                self._confirmed.clear()

    async def _listen_on(self, pubsub: Any) -> None:
        """Until nobody listens any more. Only this task touches the connection: others send word to `_control`."""
        subscribed = {self._control}
        await pubsub.subscribe(self._control)
        while self._listeners:
            wanted = self.listening | {self._control}
            if new := wanted - subscribed:
                await pubsub.subscribe(*new)
            if gone := subscribed - wanted:
                await pubsub.unsubscribe(*gone)
                self._confirmed -= gone
            subscribed = set(wanted)
            await self._handle(await pubsub.get_message(timeout=READ_S))

    async def _handle(self, message: dict[str, Any] | None) -> None:
        if message is None:
            return
        channel = message["channel"].decode()
        if message["type"] == "subscribe":
            async with self._changed:
                self._confirmed.add(channel)
                self._changed.notify_all()
        elif message["type"] == "message":
            # Anybody can publish anything: what is no text is nothing to whoever listens, and no reason to end.
            text = message["data"].decode(errors="replace")
            for listener in self._listeners:
                if channel in listener.channels:
                    listener.put(text)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
