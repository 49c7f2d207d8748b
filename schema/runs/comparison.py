"""Comparisons of runs as clients see them."""

import strawberry

from engine.values.json_diff import FieldDiff
from resolvers.runs import comparison
from schema.info import Info
from schema.runs.node_state import NodeStateType
from schema.runs.run import RunType
from schema.workflows.differences import FieldDiffType

ParentNode = strawberry.Parent[comparison.NodeComparison]
ParentComparison = strawberry.Parent[comparison.RunComparison]


@strawberry.type(name="NodeComparison", description="One node of two runs.")
class NodeComparisonType:
    node_id: strawberry.ID = strawberry.field(description="The id in the second run, or else in the first one.")
    previous_id: strawberry.ID | None = strawberry.field(
        description="The id in the first run, where the node was renamed between their versions."
    )
    a: NodeStateType | None = strawberry.field(description="The state in the first run; null if it has no such node.")
    b: NodeStateType | None = strawberry.field(description="The state in the second run; null if it has no such node.")
    duration_delta_ms: float | None = strawberry.field(
        description="Milliseconds that the latest visit took longer in the second run. Null where one did not start."
    )
    cost_delta_usd: float | None = strawberry.field(
        description="US dollars that the latest visit cost more in the second run. Null if a price is unknown."
    )

    @strawberry.field(
        graphql_type=list[FieldDiffType],
        description="The fields of the outputs that differ, at most 1,000; empty for equal outputs.",
    )
    @staticmethod
    async def output_diff(node: ParentNode, info: Info) -> list[FieldDiff]:
        return await comparison.output_differences(info.context, node)


@strawberry.type(name="RunComparison", description="Two runs, and their differences.")
class RunComparisonType:
    a: RunType = strawberry.field(description="The first run.")
    b: RunType = strawberry.field(description="The second run.")
    is_same_status: bool = strawberry.field(description="Whether both have the same status.")
    duration_delta_ms: float | None = strawberry.field(
        description="Milliseconds that the second run took longer, to its end or until now. Null where one has not started."
    )
    cost_usd_a: float | None = strawberry.field(
        description="US dollars of the model calls of the first run, in the latest visit of each node. Null if a price is "
        "unknown."
    )
    cost_usd_b: float | None = strawberry.field(description="The same of the second run.")
    nodes: list[NodeComparisonType] = strawberry.field(
        description="The nodes of the second run in the order of its spec, then those that only the first run has."
    )

    @strawberry.field(graphql_type=list[FieldDiffType], description="The fields of the inputs that differ.")
    @staticmethod
    async def input_diff(found: ParentComparison, info: Info) -> list[FieldDiff]:
        return await comparison.run_differences(info.context, found, "inputs")

    @strawberry.field(
        graphql_type=list[FieldDiffType], description="The fields of the outputs of the runs that differ."
    )
    @staticmethod
    async def output_diff(found: ParentComparison, info: Info) -> list[FieldDiff]:
        return await comparison.run_differences(info.context, found, "output")


@strawberry.type
class ComparisonQueries:
    @strawberry.field(
        graphql_type=RunComparisonType,
        description="Compares two runs, also of different versions: status, time, cost, and the outputs by node. An "
        "unknown id fails with NOT_FOUND.",
    )
    @staticmethod
    async def compare_runs(info: Info, a: strawberry.ID, b: strawberry.ID) -> comparison.RunComparison:
        return await comparison.compare_runs(info.context, a, b)
