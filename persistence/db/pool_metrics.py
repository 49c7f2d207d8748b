"""Shows the connections of the pools in the metrics of this process."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import asyncpg
from sqlalchemy import QueuePool
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.metrics import DATABASE_CONNECTIONS


def show_pools(engine: AsyncEngine, pools: Mapping[str, asyncpg.Pool]) -> None:
    """Show SQLAlchemy's pool as `queries`, and pools of asyncpg by their names."""
    queries = cast(QueuePool, engine.sync_engine.pool)
    _show("queries", queries.checkedout, queries.checkedin)
    for name, pool in pools.items():
        _show(name, partial(_busy, pool), pool.get_idle_size)


def _busy(pool: asyncpg.Pool) -> int:
    return pool.get_size() - pool.get_idle_size()


def _show(name: str, busy: Callable[[], int], idle: Callable[[], int]) -> None:
    DATABASE_CONNECTIONS.labels(name, "busy").set_function(busy)
    DATABASE_CONNECTIONS.labels(name, "idle").set_function(idle)
