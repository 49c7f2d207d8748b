"""Runs retention in small batches, every few minutes, in every worker; the statements share the
work."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.maintenance.partitioning import create_ahead, partition_width
from persistence.maintenance.retention import (
    BATCH,
    drop_partitions,
    prune_deliveries,
    prune_history,
    prune_items,
    prune_keys,
    prune_runs,
    prune_signals,
    prune_threads,
    prune_trigger_events,
    prune_webhook_deliveries,
)
from persistence.statistics.folding import prune_hours

log = structlog.get_logger(__name__)

INTERVAL_S = 300.0
PAUSE_S = 0.2
"""Pause between two batches, so that other statements go first."""


async def prune_forever(
    pool: asyncpg.Pool, history_days: float | None, runs_days: float | None, threads_days: float | None = None
) -> None:
    """Prune every INTERVAL_S, with jitter, until cancelled. A database that is away delays it.

    The partitions of the next days are created first.
    """
    outage, expiry_days = Outage("retention"), _first(history_days, runs_days)
    while True:
        await _guarded(outage, create_partitions(pool, expiry_days))
        await asyncio.sleep(INTERVAL_S * random.uniform(0.5, 1.5))
        await _guarded(outage, prune(pool, history_days, runs_days, threads_days))


async def _guarded(outage: Outage, work: Awaitable[None]) -> None:
    try:
        await work
        outage.recovered()
    except DATABASE_ERRORS as error:
        outage.failed(error)


def _first(*days: float | None) -> float | None:
    """Return the days after which a history expires: with the run, or before it."""
    return min((one for one in days if one is not None), default=None)


async def create_partitions(pool: asyncpg.Pool, days: float | None) -> None:
    """Create the partitions of the next time, of a width that suits the retention."""
    if created := await create_ahead(pool, partition_width(days)):
        log.info("partitions.created", names=created)


async def prune(
    pool: asyncpg.Pool, history_days: float | None, runs_days: float | None, threads_days: float | None = None
) -> None:
    """Delete everything that is past retention.

    Args:
        pool: Connections to Postgres.
        history_days: Age of ended runs, in days, at which their history is deleted; None keeps it.
        runs_days: Age of ended runs, in days, at which they are deleted; None keeps them.
        threads_days: Time since the last message, in days, at which threads are deleted; None keeps them.
    """
    if (expiry_days := _first(history_days, runs_days)) is not None:
        await _prune_in_batches("history", lambda: prune_history(pool, expiry_days))
        if dropped := await drop_partitions(pool, expiry_days):
            log.info("partitions.dropped", names=dropped)
    if runs_days is not None:
        await _prune_in_batches("runs", lambda: prune_runs(pool, runs_days))
    if history_days is not None:
        await _prune_in_batches("deliveries", lambda: prune_deliveries(pool, history_days))
        await _prune_in_batches("webhooks", lambda: prune_webhook_deliveries(pool, history_days))
        await _prune_in_batches("trigger_events", lambda: prune_trigger_events(pool, history_days))
    if threads_days is not None:
        await _prune_in_batches("threads", lambda: prune_threads(pool, threads_days))
    await _prune_in_batches("signals", lambda: prune_signals(pool, history_days))
    await _prune_in_batches("items", lambda: prune_items(pool))
    await _prune_in_batches("keys", lambda: prune_keys(pool))
    await _prune_in_batches("statistics", lambda: prune_hours(pool, BATCH * 10))


async def _prune_in_batches(what: str, prune_batch: Callable[[], Awaitable[int]]) -> None:
    total = 0
    while count := await prune_batch():
        total += count
        if count < BATCH:
            break
        await asyncio.sleep(PAUSE_S)
    if total:
        log.info("retention.pruned", what=what, count=total)
