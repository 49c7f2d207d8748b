"""Statistics of ended runs, of a workflow or of projects."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Generic, TypeVar

from engine.states import RunStatus
from persistence.problems import invalid
from persistence.statistics import reading
from persistence.statistics.counts import (
    COST,
    DURATION,
    INPUT_TOKENS,
    NANO,
    OUTPUT_TOKENS,
    QUEUE,
    STATUS,
    Counts,
    add,
    by_code,
    histogram_of,
    percentile,
)
from persistence.statistics.folding import HOURS_DAYS, SumUnit
from persistence.statistics.reading import Bucket, Period
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.permissions import QUERIES

ResultT = TypeVar("ResultT")
DEFAULT_PERIOD = timedelta(days=30)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
MOST_POINTS = 1000
"""Points of one series."""


@dataclass(frozen=True)
class CountsView:
    """The counters of a period, as clients see them."""

    counts: Counts

    @cached_property
    def _durations(self) -> list[tuple[int, int]]:
        return histogram_of(self.counts, DURATION)

    def _of_status(self, status: RunStatus) -> int:
        return self.counts[STATUS + status]

    @property
    def completed(self) -> int:
        return self._of_status(RunStatus.COMPLETED)

    @property
    def failed(self) -> int:
        return self._of_status(RunStatus.FAILED)

    @property
    def cancelled(self) -> int:
        return self._of_status(RunStatus.CANCELLED)

    @property
    def ended(self) -> int:
        return self.completed + self.failed + self.cancelled

    @property
    def success_rate(self) -> float | None:
        decided = self.completed + self.failed
        return self.completed / decided if decided else None

    @property
    def p50_ms(self) -> float | None:
        return percentile(self._durations, 0.5)

    @property
    def p95_ms(self) -> float | None:
        return percentile(self._durations, 0.95)

    @property
    def queue_p95_ms(self) -> float | None:
        return percentile(histogram_of(self.counts, QUEUE), 0.95)

    @property
    def input_tokens(self) -> float:
        return float(self.counts[INPUT_TOKENS])

    @property
    def output_tokens(self) -> float:
        return float(self.counts[OUTPUT_TOKENS])

    @property
    def cost_usd(self) -> float:
        return self.counts[COST] / NANO

    @property
    def failures_by_code(self) -> list[tuple[str, int]]:
        return list(by_code(self.counts))


@dataclass(frozen=True)
class SeriesPoint(CountsView):
    """The counters of one period of a series."""

    start: datetime


@dataclass(frozen=True)
class NodeCounts(CountsView):
    """The counters of one node."""

    node_id: str
    type: str

    @property
    def runs(self) -> int:
        return sum(count for key, count in self.counts.items() if key.startswith(STATUS))


class SharedRead(Generic[ResultT]):
    """What several fields of the statistics need, which is read once."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._results: list[ResultT] = []

    async def get(self, read: Callable[[], Awaitable[ResultT]]) -> ResultT:
        async with self._lock:
            if not self._results:
                self._results.append(await read())
        return self._results[0]


@dataclass(frozen=True)
class Statistics(CountsView):
    """The statistics of a period."""

    projects: tuple[str, ...]
    period: Period
    bucket: Bucket
    of_nodes: SharedRead[list[NodeCounts]] = field(default_factory=SharedRead)
    of_active: SharedRead[int] = field(default_factory=SharedRead)


async def statistics(
    context: Context,
    project_id: str | None,
    workflow_id: str | None,
    since: datetime | None,
    until: datetime | None,
    bucket: Bucket,
) -> Statistics:
    """Return the statistics of a period.

    Raises:
        NotFound: The caller may not see the project.
        Invalid: The period is empty, or the bucket is too short for it.
    """
    if project_id is not None:
        require(context.caller, QUERIES["stats"], project_id)
    now = datetime.now(UTC)
    until = min(until or now, now)
    if until <= EARLIEST:
        raise invalid("until", "OUT_OF_RANGE", f"must be after {EARLIEST:%Y-%m-%d}")
    since = max(since or until - DEFAULT_PERIOD, EARLIEST)
    if since >= until:
        raise invalid("since", "OUT_OF_RANGE", "must be before `until` and before now")
    period = Period.covering(since, until, now, workflow_id)
    projects = tuple(context.caller.projects if project_id is None else [project_id])
    _check_reach(period, bucket)
    total = Counts()
    for counts in (await _by_start(context, projects, period, SumUnit.MONTH)).values():
        add(total, counts)
    return Statistics(total, projects, period, bucket)


