"""Statistics equal a recount of the runs: before and after folding, with concurrent writers and retention."""

import asyncio
import math
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import asyncpg
import pytest

from persistence.caller import Caller
from persistence.db.advisory_locks import AdvisoryLock
from persistence.db.database import Database
from persistence.maintenance.retention import prune_history, prune_runs
from persistence.runs.run import Run
from persistence.statistics.counts import RELATIVE_ERROR, Counts, add, bucket_of, histogram_of, percentile, value_of
from persistence.statistics.folding import SumUnit, fold, sum_months
from persistence.statistics.reading import Bucket, Period, counts_by_start
from tests.journal_worker import accept_run

NOW = datetime.now(UTC)
CODES = (None, "HTTP_STATUS", "TIMEOUT")
INSERT = """
INSERT INTO runs (id, project_id, version_id, source, mode, status, inputs, options, created_by, lane, created_at, queued_at,
    started_at)
SELECT 'run_s' || lpad(n::text, 25, '0'), r.project_id, r.version_id, 'MANUAL', 'ASYNC', 'RUNNING', '{}', '{}', 'me', r.lane,
    now(), now() - make_interval(secs => n % 7), now()
FROM generate_series($2::int, $3::int) n, runs r WHERE r.id = $1
"""
NODES = """
INSERT INTO node_states (run_id, node_id, status, visits, attempt, progress, started_at, completed_at, seq, usage)
SELECT r.id, node, CASE WHEN right(r.id, 1) = '3' AND node = 'b' THEN 'FAILED' ELSE 'COMPLETED' END, 1, 1, 1,
    now(), now() + make_interval(secs => right(r.id, 2)::int + 1), 1,
    CASE WHEN node = 'a' THEN '{"model": "m", "input_tokens": 3, "output_tokens": 2, "cost_usd": 0.1}'::json END
FROM runs r, unnest(ARRAY['a', 'b']) node WHERE r.id LIKE 'run_s%'
"""
END = """
UPDATE runs SET status = $2, finished_at = $3, started_at = $3::timestamptz - make_interval(secs => $4),
    queued_at = $3::timestamptz - make_interval(secs => $4 + 1), error = $5 WHERE id = $1
"""

SUMMED = "SELECT count(*) FROM run_sums WHERE unit = 'MONTH' AND counts IS NOT NULL"


@pytest.fixture
async def ended(database: Database, caller: Caller, project: str) -> list[str]:
    """End 300 runs of two workflows and of none, over 100 days, from several connections at once."""
    template: Run = (await accept_run(database, caller, project)).run
    pool, count, chance = database.pool, 300, random.Random(7)
    await pool.execute(INSERT, template.id, 1, count)
    await pool.execute(NODES)
    await pool.execute("INSERT INTO workflows (id, project_id, name) SELECT id, $1, id FROM unnest($2::text[]) id", project,
                       ["wf_a", "wf_b"])  # fmt: skip
    await pool.execute("UPDATE runs SET workflow_id = CASE right(id, 1)::int % 3 WHEN 0 THEN 'wf_a' WHEN 1 THEN 'wf_b' END "
                       "WHERE id LIKE 'run_s%'")  # fmt: skip
    ids = [row["id"] for row in await pool.fetch("SELECT id FROM runs WHERE id LIKE 'run_s%' ORDER BY id")]

    async def end(run_id: str) -> None:
        code = chance.choice(CODES)
        status = "FAILED" if code else chance.choice(["COMPLETED", "CANCELLED"])
        error = code and {"code": code, "message": "m", "node_id": None, "retryable": False, "details": None}
        at = NOW - timedelta(hours=chance.choice([0, 1, 2, 30, 31, 24 * 5, 24 * 45, 24 * 91, 24 * 100]))
        await pool.execute(END, run_id, status, at, chance.uniform(0.001, 5000), error)

    await asyncio.gather(*(end(run_id) for run_id in ids))
    return ids


async def sum_open_months(database: Database) -> int:
    """Sum up all months that are over, with several workers at once. Return their number."""
    total = 0
    while count := sum(await asyncio.gather(*(sum_months(database.pool, 3) for _ in range(2)))):
        total += count
    return total


def recounted(rows: list[asyncpg.Record], period: Period) -> list[asyncpg.Record]:
    return [
        row
        for row in rows
        if row["finished_at"] is not None
        and period.since <= row["finished_at"] < period.until
        and period.workflow_id in (None, row["workflow_id"])
    ]


