"""Sends messages to endpoints until nothing is due."""

import asyncio

from worker.deliveries import DeliveryLoop


async def send_all(loop: DeliveryLoop) -> None:
    """Send what is due, and wait until all results are recorded."""
    await loop.send_due()
    while tasks := list(loop._in_flight):
        await asyncio.gather(*tasks)
        await loop.send_due()
