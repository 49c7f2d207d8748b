"""Claims analytics events that are due, and records the receivers that have them.

An event is a row from the transaction of its change until all receivers have it. A claim is one UPDATE
with SKIP LOCKED, which ends after CLAIM_S: if the worker dies before or after it has sent the events,
another one sends them again. Every event is delivered at least once, unless it becomes too old.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import asyncpg
import orjson

from engine.sdk.analytics import AnalyticsEvent, AnalyticsEventType

CLAIM_S = 60.0
"""Seconds after which another process may claim the events."""
PAUSES_S = (5, 600)
"""The first and the longest pause after a failure, in seconds. Each is twice the one before."""
MAX_AGE_S = 24 * 3600
"""Seconds after which an event that not all receivers have accepted is deleted."""
MAX_WAITING = 100_000
"""Events that may wait. The oldest further ones are deleted."""


@dataclass(frozen=True, slots=True)
class ClaimedEvent:
    """An event that this process publishes now. `delivered` are the receivers that have it."""

    event: AnalyticsEvent
    delivered: frozenset[str]


async def claim(pool: asyncpg.Pool, limit: int) -> list[ClaimedEvent]:
    """Claim events that are due, the oldest first."""
    rows = await pool.fetch(_CLAIM, limit, CLAIM_S)
    return [
        ClaimedEvent(
            AnalyticsEvent(row["id"], AnalyticsEventType(row["type"]), row["project_id"], row["at"], row["data"]),
            frozenset(row["delivered"]),
        )
        for row in rows
    ]


async def record(pool: asyncpg.Pool, done: Sequence[int], partly: Mapping[int, Collection[str]]) -> None:
    """Record what was sent.

    Args:
        pool: Connections to Postgres.
        done: Events that all receivers have; they are deleted.
        partly: The receivers that have the other events, by event. They are due again after a pause.
    """
    if done:
        await pool.execute("DELETE FROM analytics_events WHERE id = ANY($1::bigint[])", list(done))
    if partly:
        receivers = [orjson.dumps(sorted(each)).decode() for each in partly.values()]
        await pool.execute(_RETRY, list(partly), receivers, *PAUSES_S)


async def prune(pool: asyncpg.Pool) -> int:
    """Delete events that are too old or too many. Return their number."""
    return int(await pool.fetchval(_PRUNE, MAX_AGE_S, MAX_WAITING))


_CLAIM = """
WITH due AS (
    SELECT id FROM analytics_events WHERE next_attempt_at <= now() ORDER BY next_attempt_at, id LIMIT $1
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE analytics_events e SET attempts = e.attempts + 1, next_attempt_at = now() + make_interval(secs => $2)
    FROM due WHERE e.id = due.id RETURNING e.*
)
SELECT id, type, project_id, at, data, delivered FROM claimed ORDER BY id
"""
_RETRY = """
UPDATE analytics_events e SET
    delivered = ARRAY(SELECT unnest(e.delivered) UNION SELECT json_array_elements_text(r.delivered::json)),
    next_attempt_at = now() + make_interval(secs => least($3 * 2.0 ^ least(e.attempts - 1, 20), $4))
FROM unnest($1::bigint[], $2::text[]) AS r(id, delivered) WHERE e.id = r.id
"""
_PRUNE = """
WITH old AS (
    SELECT id FROM analytics_events WHERE id IN (
        (SELECT id FROM analytics_events WHERE at < now() - make_interval(secs => $1) ORDER BY id LIMIT 10000)
        UNION (SELECT id FROM analytics_events ORDER BY id DESC OFFSET $2 LIMIT 10000))
    FOR UPDATE SKIP LOCKED
), gone AS (DELETE FROM analytics_events e USING old WHERE e.id = old.id RETURNING 1)
SELECT count(*) FROM gone
"""
