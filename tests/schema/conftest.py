"""A context over real stores, as the server creates it for each request."""

from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis

from engine.nodes.registry import load_node_types
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.feed.feed import Feed
from persistence.queue.notifier import Notifier
from resolvers.context import Context


@pytest.fixture
async def context(database: Database, redis_url: str, caller: Caller) -> AsyncIterator[Context]:
    redis = ArqRedis.from_url(redis_url)
    feed = Feed(database, redis)
    yield Context(caller, database, load_node_types(), redis, Notifier(redis, "test"), feed)
    await feed.close()
    await redis.aclose()
