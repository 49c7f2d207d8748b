"""Runs as clients see them. Every field that costs a query goes through a loader or is a page."""

from datetime import datetime
from typing import Annotated

import strawberry

from engine.states import EventType, LogLevel, RunAction, RunMode, RunSource, RunStatus
from persistence.db.pagination import Page
from persistence.events.history import Checkpoint as CheckpointRow
from persistence.events.history import EventsAsked, Window
from persistence.runs.run import Run as RunRow
from persistence.runs.waits import Wait as WaitRow
from persistence.workflows.projects import Project as ProjectRow
from persistence.workflows.versions import Version
from persistence.workflows.workflows import Workflow as WorkflowRow
from resolvers.runs import queries
from resolvers.runs.queries import EventViews, NodeView
from schema import enums as enums
from schema.info import Info
from schema.relay import Connection, Node
from schema.runs.checkpoint import Checkpoint
from schema.runs.event import LogPage, RunEventPage
from schema.runs.node_state import NodeState, RunError
from schema.runs.wait import Wait
from schema.scalars import JSON
from schema.workflows.project import Project
from schema.workflows.version import WorkflowVersion
from schema.workflows.workflow import Workflow

Row = strawberry.Parent[RunRow]


@strawberry.type
class RunOptions:
    timeout_s: float | None
    breakpoints: list[strawberry.ID]
    stepwise: bool
    priority: int


