"""A node of a run as clients see it, live or as it stood at some number. Input and output are loaded when asked for."""

from datetime import datetime
from typing import Any

import strawberry

from engine.events import RunError as RunErrorValue
from engine.events import Usage as UsageValue
from engine.states import NodeStatus
from resolvers import runs
from resolvers.runs import NodeView
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

    @strawberry.field(graphql_type=strawberry.ID)
    @staticmethod
    def node_id(view: View) -> str:
        return view.state.node_id

    @strawberry.field
    @staticmethod
    def label(view: View) -> str:
        return view.name.label

    @strawberry.field
    @staticmethod
    def type(view: View) -> str:
        return view.name.type

    @strawberry.field
    @staticmethod
    def status(view: View) -> NodeStatus:
        return view.state.status

    @strawberry.field
    @staticmethod
    def progress(view: View) -> float:
        return view.state.progress

    @strawberry.field
    @staticmethod
    def message(view: View) -> str | None:
        return view.state.message

    @strawberry.field(description="Visits of this node so far (loops).")
    @staticmethod
    def visits(view: View) -> int:
        return view.state.visits

    @strawberry.field
    @staticmethod
    def attempt(view: View) -> int:
        return view.state.attempt

    @strawberry.field(graphql_type=JSON | None)
    @staticmethod
    async def input(view: View, info: Info) -> Any:
        return (await runs.node_values(info.context, view.state)).input

    @strawberry.field(graphql_type=JSON | None)
    @staticmethod
    async def output(view: View, info: Info) -> Any:
        return (await runs.node_values(info.context, view.state)).output

    @strawberry.field(description="Streamed text so far; kept when a run is cancelled in mid-stream.")
    @staticmethod
    def partial_output(view: View) -> str | None:
        return view.state.partial_output

    @strawberry.field(graphql_type=Usage | None, description="Of this visit, all attempts together.")
    @staticmethod
    def usage(view: View) -> UsageValue | None:
        return view.state.usage

    @strawberry.field(graphql_type=RunError | None)
    @staticmethod
    def error(view: View) -> RunErrorValue | None:
        return view.state.error

    @strawberry.field
    @staticmethod
    def started_at(view: View) -> datetime | None:
        return view.state.started_at

    @strawberry.field
    @staticmethod
    def completed_at(view: View) -> datetime | None:
        return view.state.completed_at

    @strawberry.field
    @staticmethod
    def duration_ms(view: View) -> float | None:
        return runs.duration_ms(view.state.started_at, view.state.completed_at)

    @strawberry.field
    @staticmethod
    def seq(view: View) -> int:
        return view.state.seq
