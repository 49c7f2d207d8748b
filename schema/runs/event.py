"""Events of a run as clients see them, numbered 1, 2, 3 … without gaps. A number never changes."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from engine import events
from engine.events import EdgeState
from engine.states import LogLevel, RunStatus
from persistence.events.history import Checkpoint
from persistence.feed.feed import Expired
from resolvers.runs.queries import EdgeChange, EventView, NodeView, ProgressChange
from schema import enums as enums
from schema.info import Info
from schema.runs.node_state import EdgeStateType, NodeStateType
from schema.scalars import JSON

if TYPE_CHECKING:
    from schema.runs.checkpoint import CheckpointType

ParentEvent = strawberry.Parent[EventView]


def _data(view: EventView) -> Any:
    """Return the data of the event. `is_type_of` has checked its class."""
    return None if isinstance(view.event, Expired) else view.event.data


@strawberry.interface
class RunEvent:
    @strawberry.field
    @staticmethod
    def seq(view: ParentEvent) -> int:
        return view.event.seq

    @strawberry.field(graphql_type=strawberry.ID)
    @staticmethod
    def run_id(view: ParentEvent) -> str:
        return view.event.run_id

    @strawberry.field
    @staticmethod
    def at(view: ParentEvent) -> datetime:
        return view.event.at

    @strawberry.field(graphql_type=strawberry.ID | None)
    @staticmethod
    def node_id(view: ParentEvent) -> str | None:
        return getattr(_data(view), "node_id", None)


@strawberry.type
class RunStatusChanged(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(_data(value), events.StatusChange)

    @strawberry.field
    @staticmethod
    def status(view: ParentEvent) -> RunStatus:
        return RunStatus(_data(view).status)

    @strawberry.field
    @staticmethod
    def previous(view: ParentEvent) -> RunStatus | None:
        previous = _data(view).previous
        return previous and RunStatus(previous)

    @strawberry.field
    @staticmethod
    def message(view: ParentEvent) -> str:
        return str(_data(view).message)


@strawberry.type
class NodeStateChanged(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(_data(value), events.NodeChange)

    @strawberry.field(graphql_type=NodeStateType)
    @staticmethod
    def node_state(view: ParentEvent) -> NodeView | None:
        return view.node


@strawberry.type(name="CheckpointSaved")
class CheckpointSavedType(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(_data(value), events.CheckpointSaved)

    @strawberry.field(graphql_type=strawberry.ID)
    @staticmethod
    def checkpoint_id(view: ParentEvent) -> str:
        return str(_data(view).checkpoint_id)

    @strawberry.field(
        graphql_type=Annotated["CheckpointType", strawberry.lazy("schema.runs.checkpoint")] | None,
        description="Null if retention has deleted it.",
    )
    @staticmethod
    async def checkpoint(view: ParentEvent, info: Info) -> Checkpoint | None:
        return await info.context.loaders.checkpoint.load(_data(view).checkpoint_id)

    @strawberry.field
    @staticmethod
    def step(view: ParentEvent) -> int:
        return int(_data(view).step)


@strawberry.type(name="LogRecorded")
class LogRecordedType(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(_data(value), events.LogRecorded)

    @strawberry.field
    @staticmethod
    def level(view: ParentEvent) -> LogLevel:
        return LogLevel(_data(view).level)

    @strawberry.field
    @staticmethod
    def message(view: ParentEvent) -> str:
        return str(_data(view).message)

    @strawberry.field(graphql_type=JSON)
    @staticmethod
    def fields(view: ParentEvent) -> Any:
        return _data(view).fields


@strawberry.type(
    description="Text that a node streams. Sent live only: `seq` is that of the "
    "last numbered event. Stored as `partialOutput`."
)
class NodeOutputDelta(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(value.event, events.LiveDelta)

    @strawberry.field
    @staticmethod
    def visit(view: ParentEvent) -> int:
        return int(_data(view).visit)

    @strawberry.field
    @staticmethod
    def attempt(view: ParentEvent) -> int:
        return int(_data(view).attempt)

    @strawberry.field(description="Position of `text` in `partialOutput`, in code points.")
    @staticmethod
    def offset(view: ParentEvent) -> int:
        return int(_data(view).offset)

    @strawberry.field
    @staticmethod
    def text(view: ParentEvent) -> str:
        return str(_data(view).text)


@strawberry.type(
    description="Retention has deleted the requested events. Reload the run, and continue from `firstSeq`."
)
class HistoryExpired(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(value.event, Expired)

    @strawberry.field
    @staticmethod
    def first_seq(view: ParentEvent) -> int:
        return view.event.first_seq if isinstance(view.event, Expired) else view.event.seq


@strawberry.type(
    description="An edge was taken or not taken, or its source runs again. It follows the NodeStateChanged of its "
    "source, with the same `seq`; `nodeState.edgeStates` of that event has it as well."
)
class EdgeStateChanged(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(_data(value), EdgeChange)

    @strawberry.field(graphql_type=EdgeStateType)
    @staticmethod
    def edge_state(view: ParentEvent) -> EdgeState:
        change = _data(view)
        assert isinstance(change, EdgeChange)
        return change.edge


@strawberry.type(
    description="The progress of the run has changed by at least half a percent. It follows the event that changed it, "
    "with the same `seq`."
)
class RunProgressed(RunEvent):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, EventView) and isinstance(_data(value), ProgressChange)

    @strawberry.field
    @staticmethod
    def progress(view: ParentEvent) -> float:
        return float(_data(view).progress)


EVENT_TYPES = [
    RunStatusChanged,
    NodeStateChanged,
    CheckpointSavedType,
    LogRecordedType,
    NodeOutputDelta,
    HistoryExpired,
    EdgeStateChanged,
    RunProgressed,
]


@strawberry.type(description="Pass `firstSeq` as `before`, or `lastSeq` as `after`, to read the adjacent page.")
class RunEventPage:
    nodes: list[RunEvent]
    first_seq: int
    last_seq: int
    has_more: bool


@strawberry.type(description="A page of log events; see RunEventPage.")
class LogPage:
    nodes: list[LogRecordedType]
    first_seq: int
    last_seq: int
    has_more: bool
