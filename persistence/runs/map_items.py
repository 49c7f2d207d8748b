"""`MapItemStore`: the finished items of `map` nodes, one row an item.

They are written in batches under the run's fencing token. After a crash the next worker reads them
and runs only the other items. Rows of finished maps and of superseded lineages are ignored, and
retention deletes them within minutes.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson

from engine.runtime.ports import Fenced
from engine.sdk.resources import DoneItem, MapVisit
from engine.states import LEASED, sql_list
from persistence.db.transient import retry_transient

STATEMENT_S = 30.0
"""Timeout of a statement, in seconds."""


class MapItemStore:
    """The resource `items` of nodes."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def load(self, visit: MapVisit) -> list[DoneItem]:
        rows = await self._fetch(_LOAD, visit.run_id, visit.lineage, visit.node_id, visit.visit)
        return [DoneItem(row["idx"], row["digest"], row["output"], row["error"]) for row in rows]

    async def save(self, visit: MapVisit, items: Sequence[DoneItem]) -> None:
        """Store items. Raises Fenced, with nothing written, if another worker holds the run."""
        rows = await self._fetch(
            _SAVE,
            visit.run_id,
            visit.epoch,
            visit.lineage,
            visit.node_id,
            visit.visit,
            [item.index for item in items],
            [item.digest for item in items],
            [item.output for item in items],
            [None if item.error is None else orjson.dumps(item.error).decode() for item in items],
            sum(len(item.output or "") for item in items),
        )
        if not rows:
            raise Fenced(f"run {visit.run_id} is no longer held under epoch {visit.epoch}")

    async def _fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Send a statement until Postgres answers.

        All statements are idempotent, so sending one again is safe.
        """
        return await retry_transient(lambda: self._pool.fetch(query, *arguments, timeout=STATEMENT_S), "items")


_LOAD = """
SELECT idx, digest, output::text AS output, error FROM map_items
WHERE run_id = $1 AND lineage = $2 AND node_id = $3 AND visit = $4
"""
# The lock is the journal's own: a claim by another worker happens before this statement, or after
# it and sees its rows. Finished items are progress, so they reset the count of workers that were
# lost in a row.
_SAVE = f"""
WITH locked AS MATERIALIZED (
    SELECT id FROM runs WHERE id = $1 AND epoch = $2 AND status IN {sql_list(LEASED)}
    FOR NO KEY UPDATE
), saved AS (
    INSERT INTO map_items (run_id, lineage, node_id, visit, idx, digest, output, error)
    SELECT locked.id, $3, $4, $5, x.idx, x.digest, x.output::json, x.error::json
    FROM locked, unnest($6::int[], $7::bigint[], $8::text[], $9::text[]) AS x(idx, digest, output, error)
    ON CONFLICT (run_id, lineage, node_id, visit, idx) DO UPDATE SET
        digest = excluded.digest, output = excluded.output, error = excluded.error
), progress AS (
    UPDATE runs r SET crashed_seq = NULL, stored_bytes = r.stored_bytes + $10 FROM locked WHERE r.id = locked.id
)
SELECT id FROM locked
"""
