"""A runner in the process of the test, on real stores."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from arq.connections import ArqRedis
from redis.asyncio import Redis

from engine.runtime.run_info import StopReason
from engine.sdk.node_types import NodeTypes
from persistence.db.database import Database
from persistence.journal.journal import PostgresJournal
from persistence.queue.notifier import Notifier
from tests.executor_worker import eventually, node_types
from worker.runner import Runner


@asynccontextmanager
async def running(
    database: Database,
    redis: Redis,
    types: NodeTypes | None = None,
    *,
    capacity: int = 10,
    resources: Mapping[str, Any] | None = None,
    max_stored_bytes: int | None = None,
) -> AsyncIterator[Runner]:
    journal = PostgresJournal(database.pool, redis, database.deadlines)
    journal.open()
    runner = Runner(
        database,
        redis,
        journal,
        types or node_types(),
        resources or {},
        worker_id="worker",
        capacity=capacity,
        lease_ttl_s=60,
        notifier=Notifier(ArqRedis(redis.connection_pool), "test"),
        max_stored_bytes=max_stored_bytes,
    )
    polling = asyncio.create_task(runner.poll_forever())
    try:
        yield runner
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        tasks = list(runner.tasks.values())
        for task in tasks:
            task.request(StopReason.LEASE_LOST)
        for task in tasks:
            await task.wait()
        await journal.close()


async def ended(database: Database, run_id: str) -> Any:
    over = "SELECT * FROM runs WHERE id = $1 AND status IN ('COMPLETED', 'FAILED', 'CANCELLED')"
    return await eventually(lambda: database.pool.fetchrow(over, run_id))
