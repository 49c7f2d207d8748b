"""`QueueLimit`: how many QUEUED runs, how many PENDING ones, and how many stored bytes a project may have.

Checked before a run is accepted, so a run that was accepted is never refused later: one that is
resumed, released or rescued, and a child run, returns to the queue whatever its length. The count is
read at most every REFRESH_S for each project, and what this process has accepted since is added. So
several servers together may exceed the limit by what they accept in that time. A crash loses only
the count, which is read again.
"""

import asyncio
from dataclasses import dataclass, field
from time import monotonic

import asyncpg
from cachetools import LRUCache

from engine.states import RunStatus
from persistence.problems import ProjectStorageFull, TooManyQueuedRuns

REFRESH_S = 0.5
"""Seconds for which a count is used."""
STORAGE_REFRESH_S = 5.0
"""Seconds for which a sum of stored bytes is used, at least."""
STORAGE_SHARE = 0.01
"""The share of its time for which a server may read such sums: a project may have millions of runs."""
DEFAULT_LIMIT = 100_000
MAX_PROJECTS = 10_000
"""Projects whose counts are kept."""


@dataclass(slots=True)
class _Count:
    """The runs of a project in one status: the number that was read, and what was added since."""

    value: int = 0
    read_at: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class _Sum:
    """The stored bytes of the runs of a project, and until when the number is used."""

    value: int = 0
    until: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


def megabytes(number: int | None) -> int | None:
    """Return a limit in bytes."""
    return None if number is None else number * 1_000_000


class QueueLimit:
    """The limits of one server process.

    Args:
        limit: The number of runs of a project in each status.
        max_stored_bytes: The bytes that the runs of a project may store; None for no limit.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, max_stored_bytes: int | None = None) -> None:
        self._limit, self._max_stored_bytes = limit, max_stored_bytes
        self._counts: LRUCache[tuple[str, RunStatus], _Count] = LRUCache(MAX_PROJECTS)
        self._sums: LRUCache[str, _Sum] = LRUCache(MAX_PROJECTS)

    async def admit(self, pool: asyncpg.Pool, project_id: str, status: RunStatus = RunStatus.QUEUED) -> None:
        """Count a run that is about to get a status, QUEUED or PENDING.

        Raises:
            TooManyQueuedRuns: The limit is reached. Nothing was counted.
            ProjectStorageFull: The runs of the project store as much as they may.
        """
        if self._max_stored_bytes is not None:
            await self._check_storage(pool, project_id, self._max_stored_bytes)
        count = self._counts.get((project_id, status))
        if count is None:
            count = self._counts[project_id, status] = _Count()
        if monotonic() - count.read_at >= REFRESH_S:
            async with count.lock:
                if monotonic() - count.read_at >= REFRESH_S:
                    count.value = await pool.fetchval(_COUNT, project_id, self._limit, status.value)
                    count.read_at = monotonic()
        if count.value >= self._limit:
            raise TooManyQueuedRuns(
                f"The project has {self._limit:,} {status} runs, the maximum of this host "
                "(TREADLE_PROJECT_QUEUE_LIMIT). Start this run again when some of them have started or are cancelled."
            )
        count.value += 1

    async def _check_storage(self, pool: asyncpg.Pool, project_id: str, limit: int) -> None:
        total = self._sums.get(project_id)
        if total is None:
            total = self._sums[project_id] = _Sum()
        if monotonic() >= total.until:
            async with total.lock:
                if monotonic() >= total.until:
                    began = monotonic()
                    total.value = int(await pool.fetchval(STORED_BYTES, project_id))
                    ended = monotonic()
                    total.until = ended + max(STORAGE_REFRESH_S, (ended - began) / STORAGE_SHARE)
        if total.value >= limit:
            raise ProjectStorageFull(
                f"The runs of the project store {total.value / 1e6:,.0f} MB, and this host allows {limit / 1e6:,.0f} MB "
                "(TREADLE_PROJECT_STORAGE_MB). Delete runs, or let the host shorten the retention."
            )


async def largest_projects(connection: asyncpg.Connection | asyncpg.Pool, timeout_s: float) -> list[tuple[str, int]]:
    """Return the names and the stored bytes of the projects whose runs store most, at most five."""
    return [(row["name"], int(row["size"])) for row in await connection.fetch(_LARGEST, timeout=timeout_s)]


STORED_BYTES = "SELECT coalesce(sum(stored_bytes), 0) FROM runs WHERE project_id = $1"
_COUNT = "SELECT count(*) FROM (SELECT FROM runs WHERE project_id = $1 AND status = $3 LIMIT $2) AS found"
_LARGEST = """
SELECT p.name, sum(r.stored_bytes) AS size FROM runs r JOIN projects p ON p.id = r.project_id
GROUP BY p.id, p.name ORDER BY size DESC, p.name LIMIT 5
"""
