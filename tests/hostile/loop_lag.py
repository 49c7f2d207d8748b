"""Measures how long an event loop was blocked."""

import asyncio
from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

ResultT = TypeVar("ResultT")
PROBE_S = 0.005
"""Seconds between two probes of the event loop."""


async def longest_block(work: Awaitable[ResultT]) -> tuple[ResultT, float]:
    """Await work. Returns its result, and the longest time in which nothing else could run, in seconds."""
    worst_s, task = 0.0, asyncio.ensure_future(work)
    while not task.done():
        started_at = perf_counter()
        await asyncio.wait({task}, timeout=PROBE_S)
        worst_s = max(worst_s, perf_counter() - started_at)
    return await task, worst_s
