"""Row 21: `stats` of a year with 1,000,000 runs."""

import asyncio
import time
from typing import Any

import asyncpg

from bench.client import BenchClient
from bench.graphs import chain
from bench.measures import Figure, at_most, percentile, reported
from bench.processes import Deployment

COUNT, DAYS, NODES = 1_000_000, 365, 5
TIMES = 60
LONGEST_S = 900
SUMS = """total completed failed cancelled active successRate p50Ms p95Ms queueP95Ms inputTokens outputTokens costUsd
  failuresByCode { code count }"""
LISTS = "slowestNodes { nodeId p95Ms } failingNodes { nodeId failed }"
SERIES = "series(bucket: %s) { start total completed failed p50Ms p95Ms costUsd }"
QUERIES = {
    "stats of a workflow, with its nodes": ("workflowId: $workflow", f"{SUMS} {LISTS}", 20),
    "stats of a project": ("", SUMS, 20),
    "stats of a workflow, with a series of weeks": ("workflowId: $workflow", f"{SUMS} {SERIES % 'WEEK'}", None),
    "stats of a workflow, with a series of days": ("workflowId: $workflow", f"{SUMS} {SERIES % 'DAY'}", None),
}


async def reading(deployment: Deployment) -> list[Figure]:
    """Measure `stats` over HTTP: a year, COUNT ended runs in it, folded and summed by the worker."""
    pool = await asyncpg.create_pool(deployment.database_url, min_size=1, max_size=2)
    try:
        async with BenchClient(deployment.url) as client:
            workflow_id = await client.create(f"statistics {time.time_ns()}", chain(NODES))
            run_id = (await client.run(workflow_id, {"x": 1}))["id"]
        for start in range(0, COUNT, 50_000):
            await pool.execute(_RUNS, run_id, start, start + 49_999, COUNT)
            await pool.execute(_ENDS, start, start + 49_999, NODES)
        await pool.execute("VACUUM ANALYZE")
        await _wait_until_folded(pool)
        await pool.execute("VACUUM ANALYZE run_ends, run_sums")
        recount = await pool.fetchrow(_RECOUNT)
    finally:
        await pool.close()
    async with BenchClient(deployment.url) as client:
        return [
            figure for name in QUERIES for figure in await _durations(deployment, client, name, workflow_id, recount)
        ]


async def _durations(
    deployment: Deployment, client: BenchClient, name: str, workflow_id: str, recount: Any
) -> list[Figure]:
    arguments, fields, bound = QUERIES[name]
    variables = "$since: DateTime!, $workflow: ID" if arguments else "$since: DateTime!"
    query = f"query ({variables}) {{ stats(since: $since, {arguments}) {{ {fields} }} }}"
    durations, before = [], deployment.cpu()
    for _ in range(TIMES):
        started_at = time.perf_counter()
        stats = (await client.execute(query, since=recount["since"].isoformat(), workflow=workflow_id))["stats"]
        durations.append((time.perf_counter() - started_at) * 1000)
        assert stats["completed"] == recount["completed"], stats
    after = deployment.cpu()
    cpu = ", ".join(f"{part} {(after[part] - before[part]) / TIMES * 1000:.1f}" for part in ("server", "postgres"))
    median, note = percentile(durations, 0.5), f"p95 {percentile(durations, 0.95):.1f} ms; ms of CPU: {cpu}"
    label = f"{name}: {DAYS} days, {COUNT:,} runs"
    return [at_most("21", label, median, bound, "ms", note) if bound else reported("21", label, median, "ms", note)]


async def _wait_until_folded(pool: asyncpg.Pool) -> None:
    async with asyncio.timeout(LONGEST_S):
        while not await pool.fetchval(_IS_FOLDED):  # noqa: ASYNC110
            await asyncio.sleep(0.5)


# Half of the durations are below 0.4 s; 10 % of the runs fail. All lie in the past year.
_RUNS = """
INSERT INTO runs SELECT (jsonb_populate_record(r, jsonb_build_object(
    'id', 'run_01k' || lpad(n::text, 12, '0') || '00000000000',
    'status', CASE WHEN n % 10 = 0 THEN 'FAILED' ELSE 'COMPLETED' END,
    'error', CASE WHEN n % 10 = 0 THEN json_build_object('code', 'CODE_' || n % 70, 'message', 'm') END,
    'finished_at', now() - interval '1 hour' - (1 - n / $4::float) * interval '363 days'))).*
FROM runs r, generate_series($2::int, $3::int) n WHERE r.id = $1
"""
_ENDS = """
INSERT INTO run_ends (project_id, workflow_id, finished_at, status, code, duration_ms, queue_ms, input_tokens,
    output_tokens, cost, nodes, run_id, mode, source)
SELECT project_id, workflow_id, finished_at, status, error->>'code', exp(6 + random() * 2 - random() * 2),
    exp(2 + random() - random()), 1000, 100, 2000000,
    (SELECT json_agg(json_build_array('n' || i, CASE WHEN i = 3 THEN status ELSE 'COMPLETED' END, exp(3 + random() * 2)))
        FROM generate_series(0, $3::int - 1) i WHERE runs.id IS NOT NULL),
    id, mode, source
FROM runs WHERE id >= 'run_01k' || lpad($1::int::text, 12, '0') AND id < 'run_01k' || lpad(($2::int + 1)::text, 12, '0')
ORDER BY id
"""
_IS_FOLDED = """
SELECT NOT EXISTS (SELECT FROM run_ends)
    AND NOT EXISTS (SELECT FROM run_sums WHERE counts IS NULL AND start < date_trunc('month', now(), 'UTC'))
"""
_RECOUNT = f"""
SELECT since, count(*) FILTER (WHERE status = 'COMPLETED' AND finished_at >= since) AS completed
FROM runs, (SELECT date_trunc('day', now(), 'UTC') - interval '{DAYS} days' AS since) s GROUP BY since
"""
