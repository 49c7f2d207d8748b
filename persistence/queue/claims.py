"""Postgres is the queue: one statement claims QUEUED runs for a worker, in a fair order.

Projects share first: the rank of a run is the number of runs that its project holds already, plus
the place of the run in the queue of its project. One project leaves some slots of a worker to the
others. Inside a project, priority comes first and then age. Runs with one concurrency key are limited
together. A claim costs the same with ten queued runs and with 100,000: it reads the first run of each
key, and more runs of the best keys only. If a
worker dies after the commit, its leases expire; one that stops inside a claim delays the others by
LOCK_TIMEOUT_MS at most.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg
import orjson

from engine.states import LEASED, RunStatus, sql_list
from engine.types import JSON
from persistence.db.advisory_locks import AdvisoryLock
from persistence.events.run_transition import RunTransition
from persistence.queue.leases import transition_of

MAX_CLAIM = 48
"""Most runs in one claim. The statement considers 64 runs, a constant, so that it has one plan for
few rows."""
ROUNDS = 8
"""Most attempts of one claim. Of several workers that claim at once, some find that all the runs
that they considered are taken, and try again."""
LOCK_TIMEOUT_MS = 2_000
"""How long a claim waits for the lock of limits, and may hold it without sending a statement."""


class ClaimLimits(StrEnum):
    """How a claim treats runs with a concurrency limit."""

    NONE = "none"
    """No queued run has a limit, it assumes. If one has, nothing is claimed: that run may be
    next."""
    COUNTED = "counted"
    """The claim holds the lock of limits, so it counts held runs and claims limited ones."""
    LEFT_OUT = "left out"
    """Limited runs are not claimed."""


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that this worker holds, with everything that is needed to execute it."""

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
    stored_bytes: int
    error: JSON
    """The error of a run that was failing when its last worker died."""
    queued_at: datetime
    now: datetime
    """The database's time at the claim."""


@dataclass(frozen=True, slots=True)
class ClaimBatch:
    """The runs that one worker claimed at once: the first ones of the queue."""

    runs: list[ClaimedRun]
    """In no particular order."""
    transitions: list[RunTransition]
    """One for each run."""
    has_more: bool
    """Whether a run may be queued that can be claimed as soon as another run ends."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The result of one execution of the statement."""

    runs: list[ClaimedRun]
    transitions: list[RunTransition]
    considered: int
    """Runs that the statement could have claimed. If it claimed fewer than it wanted, other workers
    have claimed the others."""
    has_limited: bool
    """Whether a queued run has a concurrency limit."""


_Arguments = tuple[str, float, int, str, int | None]
"""Of the statement: worker, length of the leases, free slots, runs that it executes by project, share."""


async def claim_next(
    pool: asyncpg.Pool,
    worker_id: str,
    ttl_s: float,
    free: int,
    project_limit: int | None = None,
    *,
    share: int | None = None,
    held: Mapping[str, int] | None = None,
) -> ClaimBatch:
    """Move up to `free` runs, at most MAX_CLAIM, from QUEUED to RUNNING.

    Each run is claimed by one worker only, however many claim at once.

    Args:
        pool: Connections to Postgres.
        worker_id: The worker that holds the runs from now on.
        ttl_s: Length of the leases, in seconds.
        free: How many more runs the worker can execute.
        project_limit: How many runs of one project all workers together execute at once.
        share: How many runs of one project this worker executes at once.
        held: How many it executes now, by project.
    """
    free, is_done = min(free, MAX_CLAIM), False
    runs, transitions = list[ClaimedRun](), list[RunTransition]()
    for _ in range(ROUNDS):
        executed = Counter(held or {}) + Counter(run.project_id for run in runs)
        arguments = worker_id, ttl_s, free - len(runs), orjson.dumps(executed).decode(), share
        attempt = await _attempt(pool, arguments, project_limit)
        runs += attempt.runs
        transitions += attempt.transitions
        if is_done := len(runs) == free or attempt.considered == len(attempt.runs):
            break
    has_more = not is_done or len(runs) == free or attempt.has_limited or project_limit is not None
    return ClaimBatch(runs, transitions, has_more)


async def _attempt(pool: asyncpg.Pool, arguments: _Arguments, project_limit: int | None) -> _Attempt:
    if project_limit is None:
        attempt = _attempt_of(await pool.fetch(_CLAIM, *arguments, ClaimLimits.NONE, None))
        if not attempt.has_limited:
            return attempt
    try:
        return await _claim_counted(pool, arguments, project_limit)
    except asyncpg.LockNotAvailableError:
        # Another worker holds the lock and does not move. Runs without a limit need not wait for
        # it.
        if project_limit is not None:
            return _Attempt([], [], 0, True)
        return _attempt_of(await pool.fetch(_CLAIM, *arguments, ClaimLimits.LEFT_OUT, None))


