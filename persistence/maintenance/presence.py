"""Which worker processes are alive: each holds a session-level advisory lock of Postgres.

Postgres frees the lock within milliseconds of the death of the process. The lock is on a connection
that runs nothing else: the loss of a connection that executes a statement would be noticed seconds
later. Where the locks are not visible to other connections (behind a pooler), no worker registers,
and only expired leases show that a worker died; such a worker reports that it is alive in a table of
its own. Used by recovery in every worker, and by servers and `treadle doctor`.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from engine.states import LEASED, sql_list
from persistence.db.transient import DATABASE_ERRORS

TIMEOUT_S = 5.0
"""Limit of each call to Postgres, in seconds. Our own lock on a connection that was cut is free
once Postgres notices the cut; a call that hangs is repeated by the caller."""
LIVE_S = 10
"""Seconds after its last sign of life at which a worker no longer counts as alive. Workers give one
every two seconds."""


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that counts as alive. `started_at` is None where its lock is not visible."""

    id: str
    host: str
    pid: int
    started_at: datetime | None
    seen_at: datetime
    runs: int
    """How many runs it holds."""


class Presence:
    """The lock of one worker. Call `acquire()` again after its connection was lost."""

    def __init__(self, url: str, pool: asyncpg.Pool, worker_id: str, lock_key: int, host: str, pid: int) -> None:
        self._url, self._pool = url, pool
        self._worker_id, self._lock_key, self._host, self._pid = worker_id, lock_key, host, pid
        self._connection: asyncpg.Connection | None = None

    @property
    def is_held(self) -> bool:
        """Whether the connection of the lock is open, as far as this end of it knows."""
        return self._connection is not None and not self._connection.is_closed()

    async def acquire(self) -> bool:
        """Take the lock and register this worker.

        Returns:
            False if the lock is not visible to other connections, so that it proves nothing.
        """
        connection = await asyncpg.connect(self._url, timeout=TIMEOUT_S)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await connection.execute("SELECT pg_advisory_lock($1)", self._lock_key)
                if not await self._register(connection):
                    # The connection of a pooler outlives ours, and so would the lock.
                    await connection.execute("SELECT pg_advisory_unlock_all()")
                    await connection.close()
                    return False
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return True

    async def confirm(self) -> None:
        """Check over another connection that the lock is still held, and register again if needed.

        Another worker removes our registration when it takes us for dead. A lock that is not
        visible is given up, to be taken again: this end of a connection that was cut on the way
        reports no error.
        """
        connection = self._connection
        if connection is not None and not connection.is_closed() and not await self._register(connection):
            connection.terminate()

    async def _register(self, connection: asyncpg.Connection) -> bool:
        """Return whether the lock is visible on the backend of `connection`.

        A pooler reports the process id of another backend.
        """
        backend_pid = connection.get_server_pid()
        worker = self._worker_id, self._lock_key, self._host, self._pid
        return await self._pool.fetchval(_REGISTER, *worker, backend_pid, timeout=TIMEOUT_S) is not None

    async def report_alive(self) -> None:
        """Report that this worker lives, where a lock cannot show it."""
        worker = self._worker_id, self._host, self._pid
        await self._pool.execute(_REPORT_ALIVE, *worker, timeout=TIMEOUT_S)

    async def unregister(self) -> None:
        """Remove the registration, then the lock: a free lock with a registration means a death."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._pool.execute("DELETE FROM workers WHERE id = $1", self._worker_id)
                await self._pool.execute("DELETE FROM worker_heartbeats WHERE worker_id = $1", self._worker_id)
        finally:
            if self._connection is not None:
                with suppress(*DATABASE_ERRORS):
                    await self._connection.close(timeout=TIMEOUT_S)


async def count_live(connection: asyncpg.Pool | asyncpg.Connection) -> int:
    """Count the workers that hold their lock, or report that they live, and do so just now."""
    return int(await connection.fetchval(f"SELECT {LIVE_COUNT}", LIVE_S))


async def list_live(pool: asyncpg.Pool) -> list[LiveWorker]:
    """List the workers that `count_live` counts, the oldest first."""
    return [LiveWorker(*row) for row in await pool.fetch(_LIST_LIVE, LIVE_S)]


async def find_missing(pool: asyncpg.Pool) -> set[str]:
    """Find the registered workers whose lock is free.

    Returns nothing in the first 3 s after a start of Postgres, while the workers take their locks
    again.
    """
    return {row["id"] for row in await pool.fetch(_FIND_MISSING)}


async def expire_leases_of(pool: asyncpg.Pool, worker_ids: list[str]) -> list[str]:
    """Expire the leases of those workers whose lock is still free, and remove their registrations.

    Returns:
        The ids of these workers.
    """
    return [row["id"] for row in await pool.fetch(_EXPIRE_LEASES, worker_ids)]


# pg_locks shows a 64-bit key as two halves, with objsubid 1.
_LOCKS = """
SELECT (classid::bigint << 32) | objid::bigint AS key, pid FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_REGISTER = f"""
INSERT INTO workers (id, lock_key, host, pid)
SELECT $1, $2, $3, $4 WHERE EXISTS (SELECT FROM ({_LOCKS}) l WHERE l.key = $2 AND l.pid = $5)
ON CONFLICT (id) DO UPDATE SET seen_at = now() RETURNING id
"""
_IS_FREE = f"NOT EXISTS (SELECT FROM ({_LOCKS}) l WHERE l.key = w.lock_key)"
_FIND_MISSING = f"""
SELECT w.id FROM workers w WHERE now() - pg_postmaster_start_time() > interval '3 seconds' AND {_IS_FREE}
"""
_LIVE = f"""
SELECT w.id, w.host, w.pid, w.started_at, w.seen_at FROM workers w
WHERE w.seen_at > now() - make_interval(secs => $1) AND EXISTS (SELECT FROM ({_LOCKS}) l WHERE l.key = w.lock_key)
UNION ALL
SELECT worker_id, host, pid, NULL, seen_at FROM worker_heartbeats WHERE seen_at > now() - make_interval(secs => $1)
"""
LIVE_COUNT = f"(SELECT count(*) FROM ({_LIVE}) live)"
"""An expression of SQL; $1 is LIVE_S."""
_LIST_LIVE = f"""
SELECT l.*, (SELECT count(*) FROM runs r WHERE r.status IN {sql_list(LEASED)} AND r.worker_id = l.id) AS runs
FROM ({_LIVE}) l ORDER BY l.started_at, l.id
"""
# Workers that were killed leave a row. Any other worker removes it an hour later.
_REPORT_ALIVE = """
WITH gone AS (DELETE FROM worker_heartbeats WHERE seen_at < now() - interval '1 hour')
INSERT INTO worker_heartbeats (worker_id, host, pid) VALUES ($1, $2, $3)
ON CONFLICT (worker_id) DO UPDATE SET seen_at = now()
"""
# Runs are locked in the order of their ids, as by the journal, so that the two cannot deadlock.
_EXPIRE_LEASES = f"""
WITH dead AS (
    DELETE FROM workers w WHERE w.id = ANY($1) AND {_IS_FREE} RETURNING w.id
), leased AS (
    SELECT r.id FROM runs r WHERE r.worker_id IN (SELECT id FROM dead)
        AND r.status IN {sql_list(LEASED)} AND r.lease_until > now()
    ORDER BY r.id FOR NO KEY UPDATE OF r
), expired AS (
    UPDATE runs r SET lease_until = now() FROM leased WHERE r.id = leased.id
)
SELECT id FROM dead
"""
