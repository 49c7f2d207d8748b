"""Listens on Redis for bells and nudges. Both only bring forward what polling and the heartbeat would do anyway."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS

RECONNECT_S = 0.5
SILENCE_S = 5.0
"""Then Redis is asked whether it is there: a connection that was cut off somewhere between says nothing for ever."""

Handlers = Mapping[str, Callable[[str], Awaitable[None]]]


async def listen(redis: Redis, handlers: Handlers) -> None:
    """Calls the handler of a channel with each message, until cancelled. Reconnects for as long as it takes."""
    outage, unheeded = Outage("control"), Outage("control.database")
    while True:
        try:
            async with redis.pubsub() as subscription:
                async with asyncio.timeout(SILENCE_S):
                    await subscription.subscribe(*handlers)
                outage.over()
                await _hear(subscription, handlers, unheeded)
        except (RedisError, OSError) as error:
            outage.met(error)
            await asyncio.sleep(RECONNECT_S)


async def _hear(subscription: PubSub, handlers: Handlers, unheeded: Outage) -> None:
    """Raises when Redis does not even answer a ping."""
    is_asked = False
    while True:
        message = await subscription.get_message(timeout=SILENCE_S)
        if message is None and is_asked:
            raise TimeoutError("Redis has been silent for too long")
        is_asked = message is None
        if message is None:
            async with asyncio.timeout(SILENCE_S):
                await subscription.ping()
        elif message["type"] == "message":
            await _handle(handlers[message["channel"].decode()], message["data"].decode(errors="replace"), unheeded)


async def _handle(handler: Callable[[str], Awaitable[None]], data: str, unheeded: Outage) -> None:
    try:
        await handler(data)
        unheeded.over()
    except DATABASE_ERRORS as error:
        unheeded.met(error)
