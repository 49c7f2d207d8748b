"""One pub/sub connection to Redis for all subscriptions of this process. Messages have no history.

A subscriber gets None in place of messages that it may have missed: after a lost connection, or
when it was too slow. Used by the feed in servers and by the listener of a worker.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from persistence.feed.mailbox import Mailbox
from persistence.feed.redis_listener import REDIS_ERRORS, RedisListener

log = structlog.get_logger(__name__)

SILENCE_S = 5.0
"""After this long without a message, Redis is pinged: a connection that was cut off on the way
reports no error."""
SUBSCRIBE_S = 2.0
"""How long a new subscriber waits for the confirmation of Redis. Without it, the subscription
starts when Redis is back."""


class ChannelSubscription:
    """The messages on some channels for one subscriber, in order."""

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = frozenset(channels)
        self.mailbox = Mailbox[str]()


class ChannelReader:
    """The pub/sub connection.

    It starts with the first subscription; end it with `await close()`.
    """

    def __init__(self, redis: Redis, name: str = "feed.channels") -> None:
        """`name` is the prefix of the log events `<name>.away` and `<name>.back`."""
        self._redis = redis
        self._subscriptions: set[ChannelSubscription] = set()
        self._confirmed: set[str] = set()
        self._changed = asyncio.Condition()
        self._control = f"feed:control:{uuid4().hex}"
        self._listener = RedisListener(name, self._read, self._report_gap)

    @property
    def wanted_channels(self) -> frozenset[str]:
        """Every channel with at least one subscription."""
        return frozenset(channel for one in self._subscriptions for channel in one.channels)

    @property
    def confirmed_channels(self) -> frozenset[str]:
        """The channels whose subscription Redis has confirmed."""
        return frozenset(self._confirmed)

    async def listen(self, *channels: str) -> AsyncGenerator[str | None]:
        """Subscribe to channels.

        The first item is None. From then on, every missed message is reported by another None.

        Yields:
            Each message as text, and None where messages may be missing.
        """
        subscription = ChannelSubscription(channels)
        self._subscriptions.add(subscription)
        try:
            await self._subscribe(subscription)
            subscription.mailbox.mark_gap()
            while True:
                yield await subscription.mailbox.next()
        finally:
            self._subscriptions.discard(subscription)
            if not self._subscriptions:
                self._listener.needed.clear()

    async def _subscribe(self, subscription: ChannelSubscription) -> None:
        self._listener.start()
        try:
            async with asyncio.timeout(SUBSCRIBE_S):
                await self._redis.publish(self._control, "wake")
                async with self._changed:
                    await self._changed.wait_for(lambda: subscription.channels <= self._confirmed)
        except REDIS_ERRORS as error:
            log.warning("feed.listening_later", error=str(error) or type(error).__name__)

    async def _read(self) -> AsyncGenerator[None]:
        """Read messages while there are subscriptions.

        Only this task uses the connection: the others wake it with a message on `_control`.
        """
        is_pinged, subscribed = False, frozenset[str]()
        try:
            async with self._redis.pubsub() as pubsub:
                while self._subscriptions:
                    subscribed = await self._update(pubsub, subscribed)
                    message = await pubsub.get_message(timeout=SILENCE_S)
                    if message is not None:
                        is_pinged = False
                        await self._handle(message)
                        yield
                    elif is_pinged:
                        raise TimeoutError("Redis did not answer a ping")
                    else:
                        is_pinged = True
                        await self._ping(pubsub)
        finally:
            self._confirmed.clear()

    async def _ping(self, pubsub: PubSub) -> None:
        async with asyncio.timeout(SILENCE_S):
            await pubsub.ping()

    async def _update(self, pubsub: PubSub, subscribed: frozenset[str]) -> frozenset[str]:
        """Subscribe to what is wanted now, unsubscribe from the rest, and return the channels."""
        wanted = self.wanted_channels | {self._control}
        async with asyncio.timeout(SILENCE_S):
            if new := wanted - subscribed:
                await pubsub.subscribe(*new)
            if unwanted := subscribed - wanted:
                await pubsub.unsubscribe(*unwanted)
                self._confirmed -= unwanted
        return wanted

    async def _handle(self, message: dict[str, Any]) -> None:
        channel = (message["channel"] or b"").decode()
        if message["type"] == "subscribe":
            # After a reconnect, messages that were published meanwhile are missing.
            for subscription in self._subscriptions_to(channel):
                subscription.mailbox.mark_gap()
            async with self._changed:
                self._confirmed.add(channel)
                self._changed.notify_all()
        elif message["type"] == "message":
            if (text := _text_of(message["data"])) is None:
                log.debug("feed.unreadable_message", channel=channel, size=len(message["data"]))
                return
            for subscription in self._subscriptions_to(channel):
                subscription.mailbox.put(text)

    def _subscriptions_to(self, channel: str) -> list[ChannelSubscription]:
        return [one for one in self._subscriptions if channel in one.channels]

    def _report_gap(self) -> None:
        for subscription in self._subscriptions:
            subscription.mailbox.mark_gap()

    async def close(self) -> None:
        await self._listener.close()


def _text_of(data: bytes) -> str | None:
    """Return the text of a message. None: another client of Redis has published something else.

    Our messages are ids, names and JSON, and Postgres refuses a text with NUL.
    """
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None
