"""A node of a run as clients see it, live or as it stood at some number. Input and output are loaded when asked for."""

from datetime import datetime
from typing import Any

import strawberry

from engine.states import NodeStatus
from resolvers.runs import queries
from resolvers.runs.queries import NodeView
from schema import enums as enums
from schema.info import Info
from schema.scalars import JSON

View = strawberry.Parent[NodeView]


@strawberry.type
class RunError:
    node_id: strawberry.ID | None
    code: str
    message: str
    retryable: bool
    details: JSON | None


@strawberry.type(description="What calls to models took. No cost where the model has no known price.")
class Usage:
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


@strawberry.type
class NodeState:
    id: strawberry.ID = strawberry.field(
        description="Live: one per run and node, for caches to merge on. Inside events and checkpoints: suffixed "
        "`@seq`, so that history never overwrites the live state."
    )

    node_id: strawberry.ID
    label: str
    type: str
    status: NodeStatus
    progress: float
    message: str | None
    visits: int = strawberry.field(description="Visits of this node so far (loops).")
    attempt: int
    partial_output: str | None = strawberry.field(
        description="Streamed text so far; kept when a run is cancelled in mid-stream."
    )
    usage: Usage | None = strawberry.field(description="Of this visit, all attempts together.")
    error: RunError | None
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: float | None
    seq: int

    @strawberry.field(graphql_type=JSON | None)
    @staticmethod
    async def input(view: View, info: Info) -> Any:
        return (await queries.node_values(info.context, view.state)).input

    @strawberry.field(graphql_type=JSON | None)
    @staticmethod
    async def output(view: View, info: Info) -> Any:
        return (await queries.node_values(info.context, view.state)).output
