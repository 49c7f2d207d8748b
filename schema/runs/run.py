"""Runs as clients see them.

Every field that needs a query uses a loader, so a list of runs needs one query a field.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from engine.events import EdgeState
from engine.states import EventType, LogLevel, OnLimit, RunAction, RunMode, RunSource, RunStatus
from persistence.db.json_text import LARGE_VALUE
from persistence.db.pagination import Page, PageArguments
from persistence.events.history import Checkpoint, EventsQuery, Window
from persistence.maintenance.queue_facts import QueueReasonCode
from persistence.runs.run import Run
from persistence.runs.waits import Wait
from persistence.signals.signal import SentSignal
from persistence.triggers.events import TriggerEvent
from persistence.triggers.trigger import Trigger
from persistence.workflows.projects import Project
from persistence.workflows.versions import Version
from persistence.workflows.workflows import Workflow
from resolvers.runs import event_pages, queries, queue_reasons
from resolvers.runs.event_pages import EventViews
from resolvers.runs.large_values import run_value
from resolvers.runs.queries import EventView, NodeView
from resolvers.runs.queue_reasons import QueueReason
from resolvers.runs.signals import signal_page
from schema import enums as enums
from schema.info import Info
from schema.relay import Connection, CountedConnection, Node
from schema.runs.checkpoint import CheckpointType
from schema.runs.event import LogPage, LogRecordedType, RunEvent, RunEventPage
from schema.runs.node_state import EdgeStateType, NodeStateType, RunErrorType
from schema.runs.signal import SignalType
from schema.runs.wait import WaitType
from schema.scalars import JSON
from schema.workflows.project import ProjectType
from schema.workflows.version import WorkflowVersion
from schema.workflows.workflow import WorkflowType

if TYPE_CHECKING:
    from schema.triggers.trigger import TriggerEventType, TriggerType

ParentRun = strawberry.Parent[Run]


def _inputs(run: ParentRun, info: Info) -> Any:
    return run_value(info.context, run, "inputs") if run.stored_inputs is LARGE_VALUE else run.stored_inputs


def _output(run: ParentRun, info: Info) -> Any:
    return run_value(info.context, run, "output") if run.stored_output is LARGE_VALUE else run.stored_output


def _sorted_types(types: list[EventType] | None) -> tuple[EventType, ...] | None:
    """Return the types in one order, so that equal queries share a statement."""
    return None if types is None else tuple(sorted(set(types)))


@strawberry.type(name="RunThread", description="The conversation that a run belongs to.")
class RunThreadType:
    key: str = strawberry.field(description="The key of the thread in the project.")
    on_busy: OnLimit = strawberry.field(description="The effect on the run while another one of the thread was active.")


@strawberry.type(name="RunOptions")
class RunOptionsType:
    timeout_s: float | None
    breakpoints: list[strawberry.ID]
    stepwise: bool
    priority: int
    tags: list[str]
    thread: RunThreadType | None


@strawberry.type(name="QueueReason", description="Why a QUEUED run has not started yet: the first reason that applies.")
class QueueReasonType:
    code: QueueReasonCode = strawberry.field(description="The reason, for programs.")
    message: str = strawberry.field(description="The reason and what to do, for people.")
    runs_before: int = strawberry.field(
        description="QUEUED runs of the same workflow (if it has a limit) or project that start before it; 1000 for more."
    )


@strawberry.type(name="Run")
class RunType(Node):
    source: RunSource
    status: RunStatus
    status_message: str | None
    inputs: JSON = strawberry.field(resolver=_inputs, graphql_type=JSON)
    output: JSON | None = strawberry.field(resolver=_output, graphql_type=JSON | None)
    error: RunErrorType | None = strawberry.field(
        description="Why the run FAILED, or that its deadline CANCELLED it (code DEADLINE)."
    )
    progress: float = strawberry.field(
        description="0.0 to 1.0: the mean over the nodes that this run can still reach. A finished node counts 1, a "
        "running one its own progress."
    )
    attempt: int = strawberry.field(
        description="How often a worker has claimed this run; above 1 after a crash or a drain."
    )
    lineage: int = strawberry.field(
        description="How often the run has been rewound. Part of the idempotency keys of its nodes."
    )
    last_seq: int = strawberry.field(
        description="The highest event number so far. Pass it as `after` to continue from here."
    )
    mode: RunMode
    options: RunOptionsType
    created_by: str
    deadline_at: datetime | None
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    resumed_at: datetime | None
    paused_at: datetime | None
    cancelled_at: datetime | None
    finished_at: datetime | None
    history_expired_at: datetime | None = strawberry.field(
        description="When retention deleted the events, checkpoints and node states of this run. From then on, "
        "`nodeStates`, `currentNodes`, `edgeStates`, `logs` and `checkpoints` are empty, `events` and `runUpdates` have one "
        "HistoryExpired, and the subscription `nodeStates` fails with the code HISTORY_EXPIRED."
    )

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Run)

    @strawberry.field(graphql_type=ProjectType)
    @staticmethod
    async def project(run: ParentRun, info: Info) -> Project | None:
        return await info.context.loaders.project.load(run.project_id)

    @strawberry.field(graphql_type=WorkflowType | None)
    @staticmethod
    async def workflow(run: ParentRun, info: Info) -> Workflow | None:
        return await info.context.loaders.workflow.load(run.workflow_id) if run.workflow_id else None

    @strawberry.field(graphql_type=WorkflowVersion)
    @staticmethod
    async def version(run: ParentRun, info: Info) -> Version | None:
        return await info.context.loaders.version.load(run.version_id)

    @strawberry.field(
        graphql_type=QueueReasonType | None,
        description="Why the run has not started yet. Null for a run that is not QUEUED.",
    )
    @staticmethod
    async def queue_reason(run: ParentRun, info: Info) -> QueueReason | None:
        return await queue_reasons.queue_reason(info.context, run)

    @strawberry.field(graphql_type=list[NodeStateType])
    @staticmethod
    async def current_nodes(run: ParentRun, info: Info) -> list[NodeView]:
        return await queries.current_node_views(info.context, run.id)

    @strawberry.field(
        description="Estimated from the median duration of earlier runs of the version. Null without "
        "such runs, and for a run that is neither QUEUED nor RUNNING."
    )
    @staticmethod
    async def estimated_completion_at(run: ParentRun, info: Info) -> datetime | None:
        return await queries.estimated_completion(info.context, run)

    @strawberry.field(graphql_type=list[NodeStateType])
    @staticmethod
    async def node_states(run: ParentRun, info: Info) -> list[NodeView]:
        return await queries.node_views(info.context, run.id)

    @strawberry.field(graphql_type=list[EdgeStateType], description="Every edge, in the order of the spec.")
    @staticmethod
    async def edge_states(run: ParentRun, info: Info) -> list[EdgeState]:
        return await queries.edge_states_of_run(info.context, run)

    @strawberry.field(graphql_type=NodeStateType | None)
    @staticmethod
    async def node_state(run: ParentRun, info: Info, node_id: strawberry.ID) -> NodeView | None:
        return await queries.node_view(info.context, run.id, node_id)

    @strawberry.field(
        graphql_type=RunEventPage,
        description="Ordered by number. `first` or `last` is at most 1000; without both, the first 100.",
    )
    @staticmethod
    async def events(
        run: ParentRun,
        info: Info,
        first: int | None = None,
        after: int | None = None,
        last: int | None = None,
        before: int | None = None,
        types: list[EventType] | None = None,
        node_id: strawberry.ID | None = None,
    ) -> EventViews:
        window = Window(first, after, last, before)
        query = EventsQuery(run.id, window, _sorted_types(types), node_id)
        return await event_pages.events(info.context, run, query)

    @strawberry.field(graphql_type=LogPage, description="Log events, paged like `events`.")
    @staticmethod
    async def logs(
        run: ParentRun,
        info: Info,
        first: int | None = None,
        after: int | None = None,
        last: int | None = None,
        before: int | None = None,
        node_id: strawberry.ID | None = None,
        min_level: LogLevel | None = None,
        search: str | None = None,
    ) -> EventViews:
        window = Window(first, after, last, before)
        query = EventsQuery(run.id, window, (EventType.LOG,), node_id, min_level, search or None)
        return await event_pages.logs(info.context, run, query)

    @strawberry.field(
        graphql_type=Connection[RunEvent],
        description="The events as a connection, lowest number first. A cursor stays valid while the run exists.",
    )
    @staticmethod
    async def events_connection(
        run: ParentRun,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        types: list[EventType] | None = None,
        node_id: strawberry.ID | None = None,
    ) -> Page[EventView]:
        query = EventsQuery(run.id, types=_sorted_types(types), node_id=node_id)
        return await event_pages.event_connection(info.context, run, PageArguments(first, after, last, before), query)

    @strawberry.field(
        graphql_type=Connection[LogRecordedType],
        description="The log events as a connection, lowest number first; see `eventsConnection`.",
    )
    @staticmethod
    async def logs_connection(
        run: ParentRun,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        node_id: strawberry.ID | None = None,
        min_level: LogLevel | None = None,
        search: str | None = None,
    ) -> Page[EventView]:
        query = EventsQuery(run.id, types=(EventType.LOG,), node_id=node_id, min_level=min_level, search=search or None)
        return await event_pages.log_connection(info.context, run, PageArguments(first, after, last, before), query)

    @strawberry.field(graphql_type=Connection[CheckpointType])
    @staticmethod
    async def checkpoints(
        run: ParentRun,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[Checkpoint]:
        return await queries.checkpoint_page(info.context, run.id, PageArguments(first, after, last, before))

    @strawberry.field(graphql_type=CheckpointType | None)
    @staticmethod
    async def checkpoint(run: ParentRun, info: Info, id: strawberry.ID) -> Checkpoint | None:
        return await queries.checkpoint(info.context, id, run.id)

    @strawberry.field(description="Opaque name of the current dispatch to the workers, as in their logs.")
    @staticmethod
    def task_id(run: ParentRun) -> str | None:
        return f"{run.id}/{run.dispatch_number}" if run.dispatch_number else None

    @strawberry.field(description="Actions that would be accepted now.")
    @staticmethod
    async def available_actions(run: ParentRun, info: Info) -> list[RunAction]:
        return await queries.available_actions(info.context, run)

    @strawberry.field(graphql_type=WaitType | None, description="The first of `waits`.")
    @staticmethod
    async def waiting_for(run: ParentRun, info: Info) -> Wait | None:
        return next(iter(await queries.waits_of(info.context, run)), None)

    @strawberry.field(
        graphql_type=list[WaitType],
        description="Everything that the run waits for now; parallel branches wait independently.",
    )
    @staticmethod
    async def waits(run: ParentRun, info: Info) -> list[Wait]:
        return await queries.waits_of(info.context, run)

    @strawberry.field(
        graphql_type=Connection[SignalType],
        description="Events that were sent to the run or ended one of its waits, and refused ones, newest first.",
    )
    @staticmethod
    async def signals(
        run: ParentRun,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[SentSignal]:
        return await signal_page(info.context, run.id, PageArguments(first, after, last, before))

    @strawberry.field(graphql_type=Annotated["RunType", strawberry.lazy("schema.runs.run")] | None)
    @staticmethod
    async def parent(run: ParentRun, info: Info) -> Run | None:
        return await info.context.loaders.run.load(run.parent_id) if run.parent_id else None

    @strawberry.field(
        graphql_type=Annotated["TriggerType", strawberry.lazy("schema.triggers.trigger")] | None,
        description="The trigger that started the run. Null for other runs, and if the trigger is deleted.",
    )
    @staticmethod
    async def trigger(run: ParentRun, info: Info) -> Trigger | None:
        return await info.context.loaders.trigger.load(run.trigger_id) if run.trigger_id else None

    @strawberry.field(
        graphql_type=Annotated["TriggerEventType", strawberry.lazy("schema.triggers.trigger")] | None,
        description="The firing that started the run.",
    )
    @staticmethod
    async def trigger_event(run: ParentRun, info: Info) -> TriggerEvent | None:
        return await info.context.loaders.trigger_event_of_run.load(run.id) if run.trigger_id else None

    @strawberry.field(graphql_type=Annotated["RunType", strawberry.lazy("schema.runs.run")] | None)
    @staticmethod
    async def retry_of(run: ParentRun, info: Info) -> Run | None:
        return await info.context.loaders.run.load(run.retry_of_id) if run.retry_of_id else None

    @strawberry.field(graphql_type=CheckpointType | None)
    @staticmethod
    async def forked_from(run: ParentRun, info: Info) -> Checkpoint | None:
        return await info.context.loaders.checkpoint.load(run.forked_from_id) if run.forked_from_id else None

    @strawberry.field(
        graphql_type=CountedConnection[Annotated["RunType", strawberry.lazy("schema.runs.run")]],
        description="Retries, forks and subworkflow runs that were created from this run.",
    )
    @staticmethod
    async def derived_runs(
        run: ParentRun,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        source: list[RunSource] | None = None,
    ) -> Page[Run]:
        return await queries.derived_page(
            info.context, run.id, PageArguments(first, after, last, before), source=source
        )

    @strawberry.field(description="Time from start to finish, or until now if the run is not finished.")
    @staticmethod
    def duration_ms(run: ParentRun) -> float | None:
        return queries.duration_ms(run.started_at, run.finished_at)
