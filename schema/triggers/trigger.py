"""Triggers and their events as clients see them."""

from datetime import datetime
from typing import Annotated

import strawberry

from engine.states import TriggerEventStatus
from persistence.db.pagination import Page
from persistence.runs.run import Run
from persistence.triggers.events import TriggerEvent
from persistence.triggers.trigger import Trigger
from persistence.workflows.projects import Project
from persistence.workflows.workflows import Workflow
from resolvers.triggers import queries
from schema import enums as enums
from schema.info import Info
from schema.relay import Connection, Node
from schema.runs.run import RunType
from schema.scalars import JSON
from schema.workflows.project import ProjectType
from schema.workflows.workflow import WorkflowType

ParentTrigger = strawberry.Parent[Trigger]
ParentEvent = strawberry.Parent[TriggerEvent]


@strawberry.type(name="TriggerEvent", description="One firing of a trigger. docs/triggers.md draws the statuses.")
class TriggerEventType(Node):
    dedupe_key: str = strawberry.field(
        description="A trigger starts at most one run for each key. Of a schedule it is the planned time."
    )
    payload: JSON = strawberry.field(description="The `event` that the templates of `inputs` see.")
    status: TriggerEventStatus
    error: str | None = strawberry.field(description="Why no run was started.")
    at: datetime

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, TriggerEvent)

    @strawberry.field(graphql_type=Annotated["TriggerType", strawberry.lazy("schema.triggers.trigger")])
    @staticmethod
    async def trigger(event: ParentEvent, info: Info) -> Trigger | None:
        return await info.context.loaders.trigger.load(event.trigger_id)

    @strawberry.field(
        graphql_type=RunType | None, description="The run that it started. Of a DUPLICATE: the run of the first firing."
    )
    @staticmethod
    async def run(event: ParentEvent, info: Info) -> Run | None:
        return await info.context.loaders.run.load(event.run_id) if event.run_id else None


@strawberry.type(
    name="Trigger",
    description="Starts runs of a workflow without a caller. It runs the version that is published when it fires.",
)
class TriggerType(Node):
    kind: str = strawberry.field(description="One of `triggerKinds`.")
    name: str
    config: JSON = strawberry.field(description="Matches the `configSchema` of its kind.")
    inputs: JSON = strawberry.field(
        description="Maps the event to the inputs of the run: templates over `event`. `{{ event }}` is the event itself."
    )
    enabled: bool
    created_by: str
    next_fire_at: datetime | None = strawberry.field(
        description="When it fires next. Null if it is disabled or does not fire by the clock."
    )
    last_fired_at: datetime | None
    last_error: str | None = strawberry.field(description="Why its last firing started no run. Null after a success.")
    failures: int = strawberry.field(
        description="Failures in a row. At TREADLE_TRIGGER_MAX_FAILURES the trigger is disabled; enabling it clears them."
    )
    created_at: datetime
    updated_at: datetime

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Trigger)

    @strawberry.field(graphql_type=ProjectType)
    @staticmethod
    async def project(trigger: ParentTrigger, info: Info) -> Project | None:
        return await info.context.loaders.project.load(trigger.project_id)

    @strawberry.field(graphql_type=WorkflowType)
    @staticmethod
    async def workflow(trigger: ParentTrigger, info: Info) -> Workflow | None:
        return await info.context.loaders.workflow.load(trigger.workflow_id)

    @strawberry.field(
        graphql_type=list[datetime],
        description="The next planned times of a trigger that fires by the clock, without jitter; at most 100.",
    )
    @staticmethod
    def next_times(trigger: ParentTrigger, first: int | None = 10) -> list[datetime]:
        return queries.next_times(trigger, first)

    @strawberry.field(graphql_type=Connection[TriggerEventType], description="Its firings, newest first.")
    @staticmethod
    async def events(
        trigger: ParentTrigger, info: Info, first: int | None = 25, after: str | None = None
    ) -> Page[TriggerEvent]:
        return await queries.event_page(info.context, trigger.id, first=first, after=after)