def _check_reach(period: Period, bucket: Bucket) -> None:
    if bucket is Bucket.HOUR and period.since < datetime.now(UTC) - timedelta(days=HOURS_DAYS):
        raise invalid(
            "bucket", "OUT_OF_RANGE", f"HOUR reaches back {HOURS_DAYS} days: use DAY or WEEK, or a later `since`"
        )


async def _by_start(
    context: Context, projects: tuple[str, ...], period: Period, unit: SumUnit
) -> dict[datetime, Counts]:
    async with context.database.read_by_driver(context.caller.projects) as connection:
        found = await reading.counts_by_start(connection, context.caller, projects, period, unit=unit)
    return {start: counts for (start, _), counts in found.items()}


async def active(context: Context, stats: Statistics) -> int:
    """Return the number of runs that are active now; 0 for a period that has ended."""
    if not stats.period.has_now:
        return 0
    return await stats.of_active.get(partial(_active, context, stats))


async def _active(context: Context, stats: Statistics) -> int:
    async with context.database.read_by_driver(context.caller.projects) as connection:
        return await reading.active(connection, context.caller, stats.projects, stats.period.workflow_id)


async def series(context: Context, stats: Statistics, bucket: Bucket | None) -> list[SeriesPoint]:
    """Return the periods of the statistics one by one, those without runs included. Raises Invalid."""
    bucket, period = bucket or stats.bucket, stats.period
    first = bucket.start_of(period.since)
    if (period.until - first) / bucket.length > MOST_POINTS:
        raise invalid(
            "bucket", "OUT_OF_RANGE", f"gives more than {MOST_POINTS} points: use a longer one, or a shorter period"
        )
    _check_reach(period, bucket)
    unit = SumUnit.HOUR if bucket is Bucket.HOUR else SumUnit.DAY
    by_start = await _by_start(context, stats.projects, period, unit)
    points: dict[datetime, Counts] = {}
    while first < period.until:
        points[first] = Counts()
        first += bucket.length
    for start, counts in by_start.items():
        add(points[bucket.start_of(start)], counts)
    return [SeriesPoint(counts, start) for start, counts in points.items()]


async def _by_node(context: Context, stats: Statistics) -> dict[tuple[datetime, str], Counts]:
    async with context.database.read_by_driver(context.caller.projects) as connection:
        return await reading.counts_by_start(
            connection, context.caller, stats.projects, stats.period, unit=SumUnit.MONTH, of_nodes=True
        )


async def nodes(context: Context, stats: Statistics) -> list[NodeCounts]:
    """Return the counters of the nodes of a workflow; none for whole projects."""
    workflow_id = stats.period.workflow_id
    if workflow_id is None:
        return []
    return await stats.of_nodes.get(partial(_nodes, context, stats, workflow_id))


async def _nodes(context: Context, stats: Statistics, workflow_id: str) -> list[NodeCounts]:
    found, draft = await asyncio.gather(_by_node(context, stats), context.loaders.draft.load(workflow_id))
    by_node: dict[str, Counts] = defaultdict(Counts)
    for (_, node_id), counts in found.items():
        add(by_node[node_id], counts)
    spec_nodes = draft.spec.get("nodes") if draft is not None and isinstance(draft.spec, dict) else None
    spec_nodes = [node for node in spec_nodes if isinstance(node, dict)] if isinstance(spec_nodes, list) else []
    types = {node.get("id"): str(node.get("type")) for node in spec_nodes if isinstance(node.get("id"), str)}
    return [NodeCounts(counts, node_id, types.get(node_id, "unknown")) for node_id, counts in sorted(by_node.items())]
