"""Counters of ended runs for alert rules: those runs that a rule chooses, by parts of its window.

Folding adds to them in the transaction that folds the ends, so a crash counts nothing twice. A rule
counts the runs that end from its creation on, or from the last change of its choice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson

from persistence.statistics.counts import Counts, add, counts_of_end

PARTS = 60
"""In how many parts a window is divided."""
SHORTEST_PART_S = 60


def part_s(window_s: int) -> int:
    """Return the length of the parts of a window, in seconds."""
    return max(SHORTEST_PART_S, window_s // PARTS)


def part_of(moment: datetime, window_s: int) -> datetime:
    """Return the start of the part that has a moment."""
    length = part_s(window_s)
    return datetime.fromtimestamp(int(moment.timestamp()) // length * length, UTC)


@dataclass(frozen=True, slots=True)
class RunChoice:
    """The ended runs that a rule counts."""

    id: str
    project_id: str
    workflow_ids: list[str]
    tags: list[str]
    window_s: int
    counting_since: datetime

    def has(self, end: Mapping[str, Any]) -> bool:
        """Return whether the rule counts a row of `run_ends`. Endpoints choose runs in the same way."""
        is_chosen = end["workflow_id"] in self.workflow_ids if self.workflow_ids else not end["is_child"]
        return (
            is_chosen
            and end["project_id"] == self.project_id
            and end["finished_at"] >= self.counting_since
            and set(self.tags) <= set(end["tags"])
        )


def sums_of_rule(choice: RunChoice, ends: Iterable[Mapping[str, Any]]) -> dict[datetime, Counts]:
    """Return the counters of the ends that a rule counts, by the start of the part."""
    sums: dict[datetime, Counts] = {}
    for end in filter(choice.has, ends):
        add(sums.setdefault(part_of(end["finished_at"], choice.window_s), Counts()), counts_of_end(end))
    return sums


async def fold_for_rules(connection: Any, ends: Sequence[Mapping[str, Any]]) -> None:
    """Add ends to the counters of all enabled rules. It is a part of the transaction that folds them."""
    rows = await connection.fetch(_RULES, sorted({end["project_id"] for end in ends}))
    sums = {
        (row["id"], start): counts for row in rows for start, counts in sums_of_rule(RunChoice(**row), ends).items()
    }
    if not sums:
        return
    keys = [[key[place] for key in sums] for place in (0, 1)]
    for row in await connection.fetch(_STORED, *keys):
        stored = Counts(row["counts"])
        add(stored, sums[row["rule_id"], row["start"]])
        sums[row["rule_id"], row["start"]] = stored
    await connection.execute(_STORE, *keys, [orjson.dumps(counts).decode() for counts in sums.values()])


async def counts_of_rule(connection: Any, choice: RunChoice, since: datetime) -> Counts:
    """Return the counters of a rule from a moment on: its sums, and the ends that are not folded yet.

    One statement reads both, so that no end is missing or counted twice.
    """
    total = Counts()
    rows = await connection.fetch(_READ, choice.id, choice.project_id, since)
    ends = []
    for row in rows:
        if row["counts"] is not None:
            add(total, row["counts"])
        else:
            moment = datetime.fromisoformat(row["unfolded"]["finished_at"]).astimezone(UTC)
            ends.append({**row["unfolded"], "finished_at": moment})
    for counts in sums_of_rule(choice, ends).values():
        add(total, counts)
    return total


async def prune(connection: asyncpg.Connection, rule_id: str, before: datetime) -> None:
    """Delete the counters of a rule that no window has any more."""
    await connection.execute("DELETE FROM alert_sums WHERE rule_id = $1 AND start < $2", rule_id, before)


# A change of the choice of a rule locks the row, so it comes before all of this or after it.
_RULES = """
SELECT id, project_id, workflow_ids, tags, window_s, counting_since FROM alert_rules
WHERE enabled AND metric <> 'QUEUE_AGE' AND project_id = ANY($1::text[]) ORDER BY id FOR SHARE
"""
_KEYS = "unnest($1::text[], $2::timestamptz[])"
_STORED = f"SELECT rule_id, start, counts FROM alert_sums JOIN {_KEYS} AS k(rule_id, start) USING (rule_id, start)"
_STORE = f"""
INSERT INTO alert_sums (rule_id, start, counts)
SELECT rule_id, start, counts::json FROM {_KEYS[:-1]}, $3::text[]) AS k(rule_id, start, counts)
ON CONFLICT (rule_id, start) DO UPDATE SET counts = excluded.counts
"""
_READ = """
SELECT counts, NULL::json AS unfolded FROM alert_sums WHERE rule_id = $1 AND start >= $3
UNION ALL
SELECT NULL, row_to_json(e) FROM run_ends e WHERE project_id = $2 AND finished_at >= $3
"""
