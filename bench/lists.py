"""Rows 11 and 12: the cost of lists, compared with a response from memory, and by table size."""

import asyncio
import sys
import time
from typing import Any

import asyncpg

from bench.client import BenchClient
from bench.graphs import chain
from bench.measures import Figure, at_least, at_most, percentile, reported
from bench.processes import Deployment, free_port

CLIENTS, PAGE = 8, 50
FIELDS = "id status progress source attempt mode createdBy createdAt startedAt finishedAt"
STATES = "nodeStates { nodeId label type status visits attempt startedAt completedAt durationMs seq }"
RUNS = f"query {{ runs(first: {PAGE}) {{ nodes {{ {FIELDS} {STATES} }} }} }}"


async def pages(deployment: Deployment, seconds: float) -> list[Figure]:
    """Measure row 11: eight clients read 50 runs with 10 fields and ten node states each."""
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"page {time.time_ns()}", chain(10))
        for _ in range(PAGE):
            await client.run(workflow_id, {"x": 1})
    port = free_port()
    from_memory = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.from_memory", str(port))
    try:
        await _wait_until_listening(port)
        rates = [await _rate(f"http://127.0.0.1:{port}/graphql", seconds / 2)]
        ours = await _rate(deployment.url, seconds)
        rates.append(await _rate(f"http://127.0.0.1:{port}/graphql", seconds / 2))
    finally:
        from_memory.terminate()
        await from_memory.wait()
    c = sum(rates) / len(rates)
    return [
        reported("11", "Strawberry from memory (C)", c, "requests/s"),
        reported("11", "page of 50 runs with node states", ours, "requests/s"),
        at_least("11", "Treadle ÷ C", ours / c, 0.6),
    ]


