"""Lease log: which worker held which run at which time, and since when items of maps are durable.

Triggers in the suite's own database write it, in the same transaction as the change. With it the
audit knows for every execution whether its process held the run, and since which event.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

from app.chaos.faults import pid_of

INSTALL = """
CREATE TABLE chaos_holds (
    id bigserial, run_id text COLLATE "C", worker_id text, lineage int, seq int, status text, at timestamptz
);
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_holds (run_id, worker_id, lineage, seq, status, at)
    VALUES (NEW.id, NEW.worker_id, NEW.lineage, NEW.last_seq, NEW.status, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_note AFTER UPDATE ON runs FOR EACH ROW WHEN (
    OLD.worker_id IS DISTINCT FROM NEW.worker_id OR OLD.epoch <> NEW.epoch OR OLD.lineage <> NEW.lineage
) EXECUTE FUNCTION chaos_note();
CREATE TABLE chaos_items (run_id text COLLATE "C", lineage int, node_id text, visit int, idx int, at timestamptz);
CREATE FUNCTION chaos_note_item() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_items VALUES (NEW.run_id, NEW.lineage, NEW.node_id, NEW.visit, NEW.idx, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_note_item AFTER INSERT ON map_items FOR EACH ROW EXECUTE FUNCTION chaos_note_item();
"""


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """From `at` on, the process `pid` holds the run; 0 means none.

    `seq` is the event of the change.
    """

    pid: int
    lineage: int
    seq: int
    at: float


class LeaseLog:
    """The lease changes of all runs, in order."""

    def __init__(self, rows: Iterable[tuple[str, LeaseChange]]) -> None:
        self._changes: dict[str, list[LeaseChange]] = defaultdict(list)
        for run_id, change in rows:
            self._changes[run_id].append(change)

    def at(self, run_id: str, time_s: float) -> LeaseChange | None:
        """Return the last change of the run's lease before a time, in seconds since the epoch."""
        changes = self._changes.get(run_id, [])
        position = bisect_right(changes, time_s, key=lambda change: change.at)
        return changes[position - 1] if position else None

    def rewinds(self, run_id: str) -> list[int]:
        """Return the events of the run's rewinds. A rewind increases the lineage."""
        changes = self._changes.get(run_id, [])
        pairs = zip([None, *changes], changes, strict=False)
        return [change.seq for before, change in pairs if change.lineage > (before.lineage if before else 0)]


ItemKey = tuple[str, int, str, int, int]
"""An item of a map: run, lineage, node, visit, index."""


async def read_items(connection: asyncpg.Connection) -> dict[ItemKey, float]:
    """Read since when each finished item of a map is durable, in seconds since the epoch."""
    rows = await connection.fetch(
        "SELECT run_id, lineage, node_id, visit, idx, min(at) FROM chaos_items GROUP BY 1, 2, 3, 4, 5"
    )
    return {tuple(row)[:5]: row["min"].timestamp() for row in rows}


async def read(connection: asyncpg.Connection) -> LeaseLog:
    """Read the lease log from the database."""
    rows = await connection.fetch("SELECT run_id, worker_id, lineage, seq, at FROM chaos_holds ORDER BY id")
    return LeaseLog((row["run_id"], _change(row)) for row in rows)


def _change(row: asyncpg.Record) -> LeaseChange:
    pid = pid_of(row["worker_id"]) if row["worker_id"] else 0
    return LeaseChange(pid, row["lineage"], row["seq"], row["at"].timestamp())
