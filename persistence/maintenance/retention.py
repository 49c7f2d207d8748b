"""Deletes old data in small batches: history and rows of ended runs, events of triggers, keys.

Each batch is one statement: a crash leaves each run whole, pruned or not. A reader of deleted
events gets `feed.Expired`, and `Run.history_expired_at` is set. Rows in partitions that are about to be
dropped as a whole are left (`partitioning.drop_expired`). Used by every worker, from time to time.
"""

from datetime import UTC, datetime, timedelta

import asyncpg

from engine.states import FINISHED, TERMINAL, NodeStatus, sql_list
from persistence.db.ids import Prefix, first_id
from persistence.db.partitions import PARTITIONED
from persistence.maintenance.partitioning import drop_expired, expired_partitions, whole_partitions_before

BATCH = 100
ITEMS = 100
"""Factor on the size of a batch for the items of maps: their rows are small and many."""
ALIGNED_DAYS = 1.0
"""The least days of retention with which histories are deleted partition by partition."""
KEY_HOURS = 24
"""How long an idempotency key returns the run, or the object, of its first call."""


async def prune_history(pool: asyncpg.Pool, days: float, batch: int = BATCH) -> int:
    """Delete events, checkpoints and node data of runs that ended more than `days` ago.

    Rows in partitions that have expired as a whole stay until `drop_partitions`. Return the number of
    runs.
    """
    before = await _moment_before(pool, days)
    dropped = [await expired_partitions(pool, table, before) for table in PARTITIONED]
    ranges = [[getattr(one, bound) for one in of_table] for of_table in dropped for bound in ("first", "end")]
    return int(await pool.fetchval(_HISTORY, await _limit(pool, before, days), batch, *ranges))


async def prune_runs(pool: asyncpg.Pool, days: float, batch: int = BATCH) -> int:
    """Delete runs that ended more than `days` ago, with all their data.

    Return the number of runs.
    """
    before = await _moment_before(pool, days)
    return int(await pool.fetchval(_RUNS, await _limit(pool, before, days), batch))


async def drop_partitions(pool: asyncpg.Pool, days: float) -> list[str]:
    """Drop the partitions all of whose runs have expired. Return their names.

    `prune_history` with the same days has marked the runs before.
    """
    return await drop_expired(pool, await _moment_before(pool, days))


async def _moment_before(pool: asyncpg.Pool, days: float) -> datetime:
    """Return the moment so many days ago, by the clock of Postgres."""
    moment: datetime = await pool.fetchval("SELECT now() - make_interval(secs => $1 * 86400)", days)
    return moment


async def _limit(pool: asyncpg.Pool, before: datetime, days: float) -> datetime:
    """Return the moment before which runs must have ended.

    Below ALIGNED_DAYS of retention, rows are deleted one by one as soon as they expire. Otherwise they
    wait until their whole partition has expired.
    """
    return before if days < ALIGNED_DAYS else await whole_partitions_before(pool, before)


async def prune_items(pool: asyncpg.Pool, batch: int = BATCH) -> int:
    """Delete stored items of maps that have ended, or whose run or lineage has.

    Return the number of items.
    """
    return int(await pool.fetchval(_ITEMS, batch * ITEMS))


async def prune_trigger_events(pool: asyncpg.Pool, days: float, batch: int = BATCH * 10) -> int:
    """Delete events of triggers that are older than `days`. Return the number of events.

    A deduplication key may fire again afterwards.
    """
    first = first_id(Prefix.TRIGGER_EVENT, datetime.now(UTC) - timedelta(days=days))
    return int(await pool.fetchval(_TRIGGER_EVENTS, first, batch))


async def prune_webhook_deliveries(pool: asyncpg.Pool, days: float, batch: int = BATCH) -> int:
    """Delete requests to webhooks that are older than `days`. Return the number of requests."""
    first = first_id(Prefix.WEBHOOK_DELIVERY, datetime.now(UTC) - timedelta(days=days))
    return int(await pool.fetchval(_DELIVERIES, first, batch))


async def prune_deliveries(pool: asyncpg.Pool, days: float, batch: int = BATCH * 10) -> int:
    """Delete deliveries to endpoints that have ended and are older than `days`. Return their number."""
    first = first_id(Prefix.DELIVERY, datetime.now(UTC) - timedelta(days=days))
    return int(await pool.fetchval(_SENT, first, batch))


async def prune_signals(pool: asyncpg.Pool, days: float | None, batch: int = BATCH * 10) -> int:
    """Expire kept events that no run can take any more, and delete events older than `days`.

    Return the number of events. None for `days` keeps them; those of a run are deleted with it.
    """
    first = "" if days is None else first_id(Prefix.SIGNAL, datetime.now(UTC) - timedelta(days=days))
    return int(await pool.fetchval(_SIGNALS, first, batch))


async def prune_threads(pool: asyncpg.Pool, days: float, batch: int = BATCH) -> int:
    """Delete threads that had no new message for `days`, with their messages. Return their number."""
    return int(await pool.fetchval(_THREADS, days, batch))


async def prune_keys(pool: asyncpg.Pool, batch: int = BATCH * 10) -> int:
    """Delete idempotency keys older than KEY_HOURS. Return the number of keys."""
    return sum([int(await pool.fetchval(statement, KEY_HOURS, batch)) for statement in (_KEYS, _MUTATION_KEYS)])


