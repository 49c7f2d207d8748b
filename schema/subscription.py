"""The root type of subscriptions, served over graphql-transport-ws and Server-Sent Events.

Every generator is closed with its subscription, which frees the listeners of
resolvers/runs/subscriptions.py.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, cast

import strawberry
from strawberry.types.nodes import SelectedField

from engine.states import EventType, RunStatus
from persistence.runs.run import Run
from resolvers.read_ahead import UpdateBatch, current_batch, read_ahead
from resolvers.runs import subscriptions
from resolvers.runs.queries import EventView, NodeView
from resolvers.runs.subscriptions import NodeUpdate, RunSnapshot, saved_checkpoints
from resolvers.triggers.queries import new_events
from schema import enums as enums
from schema.info import Info
from schema.runs.event import EVENT_TYPES as EVENT_TYPES
from schema.runs.event import (
    CheckpointSavedType,
    EdgeStateChanged,
    HistoryExpired,
    LogRecordedType,
    NodeOutputDelta,
    NodeStateChanged,
    RunEvent,
    RunProgressed,
    RunStatusChanged,
)
from schema.runs.inputs import RunFilterInput, run_filter
from schema.runs.node_state import EdgeStateType, NodeStateType
from schema.runs.run import RunType
from schema.triggers.trigger import TriggerEventType
from schema.workflows.draft import WorkflowDraft

Update = strawberry.Parent[NodeUpdate]


def _selects_values(info: Info) -> bool:
    """Return whether inputs or outputs of nodes are selected, at any depth."""
    selections = list(info.selected_fields)
    while selections:
        selection = selections.pop()
        if isinstance(selection, SelectedField) and selection.name in ("input", "output"):
            return True
        selections += selection.selections
    return False


@strawberry.type
class NodeStateUpdate:
    seq: int
    run_status: RunStatus
    progress: float

    @strawberry.field
    @staticmethod
    def snapshot(update: Update) -> bool:
        return update.is_snapshot

    @strawberry.field(
        graphql_type=RunType,
        description="The run as of this `seq`: its status, message and progress, and no output or error before its end. "
        "What it reads in addition (`nodeStates`, `waits`, `events` and so on) is as of now.",
    )
    @staticmethod
    async def run(update: Update, info: Info) -> Run | None:
        run = await info.context.loaders.run.load(update.run_id)
        return None if run is None else update.as_run(run)

    @strawberry.field(graphql_type=NodeStateType | None, description="Null if only the run changed.")
    @staticmethod
    def node_state(update: Update) -> NodeView | None:
        return update.view


ParentSnapshot = strawberry.Parent[RunSnapshot]


@strawberry.type(
    name="RunSnapshot",
    description="The whole state of a run after the event `seq`, in one message. Fields that `run` reads in addition are "
    "as of now.",
)
class RunSnapshotType:
    seq: int
    edge_states: list[EdgeStateType] = strawberry.field(description="Every edge, in the order of the spec.")

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, RunSnapshot)

    @strawberry.field(graphql_type=RunType)
    @staticmethod
    def run(snapshot: ParentSnapshot) -> Run:
        return snapshot.run

    @strawberry.field(graphql_type=list[NodeStateType], description="Every node, in the order of the spec.")
    @staticmethod
    def node_states(snapshot: ParentSnapshot) -> list[NodeView]:
        return snapshot.node_states


RunUpdate = Annotated[
    RunSnapshotType
    | NodeStateChanged
    | EdgeStateChanged
    | NodeOutputDelta
    | LogRecordedType
    | CheckpointSavedType
    | RunStatusChanged
    | RunProgressed
    | HistoryExpired,
    strawberry.union("RunUpdate", description="Everything that a live view of a run shows."),
]


def _after(info: Info, after: int | None) -> int | None:
    """Return the event to continue after. An event stream that connects again knows it better."""
    last_event = info.context.last_event
    return after if last_event is None else last_event


async def _numbered(
    info: Info,
    updates: AsyncGenerator[RunSnapshot | EventView] | AsyncGenerator[NodeUpdate] | AsyncGenerator[EventView],
) -> AsyncGenerator[Any]:
    """Yield the updates of a run. The context has the number of each while it is sent.

    What the updates of a replay or a snapshot load is loaded for many of them at once.
    """
    async with aclosing(read_ahead(cast("AsyncGenerator[Any]", updates))) as batches:
        async for ready in batches:
            batch = UpdateBatch(ready, {"checkpoint": saved_checkpoints(ready)})
            for update in ready:
                # An event stream reads each update in a task of its own.
                current_batch.set(batch)
                info.context.last_seq = update.event.seq if isinstance(update, EventView) else update.seq
                yield update
            current_batch.set(None)


@strawberry.type
class Subscription:
    @strawberry.subscription(
        graphql_type=RunUpdate,
        description="Everything that a live view of a run shows, in one sequence: first the whole state as one "
        "RunSnapshot, then every change in the order of `seq`, up to the end of the run. `types` selects the changes; "
        "by default all are sent. To reconnect, pass the last `seq` received as `after`: no numbered event is missed "
        "or repeated, and no snapshot is sent. `after: 0` sends the history from the beginning. If retention has "
        "deleted a part of it, HistoryExpired and a new RunSnapshot are sent.",
    )
    @staticmethod
    async def run_updates(
        info: Info, run_id: strawberry.ID, after: int | None = None, types: list[EventType] | None = None
    ) -> AsyncGenerator[Any]:
        updates = subscriptions.run_updates(
            info.context, run_id, _after(info, after), types, with_values=_selects_values(info)
        )
        async with aclosing(_numbered(info, updates)) as numbered:
            async for update in numbered:
                yield update

    @strawberry.subscription(
        graphql_type=NodeStateUpdate,
        description="For a live run view. Sends the state of every node at "
        "once (`snapshot: true`), then every change "
        "in order, and ends when the run is terminal. To reconnect, pass "
        "the last `seq` received as `after`: no change "
        "is missed or repeated. `runUpdates` sends edges, text, logs and checkpoints as well.",
    )
    @staticmethod
    async def node_states(info: Info, run_id: strawberry.ID, after: int | None = None) -> AsyncGenerator[Any]:
        updates = subscriptions.node_states(
            info.context, run_id, _after(info, after), with_values=_selects_values(info)
        )
        async with aclosing(_numbered(info, updates)) as numbered:
            async for update in numbered:
                yield update

    @strawberry.subscription(
        graphql_type=RunEvent,
        description="Every event of a run after the number `after`: first from history, then live, in one sequence.",
    )
    @staticmethod
    async def run_events(info: Info, run_id: strawberry.ID, after: int | None = 0) -> AsyncGenerator[Any]:
        events = subscriptions.run_events(
            info.context, run_id, _after(info, after) or 0, with_values=_selects_values(info)
        )
        async with aclosing(_numbered(info, events)) as numbered:
            async for event in numbered:
                yield event

    @strawberry.subscription(
        graphql_type=RunType,
        description="Every run that is created or changed, to keep a list up to date. "
        "The progress of a run is sent about once a second.",
    )
    @staticmethod
    async def runs(
        info: Info, project_id: strawberry.ID | None = None, filter: RunFilterInput | None = None
    ) -> AsyncGenerator[Any]:
        async with aclosing(subscriptions.changed_runs(info.context, project_id, run_filter(filter))) as changed:
            async for run in changed:
                yield run

    @strawberry.subscription(
        graphql_type=TriggerEventType,
        description="Every new event of the triggers of a project, or of one trigger. There is no history: after a "
        "reconnect, read the first page of `Trigger.events`.",
    )
    @staticmethod
    async def trigger_events(
        info: Info, project_id: strawberry.ID | None = None, trigger_id: strawberry.ID | None = None
    ) -> AsyncGenerator[Any]:
        async with aclosing(new_events(info.context, project_id, trigger_id)) as events:
            async for event in events:
                yield event

    @strawberry.subscription(
        graphql_type=WorkflowDraft,
        description="The draft, each time it is saved with a change. It ends when the workflow is deleted.",
    )
    @staticmethod
    async def draft(info: Info, workflow_id: strawberry.ID) -> AsyncGenerator[Any]:
        async with aclosing(subscriptions.draft_saves(info.context, workflow_id)) as saves:
            async for draft in saves:
                yield draft
