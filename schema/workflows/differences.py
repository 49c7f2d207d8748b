"""Differences of specs as clients see them."""

from typing import Annotated

import strawberry

from engine.spec import diff
from resolvers.workflows import differences
from schema import enums as enums
from schema.info import Info
from schema.scalars import JSON


@strawberry.type(name="FieldDiff", description="A field with different values.")
class FieldDiffType:
    path: str = strawberry.field(description="The path of the field, such as `config.cases[0].port`.")
    before: JSON | None = strawberry.field(description="The value before. Null if the field was absent, or null.")
    after: JSON | None = strawberry.field(description="The value after. Null if the field is absent, or null.")


@strawberry.type(name="NodeDiff", description="A node that differs. Its position in a builder is not compared.")
class NodeDiffType:
    node_id: strawberry.ID = strawberry.field(description="The id after the change; before it, if it was removed.")
    previous_id: strawberry.ID | None = strawberry.field(
        description="The id before, where the node was renamed. References to the old id are no differences then."
    )
    change: diff.DiffChange = strawberry.field(description="What happened to the node.")
    fields: list[FieldDiffType] = strawberry.field(
        description="The fields that differ, at most 1,000; all fields of a node that was added or removed."
    )


@strawberry.type(name="EdgeDiff", description="An edge that differs. An edge keeps its id, or its ends and its port.")
class EdgeDiffType:
    edge_id: strawberry.ID = strawberry.field(description="The id after the change; before it, if it was removed.")
    change: diff.DiffChange = strawberry.field(description="What happened to the edge.")
    fields: list[FieldDiffType] = strawberry.field(
        description="The fields that differ; all fields of an edge that was added or removed."
    )


@strawberry.type(name="SpecDiff", description="The differences of two specs.")
class SpecDiffType:
    nodes: list[NodeDiffType] = strawberry.field(
        description="Nodes that were added or modified, in the order of the spec after, then those that were removed."
    )
    edges: list[EdgeDiffType] = strawberry.field(description="Edges that differ, in the same order as the nodes.")
    other: list[FieldDiffType] = strawberry.field(description="Other fields of the spec that differ, such as `inputs`.")


FromArgument = Annotated[strawberry.ID, strawberry.argument(name="from")]


@strawberry.type
class DifferenceQueries:
    @strawberry.field(
        graphql_type=SpecDiffType,
        description="The differences of two versions, or drafts, by node, field and edge. An unknown id fails with "
        "NOT_FOUND.",
    )
    @staticmethod
    async def diff_versions(info: Info, from_: FromArgument, to: strawberry.ID) -> diff.SpecDiff:
        return await differences.diff_versions(info.context, from_, to)
