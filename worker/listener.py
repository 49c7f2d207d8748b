"""Handles notifications that arrive over Redis: new runs in the queue, and new intents of a run.

A notification only brings forward what polling and the heartbeat do anyway, so a lost one costs
seconds and nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing

from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.feed.pubsub import ChannelReader

Handler = Callable[[str | None], Awaitable[None]]
"""Called with each message, and with None where messages may have been missed."""


async def listen(channels: ChannelReader, handlers: Mapping[str, Handler]) -> None:
    """Call the handler of each channel with its messages, one at a time, until cancelled."""
    outage = Outage("control.database")
    async with asyncio.TaskGroup() as group:
        for channel, handler in handlers.items():
            group.create_task(_handle_messages(channels, channel, handler, outage))


async def _handle_messages(channels: ChannelReader, channel: str, handler: Handler, outage: Outage) -> None:
    async with aclosing(channels.listen(channel)) as messages:
        async for message in messages:
            try:
                await handler(message)
                outage.recovered()
            except DATABASE_ERRORS as error:
                outage.failed(error)
