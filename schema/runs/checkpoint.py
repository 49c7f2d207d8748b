"""Checkpoints of a run as clients see them: what had been computed when, and what a template would have seen then."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from engine.states import NodeStatus
from persistence.db.pagination import Page
from persistence.events.history import Checkpoint as CheckpointRow
from persistence.runs.run import Run as RunRow
from resolvers.runs import queries
from resolvers.runs.queries import NodeView
from resolvers.workflows import specs
from resolvers.workflows.specs import ExpressionResult as Evaluated
from schema.info import Info
from schema.relay import Connection, Node
from schema.runs.node_state import NodeState
from schema.scalars import JSON
from schema.spec import ExpressionResult

if TYPE_CHECKING:
    from schema.runs.run import Run

Row = strawberry.Parent[CheckpointRow]


@strawberry.type
class Checkpoint(Node):
    parent_id: strawberry.ID | None
    seq: int
    step: int
    lineage: int = strawberry.field(description="How often the run had been rewound by then.")
    superseded_seq: int | None = strawberry.field(
        description="The event of the rewind that took it back; null while it stands. One can still fork from it."
    )
    created_at: datetime
    next_nodes: list[strawberry.ID]
    size_bytes: int = strawberry.field(description="As it is stored: a change over its parent, most of the time.")

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, CheckpointRow)

    @strawberry.field(graphql_type=Annotated["Run", strawberry.lazy("schema.runs.run")])
    @staticmethod
    async def run(row: Row, info: Info) -> RunRow | None:
        return await info.context.loaders.run.load(row.run_id)

    @strawberry.field(graphql_type=Annotated["Checkpoint", strawberry.lazy("schema.runs.checkpoint")] | None)
    @staticmethod
    async def parent(row: Row, info: Info) -> CheckpointRow | None:
        return await info.context.loaders.checkpoint.load(row.parent_id) if row.parent_id else None

    @strawberry.field(graphql_type=list[strawberry.ID])
    @staticmethod
    async def completed_nodes(row: Row, info: Info) -> list[str]:
        views = await queries.node_views_at(info.context, row.run_id, row.seq)
        return [view.state.node_id for view in views if view.state.status is NodeStatus.COMPLETED]

    @strawberry.field(graphql_type=list[NodeState])
    @staticmethod
    async def node_states(row: Row, info: Info) -> list[NodeView]:
        return await queries.node_views_at(info.context, row.run_id, row.seq)

    @strawberry.field(graphql_type=JSON, description="Node outputs as they stood, by node id.")
    @staticmethod
    async def state(row: Row, info: Info) -> Any:
        return await queries.state_at(info.context, row)

    @strawberry.field(
        graphql_type=Connection[Annotated["Run", strawberry.lazy("schema.runs.run")]],
        description="Runs that began here.",
    )
    @staticmethod
    async def forks(row: Row, info: Info, first: int | None = 25, after: str | None = None) -> Page[RunRow]:
        return await queries.fork_page(info.context, row.id, first=first, after=after)

    @strawberry.field(graphql_type=ExpressionResult, description="Evaluates `{{ … }}` against this state.")
    @staticmethod
    async def evaluate(row: Row, info: Info, expression: str) -> Evaluated:
        return await specs.evaluate_expression(expression, await queries.scope_at(info.context, row))
