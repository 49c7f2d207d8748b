"""Listens on Redis for bells and nudges. Both only bring forward what polling and the heartbeat would do anyway."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from persistence.away import DATABASE_TROUBLE

log = structlog.get_logger(__name__)

RECONNECT_S = 0.5


async def listen(redis: Redis, handlers: Mapping[str, Callable[[str], Awaitable[None]]]) -> None:
    """Calls the handler of a channel with each message, until cancelled. Reconnects for as long as it takes."""
    is_away = False
    while True:
        try:
            async with redis.pubsub(ignore_subscribe_messages=True) as subscription:
                await subscription.subscribe(*handlers)
                is_away = False
                async for message in subscription.listen():
                    await _handle(handlers[message["channel"].decode()], message["data"].decode())
        except (RedisError, OSError) as error:
            if not is_away:
                log.warning("control.disconnected", error=str(error) or type(error).__name__)
            is_away = True
            await asyncio.sleep(RECONNECT_S)


async def _handle(handler: Callable[[str], Awaitable[None]], data: str) -> None:
    try:
        await handler(data)
    except DATABASE_TROUBLE as away:
        log.warning("control.unheeded", error=str(away) or type(away).__name__)
