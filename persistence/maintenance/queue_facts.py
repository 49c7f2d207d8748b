"""What a QUEUED run waits for: the facts of the queue and of the workers, read for many runs at once.

Read only. Used by `Run.queueReason`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import LEASED, sql_list
from persistence.caller import Caller
from persistence.maintenance.presence import LIVE_COUNT, LIVE_S

MOST_BEFORE = 1000
"""More runs before a run are not counted."""


class QueueReasonCode(StrEnum):
    """Why a QUEUED run has not started yet. The first reason that applies is given."""

    NO_WORKER = "NO_WORKER"
    CONCURRENCY_LIMIT = "CONCURRENCY_LIMIT"
    PROJECT_LIMIT = "PROJECT_LIMIT"
    BEHIND_OTHERS = "BEHIND_OTHERS"
    NEXT = "NEXT"


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """The state of the queue around one QUEUED run."""

    live_workers: int
    limit: int | None
    """How many runs with its concurrency key may be executed at once."""
    executing: int
    """How many runs with its concurrency key workers hold."""
    executing_in_project: int
    before: int
    """QUEUED runs with its concurrency key that are claimed before it; at most MOST_BEFORE."""


async def of_runs(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> Mapping[str, QueueFacts]:
    """Read the facts of those runs that are QUEUED and that the caller may see."""
    arguments = {"ids": list(ids), "projects": caller.projects, "most": MOST_BEFORE, "live_s": LIVE_S}
    rows = await connection.execute(_FACTS, arguments)
    return {row["id"]: QueueFacts(**{key: row[key] for key in QueueFacts.__slots__}) for row in rows.mappings()}


_FACTS = text(f"""
WITH held AS MATERIALIZED (
    SELECT project_id, lane, count(*) AS count FROM runs WHERE status IN {sql_list(LEASED)} GROUP BY project_id, lane
), live AS MATERIALIZED (
    SELECT ({LIVE_COUNT.replace("$1", ":live_s")}) AS count
)
SELECT r.id, (SELECT count FROM live) AS live_workers, r.lane_limit AS limit,
    coalesce((SELECT count FROM held h WHERE h.project_id = r.project_id AND h.lane = r.lane), 0) AS executing,
    coalesce((SELECT sum(count)::int FROM held h WHERE h.project_id = r.project_id), 0) AS executing_in_project,
    (SELECT count(*) FROM (
        SELECT FROM runs q WHERE q.status = 'QUEUED' AND q.lane = r.lane AND (q.priority > r.priority
            OR q.priority = r.priority AND (q.queued_at, q.id) < (r.queued_at, r.id)) LIMIT :most) b) AS before
FROM runs r WHERE r.id = ANY(:ids) AND r.project_id = ANY(:projects) AND r.status = 'QUEUED'
""")
