"""`QueueLimit`: the number of QUEUED runs, and of PENDING ones, that a project may have.

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
from persistence.problems import TooManyQueuedRuns

REFRESH_S = 0.5
"""Seconds for which a count is used."""
DEFAULT_LIMIT = 100_000
MAX_PROJECTS = 10_000
"""Projects whose counts are kept."""


@dataclass(slots=True)
class _Count:
    """The runs of a project in one status: the number that was read, and what was added since."""

    value: int = 0
    read_at: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class QueueLimit:
    """The limit of one server process. `limit` is the number of runs of a project in each status."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._counts: LRUCache[tuple[str, RunStatus], _Count] = LRUCache(MAX_PROJECTS)

    async def admit(self, pool: asyncpg.Pool, project_id: str, status: RunStatus = RunStatus.QUEUED) -> None:
        """Count a run that is about to get a status, QUEUED or PENDING.

        Raises:
            TooManyQueuedRuns: The limit is reached. Nothing was counted.
        """
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


_COUNT = "SELECT count(*) FROM (SELECT FROM runs WHERE project_id = $1 AND status = $3 LIMIT $2) AS found"
