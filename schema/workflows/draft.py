"""The draft of a workflow as clients see it."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from engine.problems import FieldProblem
from persistence.workflows.drafts import Draft
from persistence.workflows.versions import Version
from persistence.workflows.workflows import Workflow
from resolvers.workflows import specs
from schema.info import Info
from schema.payload import KeyedInput, Payload
from schema.problem import FieldProblemType
from schema.relay import Node
from schema.scalars import JSON
from schema.workflows.version import WorkflowVersion, input_schema_of

if TYPE_CHECKING:
    from schema.workflows.workflow import WorkflowType

ParentDraft = strawberry.Parent[Draft]


@strawberry.type(
    description="The editable spec of a workflow. `revision` rises by one with each "
    "real change, and every save must name the current one."
)
class WorkflowDraft(Node):
    spec: JSON
    spec_hash: str
    revision: int
    updated_at: datetime
    updated_by: str

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Draft)

    @strawberry.field(graphql_type=Annotated["WorkflowType", strawberry.lazy("schema.workflows.workflow")])
    @staticmethod
    async def workflow(draft: ParentDraft, info: Info) -> Workflow | None:
        return await info.context.loaders.workflow.load(draft.workflow_id)

    @strawberry.field(graphql_type=JSON | None)
    @staticmethod
    def input_schema(draft: ParentDraft) -> object:
        return input_schema_of(draft.spec)

    @strawberry.field(graphql_type=list[FieldProblemType])
    @staticmethod
    async def problems(draft: ParentDraft, info: Info) -> list[FieldProblem]:
        return await specs.draft_problems(info.context, draft.spec)

    @strawberry.field(
        graphql_type=WorkflowVersion | None, description="The version with exactly this content, if one exists."
    )
    @staticmethod
    async def matches_version(draft: ParentDraft, info: Info) -> Version | None:
        return await info.context.loaders.by_content.load((draft.workflow_id, draft.spec_hash))


@strawberry.input
class SaveDraftInput(KeyedInput):
    workflow_id: strawberry.ID
    spec: JSON
    expected_revision: int = strawberry.field(description="The revision that this edit is based on.")


@strawberry.type
class DraftPayload(Payload):
    draft: WorkflowDraft | None = None