async def _claim_counted(pool: asyncpg.Pool, arguments: _Arguments, project_limit: int | None) -> _Attempt:
    async with pool.acquire() as connection, connection.transaction():
        # Separate statements: the snapshot of the one that counts must begin after the lock is
        # held.
        await connection.fetch(_SET_TIMEOUTS, str(LOCK_TIMEOUT_MS))
        await connection.execute("SELECT pg_advisory_xact_lock($1)", AdvisoryLock.LIMITS)
        return _attempt_of(await connection.fetch(_CLAIM, *arguments, ClaimLimits.COUNTED, project_limit))


def _attempt_of(rows: list[Any]) -> _Attempt:
    claimed = [row for row in rows if row["id"] is not None]
    return _Attempt(
        [ClaimedRun(**{name: row[name] for name in _COLUMNS}, now=row["at"]) for row in claimed],
        [transition_of(row, RunStatus.RUNNING, RunStatus.QUEUED, row["message"]) for row in claimed],
        rows[0]["considered"],
        rows[0]["has_limited"],
    )


async def load_spec(pool: asyncpg.Pool, version_id: str) -> JSON:
    """Read the spec of a claimed run whose graph is not in the cache."""
    return await pool.fetchval("SELECT spec FROM versions WHERE id = $1", version_id)


_COLUMNS = [name for name in ClaimedRun.__slots__ if name != "now"]

_SET_TIMEOUTS = """
SELECT set_config('lock_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $1, true)
"""
# The column `lane` is the concurrency key, `lane_limit` its limit. Reading 64 keys is enough: if
# the first run of a key is the j-th of the first runs in its project, the project has a j-th run
# that is at least as good. So each of the 64 keys before this one has a run that goes before
# all runs of this one. By the same count, the key at place n can have no more than 65 - n runs
# among the best.
_CLAIM = f"""
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
    SELECT project_id, lane, count(*) AS count FROM runs WHERE status IN {sql_list(LEASED)}
    GROUP BY project_id, lane
), held_of AS MATERIALIZED (
    SELECT project_id, sum(count) AS count FROM held GROUP BY project_id
), allowed AS (
    SELECT f.*, f.lane_limit - coalesce(h.count, 0) AS free, coalesce(p.count, 0) AS project_held
    FROM firsts f LEFT JOIN held h USING (project_id, lane) LEFT JOIN held_of p USING (project_id)
    WHERE CASE $6 WHEN 'counted' THEN f.lane_limit IS NULL OR f.lane_limit > coalesce(h.count, 0)
        WHEN 'none' THEN NOT (SELECT is_any FROM limited) ELSE f.lane_limit IS NULL END
), ranked AS (
    SELECT *, project_held + row_number() OVER (PARTITION BY project_id ORDER BY priority DESC, queued_at, id) AS rank
    FROM allowed
), best_keys AS MATERIALIZED (
    SELECT lane, free, project_held, row_number() OVER (ORDER BY rank, priority DESC, queued_at, id) AS place
    FROM ranked ORDER BY place LIMIT 64
), candidates AS (
    SELECT t.*, k.project_held,
        row_number() OVER (PARTITION BY t.project_id ORDER BY t.priority DESC, t.queued_at, t.id) AS number
    FROM best_keys k CROSS JOIN LATERAL (
        SELECT id, project_id, priority, queued_at FROM runs WHERE status = 'QUEUED' AND lane = k.lane
        ORDER BY priority DESC, queued_at, id LIMIT least(65 - k.place, k.free)
    ) t
), best AS MATERIALIZED (
    SELECT ARRAY(
        SELECT id FROM candidates
        WHERE ($7::int IS NULL OR project_held + number <= $7)
            AND ($5::int IS NULL OR coalesce(($4::jsonb->>project_id)::int, 0) + number <= $5)
        ORDER BY project_held + number, priority DESC, queued_at, id LIMIT 64
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
    RETURNING *, now() AS at, CASE attempt WHEN 1 THEN 'Started' ELSE 'Claimed again' END AS message
), event AS (
    INSERT INTO events (run_id, seq, type, at, body)
    SELECT id, last_seq, 'RUN_STATUS', at, json_build_object('status', status, 'previous', 'QUEUED', 'message', message)
    FROM moved
)
SELECT x.has_limited, x.considered, m.last_seq, m.at, m.message, v.spec_hash,
    {", ".join(f"m.{name}" for name in _COLUMNS if name != "spec_hash")}
FROM (SELECT is_any AS has_limited, cardinality((SELECT ids FROM best)) AS considered FROM limited) x
LEFT JOIN (moved m JOIN versions v ON v.id = m.version_id) ON true
"""
