"""Statistics of ended runs as clients see them."""

from datetime import datetime

import strawberry

from persistence.problems import invalid
from persistence.statistics.reading import Bucket
from resolvers.workflows import statistics
from resolvers.workflows.statistics import NodeCounts, SeriesPoint, Statistics
from schema.info import Info

MOST_NODES = 100
Stats = strawberry.Parent[Statistics]


@strawberry.type
class ErrorCount:
    code: str
    count: int


@strawberry.type
class NodeStats:
    node_id: strawberry.ID
    type: str
    runs: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None


@strawberry.type
class RunStatsPoint:
    start: datetime
    completed: int
    failed: int
    cancelled: int
    p50_ms: float | None
    p95_ms: float | None
    input_tokens: float
    output_tokens: float
    cost_usd: float

    @strawberry.field
    @staticmethod
    def total(point: strawberry.Parent[SeriesPoint]) -> int:
        return point.ended


@strawberry.type
class RunStats:
    completed: int
    failed: int
    cancelled: int
    success_rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    queue_p95_ms: float | None
    input_tokens: float
    output_tokens: float
    cost_usd: float

    @strawberry.field
    @staticmethod
    def since(stats: Stats) -> datetime:
        return stats.period.since

    @strawberry.field
    @staticmethod
    def until(stats: Stats) -> datetime:
        return stats.period.until

    @strawberry.field
    @staticmethod
    async def total(stats: Stats, info: Info) -> int:
        return stats.ended + await statistics.active(info.context, stats)

    @strawberry.field
    @staticmethod
    async def active(stats: Stats, info: Info) -> int:
        return await statistics.active(info.context, stats)

    @strawberry.field
    @staticmethod
    def failures_by_code(stats: Stats) -> list[ErrorCount]:
        return [ErrorCount(code=code, count=count) for code, count in stats.failures_by_code]

    @strawberry.field(graphql_type=list[RunStatsPoint])
    @staticmethod
    async def series(stats: Stats, info: Info, bucket: Bucket | None = None) -> list[SeriesPoint]:
        return await statistics.series(info.context, stats, bucket)

    @strawberry.field(graphql_type=list[NodeStats])
    @staticmethod
    async def nodes(stats: Stats, info: Info) -> list[NodeCounts]:
        return await statistics.nodes(info.context, stats)

    @strawberry.field(graphql_type=list[NodeStats])
    @staticmethod
    async def slowest_nodes(stats: Stats, info: Info, first: int = 10) -> list[NodeCounts]:
        nodes = await statistics.nodes(info.context, stats)
        return sorted(nodes, key=lambda node: -(node.p95_ms or 0))[: _checked(first)]

    @strawberry.field(graphql_type=list[NodeStats])
    @staticmethod
    async def failing_nodes(stats: Stats, info: Info, first: int = 10) -> list[NodeCounts]:
        nodes = [node for node in await statistics.nodes(info.context, stats) if node.failed]
        return sorted(nodes, key=lambda node: -node.failed)[: _checked(first)]


def _checked(first: int) -> int:
    if not 1 <= first <= MOST_NODES:
        raise invalid("first", "OUT_OF_RANGE", f"must be from 1 to {MOST_NODES}, is {first}")
    return first
