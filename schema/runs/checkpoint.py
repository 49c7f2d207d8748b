"""Checkpoints of a run as clients see them, with the node states and outputs at that point."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from engine.events import EdgeState
from persistence.db.pagination import Page, PageArguments
from persistence.events.history import Checkpoint
from persistence.runs.run import Run
from resolvers.runs import queries
from resolvers.runs.queries import NodeView
from resolvers.workflows import specs
from resolvers.workflows.specs import ExpressionResult
from schema.info import Info
from schema.relay import CountedConnection, Node
from schema.runs.node_state import EdgeStateType, NodeStateType
from schema.scalars import JSON
from schema.spec import ExpressionResultType, KindArgument

if TYPE_CHECKING:
    from schema.runs.run import RunType

ParentCheckpoint = strawberry.Parent[Checkpoint]


@strawberry.type(name="Checkpoint")
class CheckpointType(Node):
    parent_id: strawberry.ID | None
    seq: int
    step: int = strawberry.field(description="Counts the visits of inline nodes and the supersteps of the run, from 0.")
    lineage: int = strawberry.field(description="How often the run had been rewound when this was saved.")
    superseded_seq: int | None = strawberry.field(
        description="The event of the rewind that replaced it; null if it still "
        "applies. A fork can start from it in either case."
    )
    created_at: datetime
    next_nodes: list[strawberry.ID]
    size_bytes: int = strawberry.field(
        description="Size as stored. Most checkpoints are stored as the difference to their parent; 0 for one that is "
        "stored as a step of a later one."
    )

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Checkpoint)

    @strawberry.field(graphql_type=Annotated["RunType", strawberry.lazy("schema.runs.run")])
    @staticmethod
    async def run(checkpoint: ParentCheckpoint, info: Info) -> Run | None:
        return await info.context.loaders.run.load(checkpoint.run_id)

    @strawberry.field(graphql_type=Annotated["CheckpointType", strawberry.lazy("schema.runs.checkpoint")] | None)
    @staticmethod
    async def parent(checkpoint: ParentCheckpoint, info: Info) -> Checkpoint | None:
        return await info.context.loaders.checkpoint.load(checkpoint.parent_id) if checkpoint.parent_id else None

    @strawberry.field(graphql_type=list[strawberry.ID])
    @staticmethod
    async def completed_nodes(checkpoint: ParentCheckpoint, info: Info) -> list[str]:
        return await queries.completed_at(info.context, checkpoint)

    @strawberry.field(graphql_type=list[NodeStateType])
    @staticmethod
    async def node_states(checkpoint: ParentCheckpoint, info: Info) -> list[NodeView]:
        return await queries.node_views_at(info.context, checkpoint.run_id, checkpoint.seq)

    @strawberry.field(graphql_type=list[EdgeStateType], description="Every edge, in the order of the spec.")
    @staticmethod
    async def edge_states(checkpoint: ParentCheckpoint, info: Info) -> list[EdgeState]:
        return await queries.edge_states_at(info.context, checkpoint.run_id, checkpoint.seq)

    @strawberry.field(
        graphql_type=JSON,
        description=(
            "Node outputs at this checkpoint, by node id: of the latest visit of each node that has ended. "
            "A node that was skipped or cancelled since then is left out."
        ),
    )
    @staticmethod
    async def state(checkpoint: ParentCheckpoint, info: Info) -> Any:
        return await queries.state_at(info.context, checkpoint)

    @strawberry.field(
        graphql_type=CountedConnection[Annotated["RunType", strawberry.lazy("schema.runs.run")]],
        description="Runs that were forked from this checkpoint.",
    )
    @staticmethod
    async def forks(
        checkpoint: ParentCheckpoint,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[Run]:
        return await queries.fork_page(info.context, checkpoint.id, PageArguments(first, after, last, before))

    @strawberry.field(
        graphql_type=ExpressionResultType,
        description="Evaluates a template, an expression or a condition with the state of this checkpoint: `input`, "
        "`run.id`, and each node by its id and in `nodes`, with `output`, `status` and `last_output`.",
    )
    @staticmethod
    async def evaluate(
        checkpoint: ParentCheckpoint, info: Info, expression: str, kind: KindArgument = None
    ) -> ExpressionResult:
        scope = await queries.scope_at(info.context, checkpoint)
        return await specs.evaluate_expression(expression, scope, kind, subject=info.context.caller.subject)