async def _wait_until_listening(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def _rate(url: str, seconds: float) -> float:
    started_at, count = time.perf_counter(), 0

    async def read_pages() -> None:
        nonlocal count
        async with BenchClient(url) as client:
            while time.perf_counter() - started_at < seconds:
                page = (await client.execute(RUNS))["runs"]["nodes"]
                assert len(page) == PAGE
                assert len(page[-1]["nodeStates"]) == 10
                count += 1

    await asyncio.gather(*(read_pages() for _ in range(CLIENTS)))
    return count / (time.perf_counter() - started_at)


SMALL, BIG = 1_000, 1_000_000
TIMES = 30
DEEP_PAGE = 1_000
"""The page that is measured besides the first one."""


async def scale(deployment: Deployment) -> list[Figure]:
    """Measure row 12: lists with 1,000 runs, and with 1,000,000 runs and 10,000,000 events."""
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"scale {time.time_ns()}", chain(2))
        template = (await client.run(workflow_id, {"x": 1}))["id"]
        await _fill(deployment.database_url, template, SMALL)
        small = await _times(client, workflow_id, template, SMALL // 4)
    await _fill(deployment.database_url, template, BIG)
    # A new connection, because the server may have closed the idle one.
    async with BenchClient(deployment.url) as client:
        big = await _times(client, workflow_id, template, DEEP_PAGE * 25)
    figures = []
    for name, durations in small.items():
        ratio = percentile(big[name], 0.5) / percentile(durations, 0.5)
        note = f"{percentile(durations, 0.5):.1f} → {percentile(big[name], 0.5):.1f} ms"
        figures.append(at_most("12", f"{name}: 1,000,000 runs ÷ 1,000", ratio, 1.3, note=note))
    return figures


async def _times(client: BenchClient, workflow_id: str, run_id: str, deep: int) -> dict[str, list[float]]:
    """Return the durations of each query, in milliseconds."""
    cursor = await _cursor(client, deep)
    durations: dict[str, list[float]] = {}
    for name, (query, variables) in _queries(workflow_id, run_id, cursor).items():
        durations[name] = []
        for _ in range(TIMES):
            started_at = time.perf_counter()
            await client.execute(query, **variables)
            durations[name].append((time.perf_counter() - started_at) * 1000)
    return durations


def _queries(workflow_id: str, run_id: str, cursor: str) -> dict[str, tuple[str, dict[str, Any]]]:
    page = "{ nodes { id status createdAt } pageInfo { hasNextPage endCursor } }"
    states = "{ nodes { id status nodeStates { nodeId status } } }"
    history = "{ run(id: $id) { events(last: 20) { nodes { seq at } } checkpoints(first: 10) { nodes { id step } } } }"
    derived = "{ run(id: $id) { derivedRuns(first: 10) { nodes { id } } nodeStates { nodeId status } } }"
    before = 'createdBefore: "2020-01-01T00:00:00Z"'
    filtered = "filter: {workflowId: $id, status: [COMPLETED]}"
    return {
        "runs, first page": (f"query {{ runs(first: 25) {page} }}", {}),
        "runs, page 1,000": (f"query ($after: String) {{ runs(first: 25, after: $after) {page} }}", {"after": cursor}),
        "runs of a workflow in a status": (
            f"query ($id: ID!) {{ runs(first: 25, {filtered}) {page} }}",
            {"id": workflow_id},
        ),
        "runs in a status without runs": (f"query {{ runs(first: 25, filter: {{status: [FAILED]}}) {page} }}", {}),
        "runs of a source without runs": (f"query {{ runs(first: 25, filter: {{source: [FORK]}}) {page} }}", {}),
        "runs before the first run": (f"query {{ runs(first: 25, filter: {{{before}}}) {page} }}", {}),
        "runs with node states": (f"query {{ runs(first: 25) {states} }}", {}),
        "a workflow's runs": (
            f"query ($id: ID!) {{ workflow(id: $id) {{ runs(first: 25) {page} }} }}",
            {"id": workflow_id},
        ),
        "events and checkpoints of a run": (f"query ($id: ID!) {history}", {"id": run_id}),
        "a run with its derived runs": (f"query ($id: ID!) {derived}", {"id": run_id}),
        "workflows": ("query { workflows(first: 25) { nodes { id name } } }", {}),
    }


async def _cursor(client: BenchClient, deep: int) -> str:
    """Return the cursor `deep` runs after the newest run."""
    after: str | None = None
    remaining = deep
    while remaining > 0:
        response = await client.execute(
            "query ($n: Int!, $after: String) { runs(first: $n, after: $after) { pageInfo { endCursor } } }",
            n=min(remaining, 100),
            after=after,
        )
        after, remaining = response["runs"]["pageInfo"]["endCursor"], remaining - 100
    return after or ""


async def _fill(database_url: str, template: str, count: int) -> None:
    """Copy a finished run with its history until `count` runs are stored.

    The ids sort like those of real runs.
    """
    connection = await asyncpg.connect(database_url)
    try:
        stored = await connection.fetchval("SELECT count(*) FROM runs")
        for start in range(stored, count, 50_000):
            await connection.execute(_COPY.format(start=start, stop=min(start + 50_000, count) - 1, template=template))
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


# Each id is as long as a real one, and sorts before the template's. Its counter is in the first
# digits.
_COPY = """
DO $$
DECLARE names text;
BEGIN
    SELECT string_agg(quote_ident(column_name), ', ') INTO names FROM information_schema.columns
        WHERE table_name = 'runs' AND table_schema = 'public' AND column_name <> 'id';
    EXECUTE format('INSERT INTO runs (id, %1$s) SELECT ''run_01k'' || lpad(n::text, 12, ''0'') || ''00000000000'', %1$s '
        'FROM runs, generate_series({start}, {stop}) n WHERE id = ''{template}''', names);
END $$;
INSERT INTO events (run_id, seq, type, at, node_id, body)
SELECT 'run_01k' || lpad(n::text, 12, '0') || '00000000000', e.seq, e.type, e.at, e.node_id, e.body
FROM (SELECT * FROM events WHERE run_id = '{template}' ORDER BY seq LIMIT 10) e, generate_series({start}, {stop}) n;
INSERT INTO node_states SELECT (jsonb_populate_record(s, jsonb_build_object(
    'run_id', 'run_01k' || lpad(n::text, 12, '0') || '00000000000'))).*
FROM node_states s, generate_series({start}, {stop}) n WHERE s.run_id = '{template}';
"""
