"""Postgres is the queue: a worker claims as many QUEUED runs as it has room for, in a fair order, in one statement.

Fair between projects first: a run's rank is what its project holds already plus its place in the project's own queue. Within
a project, by priority and then by age. A lane is what is limited together; the top of each lane alone is looked at, so that
a claim costs the same with ten runs queued and with a hundred thousand. A crash after the commit leaves the lease to run out.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from engine.events import JSON
from engine.states import RunStatus
from persistence.leases import Moved, moved_of

MAX_CLAIM = 48
"""Runs claimed at once. The statement looks at 64 of each lane: a constant, so that its plan is one for few rows."""
LIMITS_LOCK = 7_233_150_419
"""The advisory lock under which limited runs are counted and claimed: exact, whoever else claims."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that this worker holds now, with all that it needs to go on."""

    id: str
    project_id: str
    version_id: str
    spec_hash: str
    epoch: int
    lineage: int
    attempt: int
    inputs: JSON
    options: dict[str, Any]
    is_step: bool
    resumed_step: int
    timeout_at: datetime | None
    now: datetime


async def claim_next(
    pool: asyncpg.Pool, worker_id: str, ttl_s: float, free: int, project_limit: int | None = None
) -> list[tuple[Claimed, Moved]]:
    """QUEUED → RUNNING for up to `free` runs, 48 at most, each for one worker alone."""
    free = min(free, MAX_CLAIM)
    if project_limit is not None:
        return await _claim_limited(pool, worker_id, ttl_s, free, project_limit)
    rows = await pool.fetch(_CLAIM, worker_id, ttl_s, free, False, None)
    won = _won(rows)
    if rows[0]["has_limited"] and len(won) < free:
        won += await _claim_limited(pool, worker_id, ttl_s, free - len(won), None)
    return won


async def _claim_limited(
    pool: asyncpg.Pool, worker_id: str, ttl_s: float, free: int, project_limit: int | None
) -> list[tuple[Claimed, Moved]]:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LIMITS_LOCK)
        return _won(await connection.fetch(_CLAIM, worker_id, ttl_s, free, True, project_limit))


def _won(rows: list[Any]) -> list[tuple[Claimed, Moved]]:
    return [
        (
            Claimed(**{name: row[name] for name in Claimed.__slots__ if name != "now"}, now=row["at"]),
            moved_of(row, RunStatus.RUNNING, RunStatus.QUEUED, row["message"]),
        )
        for row in rows
        if row["id"] is not None
    ]


async def spec_of(pool: asyncpg.Pool, version_id: str) -> JSON:
    """The spec of a claimed run, for the one time that its graph is not compiled yet."""
    return await pool.fetchval("SELECT spec FROM versions WHERE id = $1", version_id)


_CLAIM = """
WITH RECURSIVE lanes AS (
    (SELECT lane FROM runs WHERE status = 'QUEUED' ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT r.lane FROM runs r WHERE r.status = 'QUEUED' AND r.lane > l.lane ORDER BY r.lane LIMIT 1)
    FROM lanes l WHERE l.lane IS NOT NULL
), held AS MATERIALIZED (
    SELECT project_id, lane, count(*) AS count FROM runs WHERE status IN ('RUNNING', 'PAUSING', 'CANCELLING')
    GROUP BY project_id, lane
), top AS (
    SELECT t.*, coalesce((SELECT sum(count) FROM held h WHERE h.lane = l.lane), 0) AS lane_held,
        coalesce((SELECT sum(count) FROM held h WHERE h.project_id = t.project_id), 0) AS project_held
    FROM lanes l CROSS JOIN LATERAL (
        SELECT id, project_id, lane_limit, priority, queued_at,
            row_number() OVER (ORDER BY priority DESC, queued_at, id) AS lane_place
        FROM runs WHERE status = 'QUEUED' AND lane = l.lane ORDER BY priority DESC, queued_at, id LIMIT 64
    ) t
), let AS (
    SELECT *, project_held + row_number() OVER (PARTITION BY project_id ORDER BY priority DESC, queued_at, id) AS rank
    FROM top WHERE lane_limit IS NULL OR ($4 AND lane_held + lane_place <= lane_limit)
), best AS MATERIALIZED (
    SELECT ARRAY(
        SELECT id FROM let WHERE $5::int IS NULL OR rank <= $5 ORDER BY rank, priority DESC, queued_at, id LIMIT 64
    ) AS ids
), chosen AS MATERIALIZED (
    SELECT id FROM runs WHERE id = ANY ((SELECT ids FROM best)::text[]) AND status = 'QUEUED'
    ORDER BY array_position((SELECT ids FROM best), id) LIMIT $3
    FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE runs SET status = 'RUNNING', epoch = epoch + 1, attempt = attempt + 1, worker_id = $1,
        lease_until = now() + make_interval(secs => $2), started_at = coalesce(started_at, now()), deadline_at = NULL,
        wake_at = NULL, timeout_at = coalesce(timeout_at, now() + make_interval(secs => (options->>'timeoutS')::float)),
        last_seq = last_seq + 1, status_message = NULL
    WHERE id IN (SELECT id FROM chosen)
    RETURNING *, now() AS at, CASE attempt WHEN 1 THEN 'Started' ELSE 'Taken up again' END AS message
), told AS (
    INSERT INTO events (run_id, seq, type, at, body)
    SELECT id, last_seq, 'RUN_STATUS', at, json_build_object('status', status, 'previous', 'QUEUED', 'message', message)
    FROM moved
)
SELECT x.has_limited, m.*, v.spec_hash
FROM (SELECT EXISTS (SELECT FROM runs WHERE status = 'QUEUED' AND lane_limit IS NOT NULL) AS has_limited) x
LEFT JOIN (moved m JOIN versions v ON v.id = m.version_id) ON true
"""