_OLD = """
    SELECT id FROM runs WHERE finished_at < $1 {which}
    ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""
_PARTS = ("pending_writes", "node_states", "waits", "map_items")
_DELETE = ", d_{part} AS (DELETE FROM {part} p USING old WHERE p.run_id = old.id{unless})"
_UNLESS_DROPPED = """ AND NOT EXISTS (
    SELECT FROM unnest(${first}::text[], ${end}::text[]) AS x(first, "end") WHERE old.id >= x.first AND old.id < x."end")"""
_HISTORY = (
    f"WITH old AS ({_OLD.format(which='AND pruned_at IS NULL')})"
    + "".join(_DELETE.format(part=part, unless="") for part in _PARTS)
    + "".join(
        _DELETE.format(part=part, unless=_UNLESS_DROPPED.format(first=first, end=first + 1))
        for part, first in zip(PARTITIONED, (3, 5, 7), strict=True)
    )
    + """, marked AS (
    UPDATE runs r SET pruned_at = now(), stored_bytes = octet_length(r.inputs::text) + coalesce(octet_length(r.output::text), 0)
    FROM old WHERE r.id = old.id RETURNING r.id)
SELECT count(*) FROM marked"""
)
_RUNS = f"""
WITH old AS ({_OLD.format(which="")}), gone AS (DELETE FROM runs r USING old WHERE r.id = old.id RETURNING r.id)
SELECT count(*) FROM gone
"""
# Steps from one visit of a map to the next along the primary key (a loose index scan), so the cost
# depends on the number of stored maps, not on the number of their items. The bytes that their writer has
# counted are subtracted. A run that is locked at this moment has its turn in a later round.
_ITEMS = f"""
WITH RECURSIVE visits AS (
    (SELECT run_id, lineage, node_id, visit FROM map_items ORDER BY run_id, lineage, node_id, visit LIMIT 1)
    UNION ALL
    SELECT n.* FROM visits v CROSS JOIN LATERAL (
        SELECT run_id, lineage, node_id, visit FROM map_items
        WHERE (run_id, lineage, node_id, visit) > (v.run_id, v.lineage, v.node_id, v.visit)
        ORDER BY run_id, lineage, node_id, visit LIMIT 1
    ) n
), ended AS MATERIALIZED (
    SELECT v.* FROM visits v JOIN runs r ON r.id = v.run_id
        LEFT JOIN node_states s ON s.run_id = v.run_id AND s.node_id = v.node_id
    WHERE r.finished_at IS NOT NULL OR r.lineage > v.lineage OR s.visits > v.visit
        OR (s.visits = v.visit AND s.status IN {sql_list(FINISHED - {NodeStatus.SKIPPED})})
), held AS MATERIALIZED (
    SELECT id FROM runs WHERE id IN (SELECT run_id FROM ended) FOR NO KEY UPDATE SKIP LOCKED
), old AS (
    SELECT i.ctid FROM ended JOIN held ON held.id = ended.run_id JOIN map_items i USING (run_id, lineage, node_id, visit)
    LIMIT $1
), gone AS (DELETE FROM map_items i USING old WHERE i.ctid = old.ctid RETURNING i.run_id, i.output
), freed AS (
    SELECT run_id, sum(coalesce(length(output::text), 0)) AS size FROM gone GROUP BY run_id
), counted AS (
    UPDATE runs r SET stored_bytes = greatest(r.stored_bytes - freed.size, 0) FROM freed WHERE r.id = freed.run_id
)
SELECT count(*) FROM gone
"""
_TRIGGER_EVENTS = """
WITH old AS (SELECT id FROM trigger_events WHERE id < $1 ORDER BY id LIMIT $2),
gone AS (DELETE FROM trigger_events e USING old WHERE e.id = old.id RETURNING 1)
SELECT count(*) FROM gone
"""
_DELIVERIES = _TRIGGER_EVENTS.replace("trigger_events", "webhook_deliveries")
_SENT = """
WITH old AS (SELECT id FROM deliveries WHERE id < $1 AND status <> 'PENDING' ORDER BY id LIMIT $2),
gone AS (DELETE FROM deliveries d USING old WHERE d.id = old.id RETURNING 1)
SELECT count(*) FROM gone
"""
_SIGNALS = f"""
WITH over AS (
    SELECT s.id FROM signals s LEFT JOIN runs r ON r.id = s.run_id
    WHERE s.status = 'KEPT' AND (s.expires_at < now() OR r.status IN {sql_list(TERMINAL)})
    ORDER BY s.id LIMIT $2 FOR UPDATE OF s SKIP LOCKED
), expired AS (
    UPDATE signals s SET status = 'EXPIRED', error = 'no run has waited for it in time' FROM over
    WHERE s.id = over.id RETURNING 1
), old AS (
    SELECT id FROM signals WHERE id < $1 AND status <> 'KEPT' ORDER BY id LIMIT $2
), gone AS (DELETE FROM signals s USING old WHERE s.id = old.id RETURNING 1)
SELECT (SELECT count(*) FROM expired) + (SELECT count(*) FROM gone)
"""
_THREADS = """
WITH old AS (
    SELECT id FROM threads WHERE updated_at < now() - make_interval(secs => $1 * 86400)
    ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (DELETE FROM threads t USING old WHERE t.id = old.id RETURNING 1)
SELECT count(*) FROM gone
"""
_KEYS = """
WITH old AS (
    SELECT ctid FROM idempotency_keys WHERE created_at < now() - make_interval(hours => $1) LIMIT $2
), gone AS (DELETE FROM idempotency_keys k USING old WHERE k.ctid = old.ctid RETURNING 1)
SELECT count(*) FROM gone
"""
_MUTATION_KEYS = _KEYS.replace("idempotency_keys", "mutation_keys")