async def check(database: Database, caller: Caller, project: str, rows: list[asyncpg.Record]) -> None:
    """Compare the statistics of many periods with the runs as they were."""
    starts = (NOW - timedelta(days=101), NOW - timedelta(days=5, hours=3), NOW - timedelta(hours=2))
    for since, until, workflow_id in product(starts, (NOW, NOW - timedelta(minutes=70)), (None, "wf_a", "wf_b")):
        period = Period.covering(since, until, NOW, workflow_id)
        expected = recounted(rows, period)
        for unit in [SumUnit.DAY, SumUnit.MONTH] + [SumUnit.HOUR] * (since > NOW - timedelta(days=90)):
            found = await counts_by_start(database.pool, caller, [project], period, unit=unit)
            total = Counts()
            for counts in found.values():
                add(total, counts)
            assert {key: count for key, count in total.items() if key[:2] in ("s:", "c:")} == Counter(
                [f"s:{row['status']}" for row in expected]
                + [f"c:{row['error']['code']}" for row in expected if row["error"]]
            )
            assert (total["tokens:in"], total["cost"]) == (3 * len(expected), 100_000_000 * len(expected))
            _check_percentiles(total, expected)
        if workflow_id is not None:
            nodes = await counts_by_start(database.pool, caller, [project], period, unit=SumUnit.MONTH, of_nodes=True)
            of_nodes: Counter[tuple[str, str]] = Counter()
            for (_, node_id), counts in nodes.items():
                of_nodes.update({(node_id, key): n for key, n in counts.items() if key.startswith("s:")})
            failed = sum(row["id"].endswith("3") for row in expected)
            wanted = {
                ("a", "s:COMPLETED"): len(expected),
                ("b", "s:FAILED"): failed,
                ("b", "s:COMPLETED"): len(expected) - failed,
            }
            assert of_nodes == Counter({key: count for key, count in wanted.items() if count})
    assert await counts_by_start(database.pool, Caller("x", {}), [project], period, unit=SumUnit.DAY) == {}


def _check_percentiles(total: Counts, expected: list[asyncpg.Record]) -> None:
    for part in (0.5, 0.95):
        took = sorted((row["finished_at"] - row["started_at"]) / timedelta(milliseconds=1) for row in expected)
        found = percentile(histogram_of(total, "d:"), part)
        assert found == (pytest.approx(took[math.ceil(part * len(took)) - 1], rel=RELATIVE_ERROR) if took else None)
        assert percentile(histogram_of(total, "q:"), part) == (
            pytest.approx(1000, rel=RELATIVE_ERROR) if took else None
        )


async def test_statistics_equal_a_recount_before_during_and_after_folding_and_retention(
    database: Database, caller: Caller, project: str, ended: list[str]
) -> None:
    rows = await database.pool.fetch("SELECT * FROM runs")
    await check(database, caller, project, rows)
    assert await fold(database.pool, 70) == 70
    await check(database, caller, project, rows)
    # Several workers at once: each end is folded by one of them.
    while sum(await asyncio.gather(*(fold(database.pool, 50) for _ in range(4)))):
        pass
    assert await database.pool.fetchval("SELECT count(*) FROM run_ends") == 0
    await check(database, caller, project, rows)
    assert await sum_open_months(database) == await database.pool.fetchval(SUMMED)
    await check(database, caller, project, rows)
    await database.pool.execute("UPDATE runs SET progress = 1, status_message = 'again' WHERE finished_at IS NOT NULL")
    assert await database.pool.fetchval("SELECT count(*) FROM run_ends") == 0, "an ended run is counted again"
    assert await prune_history(database.pool, 0, 1000) and await prune_runs(database.pool, 0, 1000)
    await database.pool.execute("DELETE FROM workflows")
    await check(database, caller, project, rows)


async def test_a_late_end_opens_its_month_and_nothing_is_missing_at_any_moment(
    database: Database, caller: Caller, project: str, ended: list[str]
) -> None:
    pool, template = database.pool, await accept_run(database, caller, project)
    assert await fold(pool) == len(ended) and await sum_open_months(database)
    summed = await pool.fetchval(SUMMED)
    late_id = f"run_s{len(ended) + 1:025}"
    await pool.execute(INSERT, template.run.id, len(ended) + 1, len(ended) + 1)
    await pool.execute(NODES.replace("LIKE 'run_s%'", f"= '{late_id}'"))
    await pool.execute("UPDATE runs SET workflow_id = 'wf_a' WHERE id = $1", late_id)
    await pool.execute(END, late_id, "CANCELLED", NOW - timedelta(days=45), 1.0, None)
    rows = await pool.fetch("SELECT * FROM runs")
    await check(database, caller, project, rows)
    assert await fold(pool) == 1
    # The project, the workflow, and its nodes a and b.
    assert await pool.fetchval(SUMMED) == summed - 4
    await check(database, caller, project, rows)
    assert await sum_months(pool, 3) == 3
    await check(database, caller, project, rows)
    assert await sum_months(pool) == 1 and await sum_months(pool) == 0
    await check(database, caller, project, rows)


async def test_a_month_that_is_not_over_stays_open(database: Database, caller: Caller, project: str, run: Run) -> None:
    await database.pool.execute(END, run.id, "COMPLETED", NOW, 1.0, None)
    assert await fold(database.pool) == 1 and await sum_months(database.pool) == 0
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", AdvisoryLock.STATISTICS)
        assert await sum_months(database.pool) == 0


