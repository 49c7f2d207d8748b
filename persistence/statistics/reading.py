"""Reads the counters of a period: the sums, and the ends that are not folded yet, in one snapshot.

The cost depends on the number of hours, days and months of the period, and not on the number of runs.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from engine.states import TERMINAL, RunStatus
from persistence.caller import Caller
from persistence.statistics.counts import Counts, add
from persistence.statistics.folding import HOURS_DAYS, WHOLE_PROJECT, SumUnit, sums_of

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Connection: TypeAlias = asyncpg.Pool | asyncpg.Connection | PoolConnectionProxy
MOST_ACTIVE = 10_000
"""More active runs are not counted."""


class Bucket(StrEnum):
    """The length of the periods of a series. They begin at full hours, at midnight and on Mondays, UTC."""

    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"

    def start_of(self, moment: datetime) -> datetime:
        """Return the start of the period that has a moment."""
        hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        if self is Bucket.HOUR:
            return hour
        day = hour.replace(hour=0)
        return day if self is Bucket.DAY else day - timedelta(days=day.weekday())

    @property
    def length(self) -> timedelta:
        return {Bucket.HOUR: HOUR, Bucket.DAY: DAY, Bucket.WEEK: 7 * DAY}[self]


@dataclass(frozen=True, slots=True)
class Period:
    """A period that begins and ends with full hours, of one workflow or of whole projects."""

    since: datetime
    until: datetime
    workflow_id: str | None = None
    has_now: bool = False
    """Whether it has not ended, so that its last day has no run behind its end."""

    @classmethod
    def covering(cls, since: datetime, until: datetime, now: datetime, workflow_id: str | None) -> "Period":
        """Return the shortest period whose sums are stored that covers a time."""
        kept_since = Bucket.DAY.start_of(now - timedelta(days=HOURS_DAYS - 1))
        start = (Bucket.HOUR if since >= kept_since else Bucket.DAY).start_of(since)
        unit = Bucket.HOUR if until >= kept_since else Bucket.DAY
        end = unit.start_of(until)
        return cls(start, end if end == until else end + unit.length, workflow_id, until >= now)


async def counts_by_start(
    connection: Connection,
    caller: Caller,
    projects: Sequence[str],
    period: Period,
    *,
    unit: SumUnit,
    of_nodes: bool = False,
) -> dict[tuple[datetime, str], Counts]:
    """Read counters by the start of their hour, day or month, and by node.

    Args:
        connection: A connection or a pool of asyncpg.
        caller: The caller. Projects that it may not see have no runs.
        projects: The projects.
        period: The period and the workflow.
        unit: The longest unit of the result. The ends of the period have shorter ones.
        of_nodes: Whether to read the counters of nodes; else of runs, with an empty id of the node.
    """
    first_day = last_day = period.until
    if unit is not SumUnit.HOUR:
        first_day = Bucket.DAY.start_of(period.since)
        first_day += DAY if first_day < period.since else timedelta()
        last_day = max(first_day, Bucket.DAY.start_of(period.until))
        last_day += DAY if period.has_now and last_day < period.until else timedelta()
    first_month = last_month = last_day
    if unit is SumUnit.MONTH and (start := _month_at_or_after(first_day)) < last_day:
        first_month, last_month = start, last_day.replace(day=1)
    visible = [one for one in projects if one in caller.roles]
    workflow_id = WHOLE_PROJECT if period.workflow_id is None else period.workflow_id
    rows = await connection.fetch(
        _NODES if of_nodes else _RUNS,
        *(visible, workflow_id, period.since, period.until, first_day, last_day, first_month, last_month),
    )
    found: dict[tuple[datetime, str], Counts] = defaultdict(Counts)
    for row in rows:
        if row["counts"] is not None:
            add(found[row["start"], row["node_id"]], row["counts"])
    ends = [row["unfolded"] for row in rows if row["counts"] is None]
    for key, counts in sums_of(map(_decoded, ends)).items():
        if key.workflow_id == workflow_id and bool(key.node_id) is of_nodes and key.unit == SumUnit.HOUR:
            add(found[key.start, key.node_id], counts)
    return found


def _month_at_or_after(day: datetime) -> datetime:
    return day if day.day == 1 else (day.replace(day=1) + 31 * DAY).replace(day=1)


def _decoded(end: Mapping[str, Any]) -> dict[str, Any]:
    return {**end, "finished_at": datetime.fromisoformat(end["finished_at"]).astimezone(UTC)}


async def active(connection: Connection, caller: Caller, projects: Sequence[str], workflow_id: str | None) -> int:
    """Count the active runs, up to MOST_ACTIVE."""
    visible = [one for one in projects if one in caller.roles]
    statuses = sorted(set(RunStatus) - TERMINAL)
    return int(await connection.fetchval(_ACTIVE, visible, workflow_id, statuses, MOST_ACTIVE))


# Each month that has days has a row. A full month is read by its days if it is open. All ids are positive: the
# condition leads to the index of the few ends that are not folded. The pages of the table keep the space of all
# that were.
_SUMS = """
SELECT start, node_id, counts, NULL::json AS unfolded FROM run_sums
WHERE project_id = ANY($1::text[]) AND workflow_id = $2::text AND unit = 'MONTH' AND node_id {is_node}
    AND start >= $7::timestamptz AND start < $8::timestamptz AND counts IS NOT NULL
UNION ALL
SELECT d.start, d.node_id, d.counts, NULL FROM run_sums m JOIN run_sums d
    ON d.project_id = m.project_id AND d.workflow_id = $2 AND d.unit = 'DAY' AND d.node_id = m.node_id
        AND d.start >= m.start AND d.start < m.start + interval '31 days'
        AND date_trunc('month', d.start, 'UTC') = m.start
WHERE m.project_id = ANY($1) AND m.workflow_id = $2 AND m.unit = 'MONTH' AND m.node_id {is_node}
    AND m.start >= $7 AND m.start < $8 AND m.counts IS NULL
UNION ALL
SELECT start, node_id, counts, NULL FROM run_sums
WHERE project_id = ANY($1) AND workflow_id = $2 AND unit = 'DAY' AND node_id {is_node}
    AND (start >= $5::timestamptz AND start < $7 OR start >= $8 AND start < $6::timestamptz)
UNION ALL
SELECT start, node_id, counts, NULL FROM run_sums
WHERE project_id = ANY($1) AND workflow_id = $2 AND unit = 'HOUR' AND node_id {is_node}
    AND (start >= $3::timestamptz AND start < least($5, $4::timestamptz)
        OR start >= greatest($6, $3) AND start < $4)
UNION ALL
SELECT finished_at, '', NULL, row_to_json(e) FROM run_ends e
WHERE id > 0 AND project_id = ANY($1) AND finished_at >= $3 AND finished_at < $4 AND ($2 = '' OR workflow_id = $2)
"""
_RUNS, _NODES = _SUMS.format(is_node="= ''"), _SUMS.format(is_node="<> ''")
_ACTIVE = """
SELECT count(*) FROM (
    SELECT FROM runs WHERE project_id = ANY($1::text[]) AND status = ANY($3::text[])
        AND ($2::text IS NULL OR workflow_id = $2) LIMIT $4) active
"""
