"""The context of a caller with every role, over real stores."""

from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from engine.nodes.registry import load_node_types
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.feed.feed import Feed
from persistence.queue.notifier import Notifier
from resolvers.context import Context


@pytest.fixture
async def context(database: Database, redis: Redis, caller: Caller) -> AsyncIterator[Context]:
    feed = Feed(database, redis)
    yield Context(caller, database, load_node_types(), redis, Notifier(ArqRedis(redis.connection_pool), "test"), feed)
    await feed.close()
