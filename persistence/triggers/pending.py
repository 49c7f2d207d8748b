"""Firings that are accepted and wait for a worker, such as those of a backfill.

The row is inserted by the transaction that accepts the firing, and deleted by the one that fires it,
so a firing is neither lost nor done twice. Of several workers each takes other rows (SKIP LOCKED).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.types import JSON
from persistence.db.tables import pending_firings as table
from persistence.triggers.preparation import LeftOut
from persistence.triggers.trigger import COLUMNS


@dataclass(frozen=True, slots=True)
class PendingFiring:
    """A firing to insert. `delay` is the time until a worker may fire it."""

    key: str
    payload: JSON
    delay: timedelta = timedelta(0)


async def add(connection: AsyncConnection, trigger_id: str, firings: Sequence[PendingFiring]) -> int:
    """Insert firings of a trigger, and return how many are new. A repeated key changes nothing."""
    if not firings:
        return 0
    now: datetime = (await connection.execute(select(func.now()))).scalar_one()
    rows = [
        {"trigger_id": trigger_id, "dedupe_key": one.key, "payload": one.payload, "fire_at": now + one.delay}
        for one in firings
    ]
    statement = insert(table).on_conflict_do_nothing().returning(table.c.dedupe_key)
    return len((await connection.execute(statement, rows)).all())


async def read_due(pool: asyncpg.Pool, now: datetime | None, limit: int, left_out: LeftOut) -> list[Any]:
    """Read firings that are due, each with its trigger and the published version."""
    rows: list[Any] = await pool.fetch(_DUE, now, limit, *left_out)
    return rows


async def next_due_s(pool: asyncpg.Pool, now: datetime | None, left_out: LeftOut) -> float | None:
    """Return the seconds until the next firing is due; None if there is none."""
    seconds = await pool.fetchval(_NEXT, now, *left_out)
    return None if seconds is None else float(seconds)


async def take(connection: AsyncConnection, keys: Sequence[tuple[str, str, str | None]]) -> set[tuple[str, str]]:
    """Lock the triggers of firings, and delete those firings.

    Args:
        connection: The transaction that fires them.
        keys: Trigger id, deduplication key and published version, as they were read.

    Returns:
        The (trigger id, key) of those that this transaction has to fire.
    """
    result = await connection.exec_driver_sql(_TAKE, tuple(list(column) for column in zip(*keys, strict=True)))
    return {(row.trigger_id, row.dedupe_key) for row in result}


_TRIGGER = ", ".join(f"t.{column.name}" for column in COLUMNS)
_DUE = f"""
SELECT {_TRIGGER}, p.dedupe_key, p.payload, coalesce($1, now()) AS now,
    (SELECT v.id FROM versions v WHERE v.workflow_id = t.workflow_id AND v.status = 'PUBLISHED') AS version_id
FROM pending_firings p JOIN triggers t ON t.id = p.trigger_id
WHERE p.fire_at <= coalesce($1, now()) AND NOT t.id = ANY($3::text[]) AND NOT t.project_id = ANY($4::text[])
ORDER BY p.fire_at LIMIT $2
FOR UPDATE OF p SKIP LOCKED
"""
_NEXT = """
SELECT extract(epoch FROM min(p.fire_at) - coalesce($1, now()))
FROM pending_firings p JOIN triggers t ON t.id = p.trigger_id
WHERE NOT t.id = ANY($2::text[]) AND NOT t.project_id = ANY($3::text[])
"""
# The workflow is locked as by every transaction that accepts a run. Nothing waits here.
_TAKE = """
WITH locked AS (
    SELECT p.trigger_id, p.dedupe_key FROM unnest($1::text[], $2::text[], $3::text[]) AS c(trigger_id, key, version_id)
    JOIN pending_firings p ON p.trigger_id = c.trigger_id AND p.dedupe_key = c.key
    JOIN triggers t ON t.id = p.trigger_id JOIN workflows w ON w.id = t.workflow_id
    WHERE c.version_id IS NOT DISTINCT FROM
        (SELECT v.id FROM versions v WHERE v.workflow_id = t.workflow_id AND v.status = 'PUBLISHED')
    FOR UPDATE OF p SKIP LOCKED FOR NO KEY UPDATE OF t SKIP LOCKED FOR KEY SHARE OF w SKIP LOCKED
)
DELETE FROM pending_firings p USING locked
WHERE p.trigger_id = locked.trigger_id AND p.dedupe_key = locked.dedupe_key
RETURNING p.trigger_id, p.dedupe_key
"""
