"""Node states as clients see them, live or at an event.

Input and output are loaded only if selected.
"""

from datetime import datetime
from typing import Any

import strawberry

from engine.states import EdgeStatus, NodeStatus
from resolvers.runs import queries
from resolvers.runs.queries import NodeView
from schema import enums as enums
from schema.info import Info
from schema.relay import Node
from schema.scalars import JSON

ParentView = strawberry.Parent[NodeView]


@strawberry.type(name="RunError")
class RunErrorType:
    node_id: strawberry.ID | None
    code: str
    message: str
    retryable: bool
    details: JSON | None


@strawberry.type(
    name="Usage", description="Tokens and cost of model calls. `costUsd` is null if the price of the model is unknown."
)
class UsageType:
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


@strawberry.type(name="EdgeState", description="Whether an edge was taken, as the latest visit of its source decided.")
class EdgeStateType:
    edge_id: strawberry.ID
    status: EdgeStatus
    visits: int = strawberry.field(description="How often the edge was taken so far, in a loop.")


@strawberry.type(name="NodeState")
class NodeStateType(Node):
    id: strawberry.ID = strawberry.field(
        description="Live: one per run and node, so that client caches merge by it. In events and checkpoints it "
        "ends with `@seq`, so that history never overwrites the live state in a cache."
    )

    node_id: strawberry.ID
    label: str
    type: str
    status: NodeStatus
    progress: float = strawberry.field(
        description="0.0 to 1.0. A node that failed or was cancelled keeps what it had reached."
    )
    message: str | None
    visits: int = strawberry.field(description="How often this node has been visited so far, in a loop.")
    attempt: int
    partial_output: str | None = strawberry.field(
        description="Text streamed so far. It stays if the run is cancelled during the stream."
    )
    thinking: str | None = strawberry.field(
        description="What a model thought before its answer in this visit, apart from the answer."
    )
    finish_reason: str | None = strawberry.field(
        description="Why the model ended its last answer in this visit, as it reported it. `length` means that the "
        "token limit has cut the answer."
    )
    usage: UsageType | None = strawberry.field(description="Sum of all attempts of this visit.")
    error: RunErrorType | None
    started_at: datetime | None = strawberry.field(
        description="The start of this visit. Retries, pauses and a change of the worker do not move it."
    )
    completed_at: datetime | None
    duration_ms: float | None
    seq: int
    port: str | None = strawberry.field(
        description="The named port that the node left by in this visit. Null before the end of the visit, and for a "
        "node without named ports."
    )
    edge_states: list[EdgeStateType] = strawberry.field(description="The edges that leave this node.")

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, NodeView)

    @strawberry.field(graphql_type=JSON | None)
    @staticmethod
    async def input(view: ParentView, info: Info) -> Any:
        return await queries.node_value(info.context, view.state, "input")

    @strawberry.field(graphql_type=JSON | None)
    @staticmethod
    async def output(view: ParentView, info: Info) -> Any:
        return await queries.node_value(info.context, view.state, "output")
