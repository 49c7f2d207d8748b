"""Which worker processes live: each holds a session-level advisory lock, which the database frees when the process dies.

The lock is on a connection that runs nothing else: one that was in a statement would be noticed seconds later. Where locks
do not reach through (a pooler between), nobody registers, and leases alone serve.
"""

import asyncpg


class Presence:
    """One worker's lock. `hold()` again after the connection was lost."""

    def __init__(self, url: str, pool: asyncpg.Pool, worker_id: str, lock_key: int, host: str, pid: int) -> None:
        self._url, self._pool = url, pool
        self._worker_id, self._lock_key, self._host, self._pid = worker_id, lock_key, host, pid
        self._connection: asyncpg.Connection | None = None

    @property
    def is_held(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def hold(self) -> bool:
        """Takes the lock and registers. False: a lock taken here cannot be seen from another connection."""
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", self._lock_key)
            backend = await connection.fetchval("SELECT pg_backend_pid()")
            if not await self._pool.fetchval(_IS_SEEN, self._lock_key, backend):
                await connection.close()
                return False
            await self._pool.execute(_REGISTER, self._worker_id, self._lock_key, self._host, self._pid)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return True

    async def leave(self) -> None:
        """The row first: a free lock without a row is nobody's death."""
        await self._pool.execute("DELETE FROM workers WHERE id = $1", self._worker_id)
        if self._connection is not None:
            await self._connection.close()


async def missing(pool: asyncpg.Pool) -> set[str]:
    """Workers that registered and whose lock is free; nobody while Postgres has just started and they take theirs anew."""
    return {row["id"] for row in await pool.fetch(_MISSING)}


async def bury(pool: asyncpg.Pool, worker_ids: list[str]) -> None:
    await pool.execute("DELETE FROM workers WHERE id = ANY($1)", worker_ids)


# A 64-bit key shows in pg_locks as two halves, with objsubid 1.
_LOCKS = """
SELECT (classid::bigint << 32) | objid::bigint AS key, pid FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_IS_SEEN = f"SELECT EXISTS (SELECT FROM ({_LOCKS}) l WHERE l.key = $1 AND l.pid = $2)"
_REGISTER = """
INSERT INTO workers (id, lock_key, host, pid) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET seen_at = now()
"""
_MISSING = f"""
SELECT w.id FROM workers w WHERE now() - pg_postmaster_start_time() > interval '3 seconds'
    AND NOT EXISTS (SELECT FROM ({_LOCKS}) l WHERE l.key = w.lock_key)
"""
