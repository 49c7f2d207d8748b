"""Who held which run when: noted by a trigger in the suite's own database, in the transaction that moved the run.

With it the audit knows of every execution whether its process held the run at that moment, and since which event.
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
"""


@dataclass(frozen=True, slots=True)
class Hold:
    """From `at` on, the process `pid` held the run, or nobody (0). `seq` is the event that said so."""

    pid: int
    lineage: int
    seq: int
    at: float


class Holds:
    """Of all runs, each in order."""

    def __init__(self, rows: Iterable[tuple[str, Hold]]) -> None:
        self._of: dict[str, list[Hold]] = defaultdict(list)
        for run_id, hold in rows:
            self._of[run_id].append(hold)

    def at(self, run_id: str, moment: float) -> Hold | None:
        """How the run was held at that moment."""
        holds = self._of.get(run_id, [])
        place = bisect_right(holds, moment, key=lambda hold: hold.at)
        return holds[place - 1] if place else None

    def rewinds(self, run_id: str) -> list[int]:
        """The events by which the run was rewound."""
        holds = self._of.get(run_id, [])
        pairs = zip([None, *holds], holds, strict=False)
        return [hold.seq for before, hold in pairs if hold.lineage > (before.lineage if before else 0)]


async def read(connection: asyncpg.Connection) -> Holds:
    rows = await connection.fetch("SELECT run_id, worker_id, lineage, seq, at FROM chaos_holds ORDER BY id")
    return Holds(
        (
            row["run_id"],
            Hold(
                pid_of(row["worker_id"]) if row["worker_id"] else 0, row["lineage"], row["seq"], row["at"].timestamp()
            ),
        )
        for row in rows
    )
