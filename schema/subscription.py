"""Subscriptions, over graphql-transport-ws and SSE. One that is closed leaves nothing behind: see
resolvers/runs/subscriptions.py."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import strawberry
from strawberry.types.nodes import SelectedField

from engine.states import RunStatus
from persistence.runs.run import Run as RunRow
from resolvers.runs import subscriptions
from resolvers.runs.queries import NodeView
from resolvers.runs.subscriptions import NodeUpdate
from schema import enums as enums
from schema.info import Info
from schema.runs.event import EVENT_TYPES as EVENT_TYPES
from schema.runs.event import RunEvent
from schema.runs.inputs import RunFilter, where_of
from schema.runs.node_state import NodeState
from schema.runs.run import Run
from schema.workflows.draft import WorkflowDraft

Update = strawberry.Parent[NodeUpdate]


def _asks_for_values(info: Info) -> bool:
    """Whether inputs or outputs of nodes are selected, at whatever depth."""
    selected = list(info.selected_fields)
    while selected:
        one = selected.pop()
        if isinstance(one, SelectedField) and one.name in ("input", "output"):
            return True
        selected += one.selections
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

    @strawberry.field(graphql_type=Run)
    @staticmethod
    async def run(update: Update, info: Info) -> RunRow | None:
        return await info.context.loaders.run.load(update.run_id)

    @strawberry.field(graphql_type=NodeState | None, description="Null when only the run changed.")
    @staticmethod
    def node_state(update: Update) -> NodeView | None:
        return update.view


@strawberry.type
class Subscription:
    @strawberry.subscription(
        graphql_type=NodeStateUpdate,
        description="For a live run view. First the state of every node (`snapshot: true`, in one go), then every "
        "change in order, and the end when the run is terminal. Reconnect with the last `seq` seen: no gap, nothing "
        "twice.",
    )
    @staticmethod
    async def node_states(info: Info, run_id: strawberry.ID, after: int | None = None) -> AsyncGenerator[Any]:
        async with aclosing(
            subscriptions.node_states(info.context, run_id, after, with_values=_asks_for_values(info))
        ) as updates:
            async for update in updates:
                yield update

    @strawberry.subscription(
        graphql_type=RunEvent,
        description="Every event of a run from `after` on: history first, then live, one sequence.",
    )
    @staticmethod
    async def run_events(info: Info, run_id: strawberry.ID, after: int | None = 0) -> AsyncGenerator[Any]:
        async with aclosing(
            subscriptions.run_events(info.context, run_id, after or 0, with_values=_asks_for_values(info))
        ) as events:
            async for event in events:
                yield event

    @strawberry.subscription(
        graphql_type=Run, description="Runs that are created or change, for a list that stays current."
    )
    @staticmethod
    async def runs(
        info: Info, project_id: strawberry.ID | None = None, filter: RunFilter | None = None
    ) -> AsyncGenerator[Any]:
        async with aclosing(subscriptions.changed_runs(info.context, project_id, where_of(filter))) as changed:
            async for run in changed:
                yield run

    @strawberry.subscription(graphql_type=WorkflowDraft, description="The draft whenever somebody saves it.")
    @staticmethod
    async def draft(info: Info, workflow_id: strawberry.ID) -> AsyncGenerator[Any]:
        async with aclosing(subscriptions.draft_saves(info.context, workflow_id)) as saves:
            async for draft in saves:
                yield draft
