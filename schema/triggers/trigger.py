"""Triggers and their events as clients see them."""

from datetime import datetime
from typing import Annotated

import strawberry

from engine.states import TriggerEventStatus
from engine.triggers.webhook import SignatureVerdict
from engine.values.storable import clean_text
from persistence.db.pagination import Page, PageArguments
from persistence.runs.run import Run
from persistence.triggers.events import TriggerEvent
from persistence.triggers.trigger import Trigger
from persistence.triggers.webhooks import WebhookDelivery
from persistence.workflows.projects import Project
from persistence.workflows.workflows import Workflow
from resolvers.triggers import queries, webhooks
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


@strawberry.type(name="WebhookDelivery", description="A request to a webhook, stored before it was parsed.")
class WebhookDeliveryType(Node):
    method: str
    headers: JSON = strawberry.field(description="By name in lower case, without credentials.")
    query: JSON
    address: str | None = strawberry.field(description="The IP address of the client.")
    verdict: SignatureVerdict = strawberry.field(description="The result of the check of the signature.")
    message_id: str | None = strawberry.field(description="The id of the message, if its kind of signature has one.")
    is_test: bool = strawberry.field(description="Whether it came to the test address.")
    received_at: datetime

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, WebhookDelivery)

    @strawberry.field(description="The body as text. Bytes that are no UTF-8 are replaced.")
    @staticmethod
    def body(delivery: strawberry.Parent[WebhookDelivery]) -> str:
        return clean_text(delivery.body.decode(errors="replace"))

    @strawberry.field(graphql_type=TriggerEventType | None, description="The firing that followed.")
    @staticmethod
    async def event(delivery: strawberry.Parent[WebhookDelivery], info: Info) -> TriggerEvent | None:
        return await info.context.loaders.trigger_event.load(delivery.event_id) if delivery.event_id else None


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

    @strawberry.field(
        description="Of a webhook: the address that messages are posted to. Editors see it: it is a credential."
    )
    @staticmethod
    def webhook_url(trigger: ParentTrigger, info: Info) -> str | None:
        return webhooks.address_of(info.context, trigger, trigger.webhook_token)

    @strawberry.field(description="Of a webhook: the address that runs the draft instead of the published version.")
    @staticmethod
    def test_webhook_url(trigger: ParentTrigger, info: Info) -> str | None:
        return webhooks.address_of(info.context, trigger, trigger.test_token)

    @strawberry.field(
        graphql_type=Connection[WebhookDeliveryType],
        description="Of a webhook: the requests that it has received, newest first, as they were before parsing.",
    )
    @staticmethod
    async def webhook_deliveries(
        trigger: ParentTrigger,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[WebhookDelivery]:
        return await webhooks.delivery_page(info.context, trigger.id, PageArguments(first, after, last, before))

    @strawberry.field(graphql_type=Connection[TriggerEventType], description="Its firings, newest first.")
    @staticmethod
    async def events(
        trigger: ParentTrigger,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[TriggerEvent]:
        return await queries.event_page(info.context, trigger.id, PageArguments(first, after, last, before))
