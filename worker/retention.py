"""Deletes what is too old, now and then, a little at a time: any number of workers may, none has to."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from persistence.db.transient import DATABASE_ERRORS
from persistence.maintenance.retention import BATCH, prune_history, prune_items, prune_keys, prune_runs

log = structlog.get_logger(__name__)

INTERVAL_S = 300.0
BREATH_S = 0.2
"""Between two batches: whatever else the database has to do goes first."""


async def prune_forever(pool: asyncpg.Pool, history_days: float | None, runs_days: float | None) -> None:
    while True:
        await asyncio.sleep(INTERVAL_S * random.uniform(0.5, 1.5))
        try:
            await prune(pool, history_days, runs_days)
        except DATABASE_ERRORS as away:
            log.info("retention.waiting", error=str(away) or type(away).__name__)


async def prune(pool: asyncpg.Pool, history_days: float | None, runs_days: float | None) -> None:
    """Until nothing is left that is too old; None keeps for ever."""
    if runs_days is not None:
        days = runs_days
        await _drain("runs", lambda: prune_runs(pool, days))
    if history_days is not None:
        kept = history_days
        await _drain("history", lambda: prune_history(pool, kept))
    await _drain("items", lambda: prune_items(pool))
    await _drain("keys", lambda: prune_keys(pool))


async def _drain(what: str, once: Callable[[], Awaitable[int]]) -> None:
    total = 0
    while count := await once():
        total += count
        if count < BATCH:
            break
        await asyncio.sleep(BREATH_S)
    if total:
        log.info("retention.pruned", what=what, count=total)
