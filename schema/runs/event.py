"""Everything that happens to a run, as clients see it: numbered 1, 2, 3 … without gaps, never renumbered."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from engine import events
from engine.states import LogLevel, RunStatus
from persistence.events.history import Checkpoint as CheckpointRow
from persistence.feed.feed import Expired
from resolvers.runs.queries import EventView, NodeView
from schema import enums as enums
from schema.info import Info
from schema.runs.node_state import NodeState
from schema.scalars import JSON

if TYPE_CHECKING:
    from schema.runs.checkpoint import Checkpoint

View = strawberry.Parent[EventView]


def _what(view: EventView) -> Any:
    """What the event tells; `is_type_of` has made sure of its kind."""
    return None if isinstance(view.event, Expired) else view.event.data


@strawberry.interface
class RunEvent:
    @strawberry.field
    @staticmethod
    def seq(view: View) -> int:
        return view.event.seq

    @strawberry.field(graphql_type=strawberry.ID)
    @staticmethod
    def run_id(view: View) -> str:
        return view.event.run_id

    @strawberry.field
    @staticmethod
    def at(view: View) -> datetime:
        return view.event.at

    @strawberry.field(graphql_type=strawberry.ID | None)
    @staticmethod
    def node_id(view: View) -> str | None:
        return getattr(_what(view), "node_id", None)


@strawberry.type
class RunStatusChanged(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(_what(value), events.StatusChange)

    @strawberry.field
    @staticmethod
    def status(view: View) -> RunStatus:
        return RunStatus(_what(view).status)

    @strawberry.field
    @staticmethod
    def previous(view: View) -> RunStatus | None:
        previous = _what(view).previous
        return previous and RunStatus(previous)

    @strawberry.field
    @staticmethod
    def message(view: View) -> str:
        return str(_what(view).message)


@strawberry.type
class NodeStateChanged(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(_what(value), events.NodeChange)

    @strawberry.field(graphql_type=NodeState)
    @staticmethod
    def node_state(view: View) -> NodeView | None:
        return view.node


@strawberry.type
class CheckpointSaved(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(_what(value), events.CheckpointSaved)

    @strawberry.field(graphql_type=strawberry.ID)
    @staticmethod
    def checkpoint_id(view: View) -> str:
        return str(_what(view).checkpoint_id)

    @strawberry.field(
        graphql_type=Annotated["Checkpoint", strawberry.lazy("schema.runs.checkpoint")] | None,
        description="Null past retention.",
    )
    @staticmethod
    async def checkpoint(view: View, info: Info) -> CheckpointRow | None:
        return await info.context.loaders.checkpoint.load(_what(view).checkpoint_id)

    @strawberry.field
    @staticmethod
    def step(view: View) -> int:
        return int(_what(view).step)


@strawberry.type
class LogRecorded(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(_what(value), events.LogRecorded)

    @strawberry.field
    @staticmethod
    def level(view: View) -> LogLevel:
        return LogLevel(_what(view).level)

    @strawberry.field
    @staticmethod
    def message(view: View) -> str:
        return str(_what(view).message)

    @strawberry.field(graphql_type=JSON)
    @staticmethod
    def fields(view: View) -> Any:
        return _what(view).fields


@strawberry.type(
    description="Text as it streams out of a node. Live only: `seq` is that of the last numbered event. Kept as `partialOutput`."
)
class NodeOutputDelta(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(value.event, events.LiveDelta)

    @strawberry.field
    @staticmethod
    def visit(view: View) -> int:
        return int(_what(view).visit)

    @strawberry.field
    @staticmethod
    def attempt(view: View) -> int:
        return int(_what(view).attempt)

    @strawberry.field(description="Where `text` starts in `partialOutput`, in code points.")
    @staticmethod
    def offset(view: View) -> int:
        return int(_what(view).offset)

    @strawberry.field
    @staticmethod
    def text(view: View) -> str:
        return str(_what(view).text)


@strawberry.type(description="The events asked for are past retention: reload the run, and go on from `firstSeq`.")
class HistoryExpired(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(value.event, Expired)

    @strawberry.field
    @staticmethod
    def first_seq(view: View) -> int:
        return view.event.first_seq if isinstance(view.event, Expired) else view.event.seq


EVENT_TYPES = [RunStatusChanged, NodeStateChanged, CheckpointSaved, LogRecorded, NodeOutputDelta, HistoryExpired]


@strawberry.type(description="`firstSeq` and `lastSeq` go on from here, as `before` and `after`.")
class RunEventPage:
    nodes: list[RunEvent]
    first_seq: int
    last_seq: int
    has_more: bool


@strawberry.type(description="As RunEventPage.")
class LogPage:
    nodes: list[LogRecorded]
    first_seq: int
    last_seq: int
    has_more: bool
