"""A context to derive runs with, and a worker that executes them.

Both know the node types that fail until repaired.
"""

from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from persistence.caller import Caller
from persistence.db.database import Database
from persistence.feed.feed import Feed
from persistence.queue.notifier import Notifier
from resolvers.context import Context
from tests.executor_worker import ExecutorWorker, node_types
from tests.resolvers.runs.derive.derived_runs import FLAKY, QUICK_FLAKY


@pytest.fixture
async def context(database: Database, redis: Redis, caller: Caller) -> AsyncIterator[Context]:
    feed = Feed(database, redis)
    queue = Notifier(ArqRedis(redis.connection_pool), "test")
    FLAKY.is_repaired, FLAKY.keys, QUICK_FLAKY.is_repaired = False, [], False
    yield Context(caller, database, node_types(FLAKY, QUICK_FLAKY), redis, queue, feed)
    await feed.close()


@pytest.fixture
async def worker(database: Database, redis: Redis) -> AsyncIterator[ExecutorWorker]:
    async with ExecutorWorker(database, redis, node_types(FLAKY, QUICK_FLAKY)) as worker:
        yield worker