@strawberry.type
class Run(Node):
    source: RunSource
    status: RunStatus
    status_message: str | None
    inputs: JSON
    output: JSON | None
    error: RunError | None
    progress: float = strawberry.field(description="0.0 to 1.0, over the nodes this run can still reach.")
    attempt: int = strawberry.field(
        description="How often a worker took this run up; above 1 after a crash or a drain."
    )
    lineage: int = strawberry.field(
        description="How often it was rewound: part of the idempotency keys that its nodes work under."
    )
    last_seq: int = strawberry.field(
        description="The highest event number so far: pass it as `after` to continue from here."
    )
    mode: RunMode
    options: RunOptions
    created_by: str
    deadline_at: datetime | None
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    resumed_at: datetime | None
    paused_at: datetime | None
    cancelled_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, RunRow)

    @strawberry.field(graphql_type=Project)
    @staticmethod
    async def project(run: Row, info: Info) -> ProjectRow | None:
        return await info.context.loaders.project.load(run.project_id)

    @strawberry.field(graphql_type=Workflow | None)
    @staticmethod
    async def workflow(run: Row, info: Info) -> WorkflowRow | None:
        return await info.context.loaders.workflow.load(run.workflow_id) if run.workflow_id else None

    @strawberry.field(graphql_type=WorkflowVersion)
    @staticmethod
    async def version(run: Row, info: Info) -> Version | None:
        return await info.context.loaders.version.load(run.version_id)

    @strawberry.field(graphql_type=list[NodeState])
    @staticmethod
    async def current_nodes(run: Row, info: Info) -> list[NodeView]:
        return queries.under_way(await queries.node_views(info.context, run.id))

    @strawberry.field(
        description="From the medians of earlier runs of the same version; null without history, and for a run at rest."
    )
    @staticmethod
    async def estimated_completion_at(run: Row, info: Info) -> datetime | None:
        return await queries.estimated_completion(info.context, run)

    @strawberry.field(graphql_type=list[NodeState])
    @staticmethod
    async def node_states(run: Row, info: Info) -> list[NodeView]:
        return await queries.node_views(info.context, run.id)

    @strawberry.field(graphql_type=NodeState | None)
    @staticmethod
    async def node_state(run: Row, info: Info, node_id: strawberry.ID) -> NodeView | None:
        views = await queries.node_views(info.context, run.id)
        return next((view for view in views if view.state.node_id == node_id), None)

    @strawberry.field(
        graphql_type=RunEventPage,
        description="By number, both ways, at most 1000; with neither `first` nor `last`: the first 100.",
    )
    @staticmethod
    async def events(
        run: Row,
        info: Info,
        first: int | None = None,
        after: int | None = None,
        last: int | None = None,
        before: int | None = None,
        types: list[EventType] | None = None,
        node_id: strawberry.ID | None = None,
    ) -> EventViews:
        window = Window(first, after, last, before)
        asked = EventsAsked(run.id, window, None if types is None else tuple(sorted(set(types))), node_id)
        return await queries.events(info.context, asked)

    @strawberry.field(graphql_type=LogPage, description="By number, as `events`.")
    @staticmethod
    async def logs(
        run: Row,
        info: Info,
        first: int | None = None,
        after: int | None = None,
        last: int | None = None,
        before: int | None = None,
        node_id: strawberry.ID | None = None,
        min_level: LogLevel | None = None,
    ) -> EventViews:
        window = Window(first, after, last, before)
        return await queries.events(info.context, EventsAsked(run.id, window, (EventType.LOG,), node_id, min_level))

    @strawberry.field(graphql_type=Connection[Checkpoint])
    @staticmethod
    async def checkpoints(
        run: Row, info: Info, first: int | None = 25, after: str | None = None
    ) -> Page[CheckpointRow]:
        return await queries.checkpoint_page(info.context, run.id, first=first, after=after)

    @strawberry.field(graphql_type=Checkpoint | None)
    @staticmethod
    async def checkpoint(run: Row, info: Info, id: strawberry.ID) -> CheckpointRow | None:
        return await queries.checkpoint(info.context, id, run.id)

    @strawberry.field(description="Opaque: a name for this take-up, for the logs.")
    @staticmethod
    def task_id(run: Row) -> str | None:
        return f"{run.id}/{run.dispatch_number}" if run.dispatch_number else None

    @strawberry.field(description="What would be accepted now.")
    @staticmethod
    async def available_actions(run: Row, info: Info) -> list[RunAction]:
        return await queries.available_actions(info.context, run)

    @strawberry.field(graphql_type=Wait | None, description="What a WAITING run waits for: the first of `waits`.")
    @staticmethod
    async def waiting_for(run: Row, info: Info) -> WaitRow | None:
        return next(iter(await queries.waits_of(info.context, run)), None)

    @strawberry.field(graphql_type=list[Wait], description="Parallel branches wait side by side.")
    @staticmethod
    async def waits(run: Row, info: Info) -> list[WaitRow]:
        return await queries.waits_of(info.context, run)

    @strawberry.field(graphql_type=Annotated["Run", strawberry.lazy("schema.runs.run")] | None)
    @staticmethod
    async def parent(run: Row, info: Info) -> RunRow | None:
        return await info.context.loaders.run.load(run.parent_id) if run.parent_id else None

    @strawberry.field(graphql_type=Annotated["Run", strawberry.lazy("schema.runs.run")] | None)
    @staticmethod
    async def retry_of(run: Row, info: Info) -> RunRow | None:
        return await info.context.loaders.run.load(run.retry_of_id) if run.retry_of_id else None

    @strawberry.field(graphql_type=Checkpoint | None)
    @staticmethod
    async def forked_from(run: Row, info: Info) -> CheckpointRow | None:
        return await info.context.loaders.checkpoint.load(run.forked_from_id) if run.forked_from_id else None

    @strawberry.field(
        graphql_type=Connection[Annotated["Run", strawberry.lazy("schema.runs.run")]],
        description="Retries, forks and subworkflow runs made from this one.",
    )
    @staticmethod
    async def derived_runs(
        run: Row, info: Info, first: int | None = 25, after: str | None = None, source: list[RunSource] | None = None
    ) -> Page[RunRow]:
        return await queries.derived_page(info.context, run.id, first=first, after=after, source=source)

    @strawberry.field(description="From start to finish; so far, while it is on its way.")
    @staticmethod
    def duration_ms(run: Row) -> float | None:
        return queries.duration_ms(run.started_at, run.finished_at)
