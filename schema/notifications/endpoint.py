"""Endpoints and deliveries as clients see them: the name of the secret, never its value."""

from datetime import datetime
from typing import Annotated

import strawberry

from engine.states import DeliveryStatus, EndpointEvent
from persistence.db.pagination import Page, PageArguments
from persistence.notifications.delivery import Delivery
from persistence.notifications.endpoint import NotificationEndpoint
from persistence.workflows.projects import Project
from persistence.workflows.workflows import Workflow
from resolvers.notifications import endpoints
from schema import enums as enums
from schema.info import Info
from schema.relay import Connection, Node
from schema.scalars import JSON
from schema.workflows.project import ProjectType
from schema.workflows.workflow import WorkflowType

ParentEndpoint = strawberry.Parent[NotificationEndpoint]


@strawberry.type(
    name="Delivery",
    description="A message to an endpoint. It is stored with the change that it reports, and sent at least once. "
    "docs/notifications.md draws the statuses.",
)
class DeliveryType(Node):
    event: EndpointEvent
    subject_id: strawberry.ID = strawberry.field(description="The run, the trigger or the alert rule of the event.")
    payload: JSON = strawberry.field(description="The body of the message.")
    status: DeliveryStatus
    attempts: int = strawberry.field(description="How often it was sent, or tried to be sent.")
    response_status: int | None = strawberry.field(description="The HTTP status of the last response. Null: none came.")
    error: str | None = strawberry.field(description="Why the last attempt failed. Null after a success.")
    next_attempt_at: datetime | None = strawberry.field(
        description="When it is sent next. During an attempt: when another worker may try again. Null: never."
    )
    delivered_at: datetime | None = strawberry.field(description="When the endpoint accepted it.")
    created_at: datetime

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Delivery)

    @strawberry.field(graphql_type=Annotated["EndpointType", strawberry.lazy("schema.notifications.endpoint")])
    @staticmethod
    async def endpoint(delivery: strawberry.Parent[Delivery], info: Info) -> NotificationEndpoint | None:
        return await info.context.loaders.endpoint.load(delivery.endpoint_id)


@strawberry.type(
    name="Endpoint",
    description="An address of another system to which messages about runs and triggers are posted, signed after "
    "Standard Webhooks.",
)
class EndpointType(Node):
    description: str
    events: list[EndpointEvent] = strawberry.field(description="The events that it receives.")
    tags: list[str] = strawberry.field(description="Only runs that have all of these tags. Empty: all runs.")
    secret: str = strawberry.field(description="The name of the secret with the key that signs the messages.")
    enabled: bool = strawberry.field(
        description="A disabled endpoint gets no new deliveries. Those that it has wait for a day."
    )
    failing_since: datetime | None = strawberry.field(
        description="Since when all attempts have failed. After TREADLE_ENDPOINT_MAX_FAILING_DAYS it is disabled."
    )
    last_error: str | None = strawberry.field(description="Why the last attempt failed. Null after a success.")
    last_delivered_at: datetime | None = strawberry.field(description="When it accepted a message, to the second.")
    created_by: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, NotificationEndpoint)

    @strawberry.field(description="Editors see it whole, others without its path, which may be a credential.")
    @staticmethod
    def url(endpoint: ParentEndpoint, info: Info) -> str:
        return endpoints.address_of(info.context, endpoint)

    @strawberry.field(graphql_type=ProjectType)
    @staticmethod
    async def project(endpoint: ParentEndpoint, info: Info) -> Project | None:
        return await info.context.loaders.project.load(endpoint.project_id)

    @strawberry.field(
        graphql_type=list[WorkflowType],
        description="Only runs and triggers of these workflows. Empty: those of all workflows, without child runs.",
    )
    @staticmethod
    async def workflows(endpoint: ParentEndpoint, info: Info) -> list[Workflow]:
        found = await info.context.loaders.workflow.load_many(endpoint.workflow_ids)
        return [workflow for workflow in found if workflow is not None]

    @strawberry.field(graphql_type=Connection[DeliveryType], description="Its deliveries, newest first.")
    @staticmethod
    async def deliveries(
        endpoint: ParentEndpoint,
        info: Info,
        status: DeliveryStatus | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[Delivery]:
        arguments = PageArguments(first, after, last, before)
        return await endpoints.delivery_page(info.context, endpoint.id, status, arguments)


@strawberry.type
class EndpointQueries:
    @strawberry.field(
        graphql_type=list[EndpointType],
        description="The endpoints of a project, newest first. Without `projectId`: of all your projects.",
    )
    @staticmethod
    async def endpoints(info: Info, project_id: strawberry.ID | None = None) -> list[NotificationEndpoint]:
        return await endpoints.endpoints_of(info.context, project_id)

    @strawberry.field(graphql_type=EndpointType | None)
    @staticmethod
    async def endpoint(info: Info, id: strawberry.ID) -> NotificationEndpoint | None:
        return await info.context.loaders.endpoint.load(id)
