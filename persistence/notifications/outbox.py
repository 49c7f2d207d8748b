"""Claims deliveries that are due, and records the results of their attempts. Used by the workers.

A claim is one UPDATE with SKIP LOCKED. It raises `attempts`, the fencing token of the attempt, and
sets `next_attempt_at` to the end of the claim. If the worker dies before or after the message is
sent, another one claims the delivery when the claim ends: each message is delivered at least once. A
result is written only if its attempt is the last one that was claimed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from engine.types import JSON

MAX_ERROR = 2000
"""Characters of the error of an attempt."""
DISABLED_DAYS = 1
"""How long deliveries to a disabled endpoint wait until they fail, in days."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that this process sends now.

    `attempt` is the number of the attempt, and `failures` that of the failed attempts of this series
    if this one fails as well.
    """

    id: str
    project_id: str
    endpoint_id: str
    url: str
    secret: str
    payload: JSON
    attempt: int
    failures: int


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """What an attempt that has failed changes. `pause` is None if there is no further attempt."""

    status: int | None
    error: str
    pause: timedelta | None
    is_gone: bool


async def claim(
    pool: asyncpg.Pool, limit: int, per_endpoint: int, busy: Sequence[str], claim_s: float
) -> list[ClaimedDelivery]:
    """Claim deliveries that are due.

    Args:
        pool: Connections to Postgres.
        limit: How many at most.
        per_endpoint: How many of one endpoint at most, so that one that hangs holds up no other.
        busy: Endpoints of which none is claimed.
        claim_s: Seconds after which another process may claim them.
    """
    rows = await pool.fetch(_CLAIM, limit, per_endpoint, list(busy), claim_s)
    return [ClaimedDelivery(**row) for row in rows]


async def next_due_s(pool: asyncpg.Pool, busy: Sequence[str]) -> float | None:
    """Return the seconds until the next delivery is due, 0 or less if one is; None if there is none."""
    seconds = await pool.fetchval(_NEXT, list(busy))
    return None if seconds is None else float(seconds)


async def has_endpoints(pool: asyncpg.Pool) -> bool:
    """Return whether the end of a run may add a delivery."""
    return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM endpoints WHERE enabled)"))


async def record_success(pool: asyncpg.Pool, one: ClaimedDelivery, status: int) -> bool:
    """Record that an endpoint has accepted a message. Return False if the attempt is not the last one."""
    return bool(await pool.fetchval(_DELIVERED, one.id, one.attempt, status))


async def record_failure(pool: asyncpg.Pool, one: ClaimedDelivery, failed: FailedAttempt, max_failing_s: float) -> bool:
    """Record a failed attempt. An endpoint is disabled if it is gone, or has failed for `max_failing_s`.

    Returns:
        Whether this attempt has disabled it.
    """
    pause_s = None if failed.pause is None or failed.is_gone else failed.pause.total_seconds()
    return bool(
        await pool.fetchval(
            _FAILED,
            one.id,
            one.attempt,
            failed.status,
            failed.error[:MAX_ERROR],
            pause_s,
            failed.is_gone,
            max_failing_s,
        )
    )


async def end_disabled(pool: asyncpg.Pool) -> int:
    """Fail deliveries that have waited for a disabled endpoint too long. Return their number."""
    return int(await pool.fetchval(_END_DISABLED, DISABLED_DAYS))


# The order of the endpoints is random, so that those behind many others are claimed as well.
_CLAIM = """
WITH due AS (
    SELECT d.id FROM (SELECT id FROM endpoints WHERE enabled AND NOT id = ANY($3::text[]) ORDER BY random()) e
    CROSS JOIN LATERAL (
        SELECT id FROM deliveries WHERE endpoint_id = e.id AND status = 'PENDING' AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
    ) d LIMIT $1
)
UPDATE deliveries d SET attempts = d.attempts + 1, next_attempt_at = now() + make_interval(secs => $4)
FROM due, endpoints e WHERE d.id = due.id AND e.id = d.endpoint_id
RETURNING d.id, d.project_id, d.endpoint_id, e.url, e.secret, d.payload, d.attempts AS attempt,
    d.attempts - d.attempts_before AS failures
"""
_NEXT = """
SELECT extract(epoch FROM min(d.next_attempt_at) - now()) FROM endpoints e CROSS JOIN LATERAL (
    SELECT next_attempt_at FROM deliveries WHERE endpoint_id = e.id AND status = 'PENDING'
    ORDER BY next_attempt_at LIMIT 1
) d WHERE e.enabled AND NOT e.id = ANY($1::text[])
"""
# A success of an endpoint is noted once a second at most. SKIP LOCKED: another delivery notes the same.
_DELIVERED = """
WITH delivered AS (
    UPDATE deliveries SET status = 'DELIVERED', response_status = $3, error = NULL, next_attempt_at = NULL,
        delivered_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'PENDING' RETURNING endpoint_id
), noted AS (
    UPDATE endpoints SET failing_since = NULL, last_error = NULL, last_delivered_at = now() WHERE id IN (
        SELECT e.id FROM endpoints e JOIN delivered d ON d.endpoint_id = e.id
        WHERE e.failing_since IS NOT NULL OR e.last_error IS NOT NULL OR e.last_delivered_at IS NULL
            OR e.last_delivered_at < now() - interval '1 second'
        FOR NO KEY UPDATE OF e SKIP LOCKED)
)
SELECT true FROM delivered
"""
_FAILED = """
WITH failed AS (
    UPDATE deliveries SET status = CASE WHEN $5::float IS NULL THEN 'FAILED' ELSE 'PENDING' END,
        response_status = $3, error = $4, next_attempt_at = now() + make_interval(secs => $5)
    WHERE id = $1 AND attempts = $2 AND status = 'PENDING' RETURNING endpoint_id
), noted AS (
    UPDATE endpoints e SET failing_since = coalesce(e.failing_since, now()), last_error = $4,
        enabled = e.enabled AND NOT $6 AND coalesce(e.failing_since, now()) > now() - make_interval(secs => $7)
    FROM failed WHERE e.id = failed.endpoint_id AND e.enabled
    RETURNING e.enabled
)
SELECT NOT enabled FROM noted
"""
_END_DISABLED = """
WITH old AS (
    SELECT d.id FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id
    WHERE NOT e.enabled AND d.status = 'PENDING' AND d.next_attempt_at < now() - make_interval(days => $1)
    LIMIT 1000 FOR NO KEY UPDATE OF d SKIP LOCKED
), ended AS (
    UPDATE deliveries d SET status = 'FAILED', next_attempt_at = NULL,
        error = concat_ws('; ', d.error, 'the endpoint was disabled; resend it when the endpoint is enabled')
    FROM old WHERE d.id = old.id RETURNING 1
)
SELECT count(*) FROM ended
"""
