"""Shows the connections of the pools in the metrics of this process."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import asyncpg
from prometheus_client import Gauge
from redis.asyncio import ConnectionPool, Redis
from sqlalchemy import QueuePool
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.metrics import DATABASE_CONNECTIONS, REDIS_CONNECTIONS


def show_pools(engine: AsyncEngine, pools: Mapping[str, asyncpg.Pool]) -> None:
    """Show SQLAlchemy's pool as `queries`, and pools of asyncpg by their names."""
    queries = cast(QueuePool, engine.sync_engine.pool)
    _show(DATABASE_CONNECTIONS, "queries", queries.checkedout, queries.checkedin)
    for name, pool in pools.items():
        _show(DATABASE_CONNECTIONS, name, partial(_busy, pool), pool.get_idle_size)


def show_redis_pools(clients: Mapping[str, Redis]) -> None:
    """Show the pools of Redis clients by their names."""
    for name, client in clients.items():
        pool = client.connection_pool
        _show(REDIS_CONNECTIONS, name, partial(_busy_redis, pool), partial(_idle_redis, pool))


# redis-py 5 has no public numbers of its connections.
def _busy_redis(pool: ConnectionPool) -> int:
    return len(pool._in_use_connections)


def _idle_redis(pool: ConnectionPool) -> int:
    return len(pool._available_connections)


def _busy(pool: asyncpg.Pool) -> int:
    return pool.get_size() - pool.get_idle_size()


def _show(gauge: Gauge, name: str, busy: Callable[[], int], idle: Callable[[], int]) -> None:
    gauge.labels(name, "busy").set_function(busy)
    gauge.labels(name, "idle").set_function(idle)
