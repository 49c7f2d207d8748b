"""Row 19: what each part of a deployment can do by itself, for docs/scale.md. There are no targets.

It measures commits of Postgres, stream entries of Redis, the CPU time of accepting a run, delivery
through two servers, and the cost of deleting old rows with and without partitions.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import asyncpg
from redis.asyncio import Redis

from bench.baselines import LENGTH
from bench.client import BenchClient
from bench.graphs import chain
from bench.measures import Figure, percentile, reported
from bench.processes import Deployment
from bench.subscriptions import measure_delivery

SECONDS = 2.0
CONNECTIONS = (1, 4, 16)
ENTRY_BYTES, BATCH = 2_000, 20
ROWS, PER_RUN = 400_000, 22
ACCEPTED = 1_000
"""Runs. The clock of the CPU time has ticks of 10 ms."""
ROW_NUMBER = "19"


async def limits(deployment: Deployment, second_server_port: int) -> list[Figure]:
    """Measure row 19."""
    return [
        *await _commits(deployment),
        *await _entries(deployment),
        *await _accepting(deployment),
        *await _two_servers(deployment, second_server_port),
        *await _retention(deployment),
    ]


async def _commits(deployment: Deployment) -> list[Figure]:
    async with _connected(deployment, max(CONNECTIONS)) as connections:
        await connections[0].execute("CREATE TABLE bench_commits (n int)")
        figures = []
        for count in CONNECTIONS:
            inserts = [partial(one.execute, "INSERT INTO bench_commits VALUES (1)") for one in connections[:count]]
            rate = await _rate(inserts)
            figures.append(reported(ROW_NUMBER, f"Postgres: commits by {count} connections", rate, "/s"))
        return figures


async def _entries(deployment: Deployment) -> list[Figure]:
    redis = Redis.from_url(deployment.redis_url)

    async def post() -> None:
        async with redis.pipeline(transaction=False) as pipeline:
            for number in range(BATCH):
                pipeline.xadd(f"bench:{number}", {"e": b"x" * ENTRY_BYTES}, maxlen=1000)
            await pipeline.execute()

    try:
        rate = await _rate([post] * 4) * BATCH
        return [reported(ROW_NUMBER, "Redis: stream entries of 2 KB", rate, "/s", "a run of row 1 needs a few")]
    finally:
        await redis.delete(*(f"bench:{number}" for number in range(BATCH)))
        await redis.aclose()


async def _accepting(deployment: Deployment) -> list[Figure]:
    """Measure the CPU time of a server for each run that it accepts without waiting for its end.

    The workers are suspended meanwhile. Otherwise the figure would depend on how many of the runs
    they execute at the same time: they take turns with the server on the same cores and caches.
    """
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"accept {time.time_ns()}", chain(LENGTH))
        await client.run(workflow_id, {"x": 1})
        with deployment.suspended_workers():
            before = deployment.cpu()["server"]
            for _ in range(ACCEPTED):
                await client.run(workflow_id, {"x": 1}, "ASYNC")
            used = (deployment.cpu()["server"] - before) / ACCEPTED * 1000
        await client.run(workflow_id, {"x": 1})
    return [reported(ROW_NUMBER, "server: CPU per accepted run", used, "ms", f"{1000 / used:,.0f} runs/s per core")]


async def _two_servers(deployment: Deployment, port: int) -> list[Figure]:
    """Measure delivery when one server accepts the runs and another one has the subscribers."""
    other = replace(deployment, port=port)
    delays, lost, _ = await measure_delivery(deployment, 20, 10, subscribed_at=other)
    return [
        reported(ROW_NUMBER, "two servers: delivery p99 at the other server", percentile(delays, 0.99), "ms"),
        reported(ROW_NUMBER, "  events lost or repeated", lost, "", f"{len(delays):,} delivered"),
    ]


async def _retention(deployment: Deployment) -> list[Figure]:
    """Measure the time to delete the oldest tenth of a table, and to drop it as a partition."""
    async with _connected(deployment, 1) as [connection]:
        await connection.execute(_TABLES, timeout=300)
        delete_ms = await _timed(connection, f"DELETE FROM bench_whole WHERE run < {ROWS // PER_RUN // 10}")
        drop_ms = await _timed(connection, "DROP TABLE bench_parts_0")
        await connection.execute("DROP TABLE bench_whole, bench_parts")
    return [
        reported(ROW_NUMBER, f"retention of {ROWS // 10:,} events: DELETE", delete_ms, "ms"),
        reported(ROW_NUMBER, "  DROP of a partition", drop_ms, "ms", f"{delete_ms / drop_ms:,.0f} ×"),
    ]


async def _timed(connection: asyncpg.Connection, statement: str) -> float:
    started_at = time.perf_counter()
    await connection.execute(statement, timeout=300)
    return (time.perf_counter() - started_at) * 1000


async def _rate(posts: Sequence[Callable[[], Awaitable[object]]]) -> float:
    """Repeat all calls in parallel, and return the total number of calls per second."""
    ends = time.perf_counter() + SECONDS

    async def repeat(post: Callable[[], Awaitable[object]]) -> int:
        count = 0
        while time.perf_counter() < ends:
            await post()
            count += 1
        return count

    return sum(await asyncio.gather(*map(repeat, posts))) / SECONDS


@asynccontextmanager
async def _connected(deployment: Deployment, count: int) -> AsyncIterator[list[asyncpg.Connection]]:
    connections = [await asyncpg.connect(deployment.database_url) for _ in range(count)]
    try:
        yield connections
    finally:
        for connection in connections:
            await connection.close()


_TABLES = f"""
CREATE TABLE bench_whole (run bigint, seq int, body text, PRIMARY KEY (run, seq));
CREATE TABLE bench_parts (run bigint, seq int, body text, PRIMARY KEY (run, seq)) PARTITION BY RANGE (run);
CREATE TABLE bench_parts_0 PARTITION OF bench_parts FOR VALUES FROM (0) TO ({ROWS // PER_RUN // 10});
CREATE TABLE bench_parts_1 PARTITION OF bench_parts FOR VALUES FROM ({ROWS // PER_RUN // 10}) TO (MAXVALUE);
INSERT INTO bench_whole SELECT n / {PER_RUN}, n % {PER_RUN}, repeat('x', 200) FROM generate_series(0, {ROWS - 1}) n;
INSERT INTO bench_parts SELECT * FROM bench_whole;
CHECKPOINT
"""
