"""Workflows as clients see them."""

from datetime import datetime
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated

import strawberry

from engine.states import VersionStatus
from persistence.db.pagination import Page, PageArguments
from persistence.runs.run import Run
from persistence.runs.run_filter import RunFilter
from persistence.runs.run_order import NEWEST_FIRST, RunOrder
from persistence.statistics.reading import Bucket
from persistence.triggers.trigger import Trigger
from persistence.workflows.drafts import Draft
from persistence.workflows.exposures import Exposure
from persistence.workflows.projects import Project
from persistence.workflows.versions import Version
from persistence.workflows.workflows import Workflow
from resolvers.triggers.queries import triggers_of_workflow
from resolvers.workflows import versions as version_resolvers
from resolvers.workflows.exposures import ExposureArguments
from resolvers.workflows.statistics import Statistics, statistics
from schema.info import Info
from schema.payload import KeyedInput, Payload
from schema.relay import Connection, CountedConnection, Node
from schema.scalars import JSON
from schema.workflows.draft import WorkflowDraft
from schema.workflows.exposure import Expose, ExposeInput
from schema.workflows.project import ProjectType
from schema.workflows.statistics import RunStats
from schema.workflows.version import WorkflowVersion

if TYPE_CHECKING:
    from schema.runs.inputs import RunFilterInput, RunOrderInput
    from schema.runs.run import RunType
    from schema.triggers.trigger import TriggerType

ParentWorkflow = strawberry.Parent[Workflow]


@strawberry.type(name="Workflow")
class WorkflowType(Node):
    name: str
    description: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Workflow)

    @strawberry.field(graphql_type=ProjectType)
    @staticmethod
    async def project(workflow: ParentWorkflow, info: Info) -> Project | None:
        return await info.context.loaders.project.load(workflow.project_id)

    @strawberry.field(graphql_type=WorkflowDraft)
    @staticmethod
    async def draft(workflow: ParentWorkflow, info: Info) -> Draft | None:
        return await info.context.loaders.draft.load(workflow.id)

    @strawberry.field(
        graphql_type=Expose | None, description="How other systems and agents run it; null if they do not."
    )
    @staticmethod
    async def expose(workflow: ParentWorkflow, info: Info) -> Exposure | None:
        return await info.context.loaders.exposure.load(workflow.id)

    @strawberry.field(graphql_type=WorkflowVersion | None)
    @staticmethod
    async def published_version(workflow: ParentWorkflow, info: Info) -> Version | None:
        return await info.context.loaders.published.load(workflow.id)

    @strawberry.field(graphql_type=WorkflowVersion | None)
    @staticmethod
    async def version(workflow: ParentWorkflow, info: Info, number: int) -> Version | None:
        return await version_resolvers.version_by_number(info.context, workflow.id, number)

    @strawberry.field(graphql_type=Connection[WorkflowVersion])
    @staticmethod
    async def versions(
        workflow: ParentWorkflow,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        status: VersionStatus | None = None,
    ) -> Page[Version]:
        return await version_resolvers.version_page(
            info.context, workflow.id, PageArguments(first, after, last, before), status=status
        )

    @strawberry.field(
        graphql_type=CountedConnection[Annotated["RunType", strawberry.lazy("schema.runs.run")]],
        description="Newest first, unless `orderBy` has another order.",
    )
    @staticmethod
    async def runs(
        workflow: ParentWorkflow,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: Annotated["RunFilterInput", strawberry.lazy("schema.runs.inputs")] | None = None,
        order_by: Annotated["RunOrderInput", strawberry.lazy("schema.runs.inputs")] | None = None,
    ) -> Page[Run]:
        values = {} if filter is None else vars(filter)
        tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        where = RunFilter(**{**values, **tuples, "workflow_id": None})
        order = NEWEST_FIRST if order_by is None else RunOrder(order_by.field, order_by.direction)
        return await version_resolvers.run_page_of(
            info.context,
            "workflow_id",
            workflow.id,
            PageArguments(first, after, last, before),
            where=where,
            order=order,
        )

    @strawberry.field(graphql_type=RunStats | None)
    @staticmethod
    async def stats(
        workflow: ParentWorkflow,
        info: Info,
        since: datetime | None = None,
        until: datetime | None = None,
        bucket: Bucket | None = Bucket.DAY,
    ) -> Statistics:
        return await statistics(info.context, workflow.project_id, workflow.id, since, until, bucket or Bucket.DAY)

    @strawberry.field(
        graphql_type=Connection[Annotated["TriggerType", strawberry.lazy("schema.triggers.trigger")]],
        description="Newest first.",
    )
    @staticmethod
    async def triggers(
        workflow: ParentWorkflow,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[Trigger]:
        return await triggers_of_workflow(info.context, workflow.id, PageArguments(first, after, last, before))


@strawberry.input
class CreateWorkflowInput(KeyedInput):
    project_id: strawberry.ID | None = None
    name: str
    description: str | None = ""
    spec: JSON | None = strawberry.field(default=None, description="Default: a start node and an end node.")
    template: str | None = None


@strawberry.input
class UpdateWorkflowInput(KeyedInput):
    """An omitted field stays unchanged; null clears the description and the exposure."""

    id: strawberry.ID
    name: str | None = strawberry.UNSET
    description: str | None = strawberry.UNSET
    expose: ExposeInput | None = strawberry.field(
        default=strawberry.UNSET, description="How other systems and agents run it; null: they do not."
    )

    @property
    def changes(self) -> dict[str, str | None]:
        """The fields that the client has sent, by name."""
        fields = {"name": self.name, "description": self.description}
        return {name: value for name, value in fields.items() if value is not strawberry.UNSET}

    @property
    def exposure(self) -> ExposureArguments | EllipsisType | None:
        """The exposure that the client has sent; an ellipsis for none."""
        if self.expose is strawberry.UNSET:
            return ...
        return None if self.expose is None else self.expose.arguments


@strawberry.input
class DuplicateWorkflowInput(KeyedInput):
    id: strawberry.ID
    name: str | None = None


@strawberry.input
class DeleteWorkflowInput(KeyedInput):
    id: strawberry.ID
    cancel_runs: bool | None = False


@strawberry.type
class WorkflowPayload(Payload):
    workflow: WorkflowType | None = None


@strawberry.type
class DeletePayload(Payload):
    deleted_id: strawberry.ID | None = None
