"""`BulkJob`: which runs a bulk operation changes, and how far it is.

The runs are chosen when the job is created, so runs that are created meanwhile, such as retries of the
job itself, are not in it. A process claims a job for some seconds, changes some of its runs, and moves
the position. If it dies, the claim ends, and another process continues from the position. The change of
each run has an idempotency key of the job, so runs behind the position are not changed twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.caller import Caller, CallerKind, Role
from persistence.db.ids import Prefix, new_id
from persistence.db.tables import bulk_jobs as table

CLAIM_S = 60.0
"""How long a claim lasts after its last step, in seconds."""
STEP = 20
"""Runs of one step."""


class BulkAction(StrEnum):
    """What a job does with each run. The values are the names of the mutations."""

    CANCEL = "cancelRuns"
    RETRY = "retryRuns"
    DELETE = "deleteRuns"


@dataclass(frozen=True, slots=True)
class BulkJob:
    """One row of `bulk_jobs`, without its runs and its caller."""

    id: str
    project_id: str
    action: BulkAction
    is_dry_run: bool
    matched: int
    done: int
    failed: int
    last_error: str | None
    created_by: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ClaimedStep:
    """The next runs of a job that this process has claimed. `position` is the number of runs before them."""

    job_id: str
    project_id: str
    action: BulkAction
    caller: Caller
    run_ids: Sequence[str]
    position: int


COLUMNS = [table.c[name] for name in BulkJob.__slots__]


def _job_of(row: Mapping[Any, Any]) -> BulkJob:
    values = {name: row[name] for name in BulkJob.__slots__}
    return BulkJob(**{**values, "action": BulkAction(values["action"])})


async def create(
    connection: AsyncConnection,
    caller: Caller,
    project_id: str,
    action: BulkAction,
    run_ids: Sequence[str],
    *,
    is_dry_run: bool,
) -> BulkJob:
    """Insert a job. A dry run, and a job without runs, has ended."""
    has_ended = is_dry_run or not run_ids
    role = caller.roles[project_id]
    values = {
        "id": new_id(Prefix.BULK_JOB),
        "project_id": project_id,
        "action": action.value,
        "is_dry_run": is_dry_run,
        "run_ids": [] if has_ended else list(run_ids),
        "matched": len(run_ids),
        "created_by": caller.subject,
        "caller": {
            "role": role.value,
            "scopes": sorted(caller.scopes_in(project_id)),
            "is_agent": caller.is_agent,
            "kind": caller.kind.value,
            "address": caller.address,
        },
        "finished_at": func.now() if has_ended else None,
    }
    row = (await connection.execute(insert(table).values(values).returning(*COLUMNS))).mappings().one()
    return _job_of(row)


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, BulkJob]:
    """Read the jobs that the caller may see, by id."""
    query = select(*COLUMNS).where(table.c.id.in_(ids), table.c.project_id.in_(caller.projects))
    return {row["id"]: _job_of(row) for row in (await connection.execute(query)).mappings()}


async def claim_step(pool: asyncpg.Pool) -> ClaimedStep | None:
    """Claim the oldest job that no process works on, and return its next runs; None if there is none."""
    row = await pool.fetchrow(_CLAIM, CLAIM_S, STEP)
    if row is None:
        return None
    stored = row["caller"]
    caller = Caller(
        row["created_by"],
        {row["project_id"]: Role(stored["role"])},
        scopes=frozenset(stored["scopes"]),
        is_agent=stored["is_agent"],
        kind=CallerKind(stored["kind"]),
        address=stored["address"],
    )
    action = BulkAction(row["action"])
    return ClaimedStep(row["id"], row["project_id"], action, caller, row["next_ids"], row["position"])


async def finish_step(pool: asyncpg.Pool, step: ClaimedStep, done: int, last_error: str | None) -> bool:
    """Move the position of a job behind a step, and free the job.

    Return False if another process has done it, because the claim had ended.
    """
    failed = len(step.run_ids) - done
    status = await pool.execute(_FINISH, step.job_id, step.position, done, failed, last_error)
    return bool(status == "UPDATE 1")


_CLAIM = """
UPDATE bulk_jobs SET claimed_until = clock_timestamp() + make_interval(secs => $1)
WHERE id = (
    SELECT id FROM bulk_jobs WHERE finished_at IS NULL AND claimed_until < clock_timestamp()
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, project_id, action, created_by, caller, done + failed AS position,
    run_ids[done + failed + 1 : done + failed + $2] AS next_ids
"""
_FINISH = """
UPDATE bulk_jobs SET done = done + $3, failed = failed + $4, last_error = coalesce($5, last_error),
    claimed_until = '-infinity', finished_at = CASE WHEN done + failed + $3 + $4 >= matched THEN clock_timestamp() END
WHERE id = $1 AND done + failed = $2 AND finished_at IS NULL
"""