async def test_a_crash_while_folding_counts_nothing_twice(
    database: Database, caller: Caller, project: str, ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: Any) -> None:
        raise ConnectionResetError("crashed")

    rows = await database.pool.fetch("SELECT * FROM runs")
    with monkeypatch.context() as patch, pytest.raises(ConnectionResetError):
        patch.setattr("persistence.statistics.folding._add_to_stored", crash)
        await fold(database.pool)
    assert await database.pool.fetchval("SELECT count(*) FROM run_ends") == len(ended)
    assert await fold(database.pool) == len(ended)
    await check(database, caller, project, rows)
    with monkeypatch.context() as patch, pytest.raises(ConnectionResetError):
        patch.setattr("persistence.statistics.folding._store", crash)
        await sum_months(database.pool)
    assert await database.pool.fetchval(SUMMED) == 0
    await check(database, caller, project, rows)


async def test_the_tokens_of_every_visit_in_a_loop_count(
    database: Database, caller: Caller, project: str, run: Run
) -> None:
    pool = database.pool
    usage = '{"usage": {"input_tokens": 5, "output_tokens": 1, "cost_usd": 0.5}'
    for seq, status in enumerate(["RUNNING", None, "FAILED", "RETRYING", None], start=2):
        body = usage + (f', "status": "{status}"}}' if status else "}")
        insert = (
            "INSERT INTO events (run_id, seq, type, node_id, body) VALUES ($1, $2, 'NODE_STATE', 'a', $3::text::json)"
        )
        await pool.execute(insert, run.id, seq, body)
    await pool.execute(
        "INSERT INTO node_states (run_id, node_id, status, visits, attempt, progress, started_at, seq, usage) "
        "VALUES ($1, 'a', 'COMPLETED', 3, 1, 1, now(), 6, '{\"input_tokens\": 5, \"output_tokens\": 1, \"cost_usd\": 0.5}')",
        run.id,
    )
    await pool.execute(END, run.id, "COMPLETED", NOW, 1.0, None)
    row = await pool.fetchrow("SELECT input_tokens, output_tokens, cost FROM run_ends")
    assert tuple(row) == (15, 3, 1_500_000_000)


def test_a_bucket_is_within_its_error_at_every_scale() -> None:
    for exponent in range(-4, 24):
        for ms in (10 ** (exponent / 2), 10 ** (exponent / 2) * 1.7):
            assert value_of(bucket_of(max(ms, 0.01))) == pytest.approx(max(ms, 0.01), rel=RELATIVE_ERROR * 1.0001)
    assert bucket_of(0) == bucket_of(-1.0) == bucket_of(0.01)


def test_more_error_codes_than_are_counted_become_other() -> None:
    counts = Counts()
    for number in range(300):
        add(counts, {f"c:CODE_{number}": 2})
    add(counts, {"c:CODE_1": 1})
    assert (len(counts), counts["c:OTHER"], counts["c:CODE_1"]) == (201, 200, 3)


@pytest.mark.parametrize(
    ("bucket", "moment", "start"),
    [
        (Bucket.HOUR, "2030-05-01T13:59:59.9+02:00", "2030-05-01T11:00Z"),
        (Bucket.DAY, "2030-05-01T01:00+02:00", "2030-04-30T00:00Z"),
        (Bucket.WEEK, "2030-05-01T00:00Z", "2030-04-29T00:00Z"),
    ],
)
def test_periods_begin_in_utc(bucket: Bucket, moment: str, start: str) -> None:
    assert bucket.start_of(datetime.fromisoformat(moment)) == datetime.fromisoformat(start)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ('{"input_tokens": 2.5, "output_tokens": 1, "cost_usd": 1e300}', (3, 1, 10**15)),
        ('{"input_tokens": 1e300, "output_tokens": -1e300, "cost_usd": -1e300}', (10**15, 0, 0)),
        ('{"input_tokens": null, "cost_usd": null}', (0, 0, 0)),
    ],
)
@pytest.mark.parametrize("visits", [1, 2])
async def test_no_usage_that_a_node_reports_keeps_a_run_from_ending(
    database: Database, run: Run, visits: int, usage: str, counted: tuple[int, int, int]
) -> None:
    await database.pool.execute(
        "INSERT INTO node_states (run_id, node_id, status, visits, attempt, progress, started_at, seq, usage) "
        "VALUES ($1, 'a', 'COMPLETED', $2, 1, 1, now(), 1, $3::text::json)",
        *(run.id, visits, usage),
    )
    await database.pool.execute(
        "INSERT INTO events (run_id, seq, type, node_id, body) VALUES ($1, 2, 'NODE_STATE', 'a', $2::text::json)",
        *(run.id, f'{{"usage": {usage}}}'),
    )
    await database.pool.execute(END, run.id, "COMPLETED", NOW, 1.0, None)
    assert tuple(await database.pool.fetchrow("SELECT input_tokens, output_tokens, cost FROM run_ends")) == counted
    assert await fold(database.pool) == 1


async def test_folding_waits_for_no_other_lock(database: Database, caller: Caller, project: str, run: Run) -> None:
    await database.pool.execute(END, run.id, "COMPLETED", NOW, 1.0, None)
    async with database.pool.acquire() as connection, connection.transaction():
        for lock in set(AdvisoryLock) - {AdvisoryLock.STATISTICS}:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", lock)
        assert await fold(database.pool) == 1
