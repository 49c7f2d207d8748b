"""Which worker processes live: each holds a session-level advisory lock, which the database frees when the process dies.

The lock is on a connection that runs nothing else: one that was in a statement would be noticed seconds later. Where locks
do not reach through (a pooler between), nobody registers, and leases alone serve.
"""

import asyncio
from contextlib import suppress

import asyncpg

from persistence.db.transient import DATABASE_ERRORS

PATIENCE_S = 5.0
"""A lock of ours that a cut connection left behind is free when Postgres notices; a database that hangs is asked again."""


class Presence:
    """One worker's lock. `hold()` again after the connection was lost."""

    def __init__(self, url: str, pool: asyncpg.Pool, worker_id: str, lock_key: int, host: str, pid: int) -> None:
        self._url, self._pool = url, pool
        self._worker_id, self._lock_key, self._host, self._pid = worker_id, lock_key, host, pid
        self._connection: asyncpg.Connection | None = None

    @property
    def is_held(self) -> bool:
        """As far as this end of the connection knows."""
        return self._connection is not None and not self._connection.is_closed()

    async def hold(self) -> bool:
        """Takes the lock and registers. False: a lock taken here does not end with this connection."""
        connection = await asyncpg.connect(self._url, timeout=PATIENCE_S)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await connection.execute("SELECT pg_advisory_lock($1)", self._lock_key)
                if not await self._register(connection):
                    # A pooler's connection outlives ours, and so would the lock.
                    await connection.execute("SELECT pg_advisory_unlock_all()")
                    await connection.close()
                    return False
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return True

    async def confirm(self) -> None:
        """Asks, from elsewhere, whether the lock is still seen, and is registered again if somebody took us for dead.

        A lock that is not seen is let go of, to be taken anew: a connection that was cut off somewhere between looks well.
        """
        connection = self._connection
        if connection is not None and not connection.is_closed() and not await self._register(connection):
            connection.terminate()

    async def _register(self, connection: asyncpg.Connection) -> bool:
        """False: the lock is not seen on the backend that `connection` was told is its own (a pooler tells another)."""
        backend = connection.get_server_pid()
        given = self._worker_id, self._lock_key, self._host, self._pid
        return await self._pool.fetchval(_REGISTER, *given, backend, timeout=PATIENCE_S) is not None

    async def leave(self) -> None:
        """The row first: a free lock without a row is nobody's death."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._pool.execute("DELETE FROM workers WHERE id = $1", self._worker_id)
        finally:
            if self._connection is not None:
                with suppress(*DATABASE_ERRORS):
                    await self._connection.close(timeout=PATIENCE_S)


async def missing(pool: asyncpg.Pool) -> set[str]:
    """Workers that registered and whose lock is free; nobody while Postgres has just started and they take theirs anew."""
    return {row["id"] for row in await pool.fetch(_MISSING)}


async def bury(pool: asyncpg.Pool, worker_ids: list[str]) -> list[str]:
    """Of these, the ones whose lock is still free: their leases end and their rows go, at once. Answers with them."""
    return [row["id"] for row in await pool.fetch(_BURY, worker_ids)]


# A 64-bit key shows in pg_locks as two halves, with objsubid 1.
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
_MISSING = f"""
SELECT w.id FROM workers w WHERE now() - pg_postmaster_start_time() > interval '3 seconds' AND {_IS_FREE}
"""
# Its leases are locked in the order of their ids, as the journal does.
_BURY = f"""
WITH dead AS (
    DELETE FROM workers w WHERE w.id = ANY($1) AND {_IS_FREE} RETURNING w.id
), theirs AS (
    SELECT r.id FROM runs r WHERE r.worker_id IN (SELECT id FROM dead)
        AND r.status IN ('RUNNING', 'PAUSING', 'CANCELLING') AND r.lease_until > now()
    ORDER BY r.id FOR NO KEY UPDATE OF r
), expired AS (
    UPDATE runs r SET lease_until = now() FROM theirs WHERE r.id = theirs.id
)
SELECT id FROM dead
"""
