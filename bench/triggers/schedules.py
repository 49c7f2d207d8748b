"""Row 20: schedules that are due in the same minute, fired by one worker."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson

from bench.client import BenchClient
from bench.graphs import chain
from bench.measures import Figure, at_least, at_most, percentile, reported
from bench.processes import Deployment

COUNT = 10_000
LEAD_S = 10
"""Seconds from the insertion of the schedules to the first planned time."""
LONGEST_S = 300
PUBLISH = """mutation Publish($input: CreateVersionInput!) {
  createVersion(input: $input) { version { id } errors { detail } }
}"""


async def schedules(deployment: Deployment) -> list[Figure]:
    """Measure how late the runs of COUNT schedules are accepted, whose times are spread over a minute."""
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create("schedules", chain(1))
        await client.execute(PUBLISH, input={"workflowId": workflow_id, "publish": True})
    pool = await asyncpg.create_pool(deployment.database_url, min_size=1, max_size=2)
    try:
        first = await _insert(pool, workflow_id)
        delays = await _delays(pool)
    finally:
        await pool.close()
    accepted_s = max(moment - first for moment, _ in delays).total_seconds() if delays else float("inf")
    late = [delay for _, delay in delays]
    return [
        at_least("20", f"{COUNT:,} schedules in one minute, one worker: accepted", len(delays), COUNT, "runs", slack=1),
        at_most("20", "  the last one, after the first planned time", accepted_s, 61, "s"),
        at_most("20", "  lateness, p99", percentile(late, 0.99), 1, "s"),
        reported("20", "  lateness, median", percentile(late, 0.5), "s"),
    ]


async def _insert(pool: asyncpg.Pool, workflow_id: str) -> datetime:
    """Insert the schedules, and return the first planned time."""
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=LEAD_S)
    rows: list[tuple[Any, ...]] = []
    for number in range(COUNT):
        planned = first + timedelta(seconds=number * 60 // COUNT)
        config = orjson.dumps({"intervalS": 86_400, "start": planned.isoformat()}).decode()
        rows.append((f"trg_{number:026d}", workflow_id, config, planned))
    await pool.executemany(_INSERT, rows)
    return first


async def _delays(pool: asyncpg.Pool) -> list[tuple[datetime, float]]:
    """Wait until all have fired, and return when each run was accepted, and how late, in seconds."""
    async with asyncio.timeout(LONGEST_S):
        while await pool.fetchval("SELECT count(*) FROM trigger_events") < COUNT:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    rows = await pool.fetch(_DELAYS)
    return [(row["created_at"], float(row["late"])) for row in rows]


_INSERT = """
INSERT INTO triggers (id, project_id, workflow_id, kind, name, config, inputs, enabled, created_by, scopes,
    planned_at, next_fire_at)
SELECT $1, project_id, id, 'schedule', $1, $3::text::json, '{"x": 1}', true, 'bench', '{run}', $4, $4
FROM workflows WHERE id = $2
"""
_DELAYS = """
SELECT r.created_at, extract(epoch FROM r.created_at - e.dedupe_key::timestamptz) AS late
FROM trigger_events e JOIN runs r ON r.id = e.run_id WHERE e.status = 'FIRED'
"""
