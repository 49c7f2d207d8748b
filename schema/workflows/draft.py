"""The draft of a workflow as clients see it."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from engine.problems import FieldProblem as FieldProblemValue
from persistence.workflows.drafts import Draft
from persistence.workflows.versions import Version
from persistence.workflows.workflows import Workflow as WorkflowRow
from resolvers.workflows import specs
from schema.info import Info
from schema.payload import Payload
from schema.problem import FieldProblem
from schema.scalars import JSON
from schema.workflows.version import WorkflowVersion, input_schema_of

if TYPE_CHECKING:
    from schema.workflows.workflow import Workflow


@strawberry.type(
    description="The one editable spec. `revision` rises by one when the spec really changes, and guards every save."
)
class WorkflowDraft:
    id: strawberry.ID
    spec: JSON
    spec_hash: str
    revision: int
    updated_at: datetime
    updated_by: str

    @strawberry.field(graphql_type=Annotated["Workflow", strawberry.lazy("schema.workflows.workflow")])
    @staticmethod
    async def workflow(draft: strawberry.Parent[Draft], info: Info) -> WorkflowRow | None:
        return await info.context.loaders.workflow.load(draft.workflow_id)

    @strawberry.field(graphql_type=JSON | None)
    @staticmethod
    def input_schema(draft: strawberry.Parent[Draft]) -> object:
        return input_schema_of(draft.spec)

    @strawberry.field(graphql_type=list[FieldProblem])
    @staticmethod
    def problems(draft: strawberry.Parent[Draft], info: Info) -> list[FieldProblemValue]:
        return specs.draft_problems(info.context, draft.spec)

    @strawberry.field(
        graphql_type=WorkflowVersion | None, description="The version with this exact content, if there is one."
    )
    @staticmethod
    async def matches_version(draft: strawberry.Parent[Draft], info: Info) -> Version | None:
        return await info.context.loaders.by_content.load((draft.workflow_id, draft.spec_hash))


@strawberry.input
class SaveDraftInput:
    workflow_id: strawberry.ID
    spec: JSON
    expected_revision: int = strawberry.field(description="The revision this edit is based on.")


@strawberry.type
class DraftPayload(Payload):
    draft: WorkflowDraft | None = None
