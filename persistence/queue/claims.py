"""Postgres is the queue: a worker claims as many QUEUED runs as it has room for, in a fair order, in one statement.

Fair between projects first: a run's rank is what its project holds already plus its place in the project's own queue. Within
a project, by priority and then by age. A lane is what is limited together. A claim costs the same with ten runs queued and
with a hundred thousand: it looks at the first of each lane, and further down in the best lanes alone. A crash after the
commit leaves the lease to run out; a worker that is stopped in the middle holds up nobody for longer than PATIENCE_MS.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg

from engine.states import RunStatus
from engine.types import JSON
from persistence.events.run_transition import RunTransition
from persistence.queue.leases import transition_of

MAX_CLAIM = 48
"""Runs claimed at once. The statement looks at 64: a constant, so that its plan is one for few rows."""
ROUNDS = 8
"""Of several workers that look at once, some find all that they looked at taken: they look again this often."""
LIMITS_LOCK = 7_233_150_419
"""The advisory lock under which limited runs are counted and claimed: exact, whoever else claims."""
PATIENCE_MS = 2_000
"""How long anybody waits for that lock, and may hold it without a word."""


class ClaimLimits(StrEnum):
    """What a claim may do about runs that are limited."""

    NONE = "none"
    """There are none, it believes: where there is one it claims nothing, since that one may be next."""
    COUNTED = "counted"
    """It holds the lock, so it may count and claim them."""
    LEFT_OUT = "left out"


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
    parent_id: str | None
    inputs: JSON
    scopes: list[str]
    options: dict[str, Any]
    is_step: bool
    resumed_step: int
    timeout_at: datetime | None
    error: JSON
    """Of a run that was failing when its last worker was lost."""
    now: datetime


@dataclass(frozen=True, slots=True)
class Claims:
    """What one worker has won."""

    won: list[tuple[Claimed, RunTransition]]
    is_more: bool
    """Whether something queued was left that the end of a run may let in."""


@dataclass(frozen=True, slots=True)
class _Look:
    won: list[tuple[Claimed, RunTransition]]
    seen: int
    """Runs that it might have claimed: where it won fewer than it wanted, others have the rest."""
    has_limited: bool


async def claim_next(
    pool: asyncpg.Pool, worker_id: str, ttl_s: float, free: int, project_limit: int | None = None
) -> Claims:
    """QUEUED → RUNNING for up to `free` runs, 48 at most, each for one worker alone."""
    free, won = min(free, MAX_CLAIM), list[tuple[Claimed, RunTransition]]()
    for _ in range(ROUNDS):
        look = await _look(pool, worker_id, ttl_s, free - len(won), project_limit)
        won += look.won
        if is_done := len(won) == free or look.seen == len(look.won):
            break
    return Claims(won, not is_done or len(won) == free or look.has_limited or project_limit is not None)


async def _look(pool: asyncpg.Pool, worker_id: str, ttl_s: float, free: int, project_limit: int | None) -> _Look:
    given = worker_id, ttl_s, free
    if project_limit is None:
        look = _look_of(await pool.fetch(_CLAIM, *given, ClaimLimits.NONE, None))
        if not look.has_limited:
            return look
    try:
        return await _counted(pool, *given, project_limit)
    except asyncpg.LockNotAvailableError:
        # Somebody has it and does not move. What is not limited need not wait for that.
        if project_limit is not None:
            return _Look([], 0, True)
        return _look_of(await pool.fetch(_CLAIM, *given, ClaimLimits.LEFT_OUT, None))


async def _counted(pool: asyncpg.Pool, worker_id: str, ttl_s: float, free: int, project_limit: int | None) -> _Look:
    async with pool.acquire() as connection, connection.transaction():
        # A statement of its own: the one that counts must begin, and see, only once the lock is ours.
        await connection.fetch(_PATIENCE, str(PATIENCE_MS))
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LIMITS_LOCK)
        return _look_of(await connection.fetch(_CLAIM, worker_id, ttl_s, free, ClaimLimits.COUNTED, project_limit))


def _look_of(rows: list[Any]) -> _Look:
    won = [
        (
            Claimed(**{name: row[name] for name in Claimed.__slots__ if name != "now"}, now=row["at"]),
            transition_of(row, RunStatus.RUNNING, RunStatus.QUEUED, row["message"]),
        )
        for row in rows
        if row["id"] is not None
    ]
    return _Look(won, rows[0]["seen"], rows[0]["has_limited"])


async def spec_of(pool: asyncpg.Pool, version_id: str) -> JSON:
    """The spec of a claimed run, for the one time that its graph is not compiled yet."""
    return await pool.fetchval("SELECT spec FROM versions WHERE id = $1", version_id)


_PATIENCE = """
SELECT set_config('lock_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $1, true)
"""
# Why 64 lanes are enough: a lane's first run that is the j-th of the firsts in its project shows that the project has a
# j-th run that is at least as good. So each of the 64 lanes before this one stands for a run that goes before all of this
# one's; by the same count the lane at place n can have no more than 65 - n runs among the best.
_CLAIM = """
WITH RECURSIVE firsts AS (
    (SELECT lane, project_id, lane_limit, priority, queued_at, id FROM runs WHERE status = 'QUEUED'
        ORDER BY lane, priority DESC, queued_at, id LIMIT 1)
    UNION ALL
    SELECT n.* FROM firsts f CROSS JOIN LATERAL (
        SELECT lane, project_id, lane_limit, priority, queued_at, id FROM runs
        WHERE status = 'QUEUED' AND lane > f.lane ORDER BY lane, priority DESC, queued_at, id LIMIT 1
    ) n
), limited AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM runs WHERE status = 'QUEUED' AND lane_limit IS NOT NULL) AS is_any
), held AS MATERIALIZED (
    SELECT project_id, lane, count(*) AS count FROM runs WHERE status IN ('RUNNING', 'PAUSING', 'CANCELLING')
    GROUP BY project_id, lane
), held_of AS MATERIALIZED (
    SELECT project_id, sum(count) AS count FROM held GROUP BY project_id
), allowed AS (
    SELECT f.*, f.lane_limit - coalesce(h.count, 0) AS room, coalesce(p.count, 0) AS project_held
    FROM firsts f LEFT JOIN held h USING (project_id, lane) LEFT JOIN held_of p USING (project_id)
    WHERE CASE $4 WHEN 'counted' THEN f.lane_limit IS NULL OR f.lane_limit > coalesce(h.count, 0)
        WHEN 'none' THEN NOT (SELECT is_any FROM limited) ELSE f.lane_limit IS NULL END
), ranked AS (
    SELECT *, project_held + row_number() OVER (PARTITION BY project_id ORDER BY priority DESC, queued_at, id) AS rank
    FROM allowed
), lanes AS MATERIALIZED (
    SELECT lane, room, project_held, row_number() OVER (ORDER BY rank, priority DESC, queued_at, id) AS place
    FROM ranked ORDER BY place LIMIT 64
), let AS (
    SELECT t.*, l.project_held
        + row_number() OVER (PARTITION BY t.project_id ORDER BY t.priority DESC, t.queued_at, t.id) AS rank
    FROM lanes l CROSS JOIN LATERAL (
        SELECT id, project_id, priority, queued_at FROM runs WHERE status = 'QUEUED' AND lane = l.lane
        ORDER BY priority DESC, queued_at, id LIMIT least(65 - l.place, l.room)
    ) t
), best AS MATERIALIZED (
    SELECT ARRAY(
        SELECT id FROM let WHERE $5::int IS NULL OR rank <= $5 ORDER BY rank, priority DESC, queued_at, id LIMIT 64
    ) AS ids
), chosen AS MATERIALIZED (
    SELECT id FROM runs WHERE id = ANY ((SELECT ids FROM best)::text[]) AND status = 'QUEUED'
    ORDER BY array_position((SELECT ids FROM best), id) LIMIT $3
    FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE runs SET status = 'RUNNING', epoch = epoch + 1, attempt = attempt + 1, worker_id = $1,
        lease_until = now() + make_interval(secs => $2), started_at = coalesce(started_at, now()), deadline_at = NULL,
        wake_at = NULL, timeout_at = coalesce(
            timeout_at, now() + make_interval(secs => least((options->>'timeoutS')::float, 1e9))),
        last_seq = last_seq + 1, status_message = NULL
    WHERE id IN (SELECT id FROM chosen)
    RETURNING *, now() AS at, CASE attempt WHEN 1 THEN 'Started' ELSE 'Taken up again' END AS message
), told AS (
    INSERT INTO events (run_id, seq, type, at, body)
    SELECT id, last_seq, 'RUN_STATUS', at, json_build_object('status', status, 'previous', 'QUEUED', 'message', message)
    FROM moved
)
SELECT x.has_limited, x.seen, m.*, v.spec_hash
FROM (SELECT is_any AS has_limited, cardinality((SELECT ids FROM best)) AS seen FROM limited) x
LEFT JOIN (moved m JOIN versions v ON v.id = m.version_id) ON true
"""
