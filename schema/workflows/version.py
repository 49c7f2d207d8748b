"""Versions of workflows as clients see them, and the inputs and payload of their mutations."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from engine.states import VersionStatus
from persistence.db.pagination import Page, PageArguments
from persistence.runs.run import Run
from persistence.workflows.versions import Version
from persistence.workflows.workflows import Workflow
from resolvers.workflows import versions as version_resolvers
from schema import enums as enums
from schema.info import Info
from schema.payload import KeyedInput, Payload
from schema.relay import CountedConnection, Node
from schema.scalars import JSON

if TYPE_CHECKING:
    from schema.runs.run import RunType
    from schema.workflows.workflow import WorkflowType

ParentVersion = strawberry.Parent[Version]


@strawberry.type(
    description="An immutable snapshot of a spec. A workflow has one version "
    "for each content: createVersion with unchanged "
    "content returns the existing version. A run of a draft without a version gets one of its own, with the number 0, "
    "which is in no list."
)
class WorkflowVersion(Node):
    number: int
    spec: JSON
    spec_hash: str
    status: VersionStatus
    created_at: datetime
    created_by: str
    published_at: datetime | None
    name: str | None = strawberry.field(description="For people, at most 200 characters. Null if it has none.")
    note: str | None = strawberry.field(
        description="What is new in the version, for people; at most 10,000 characters. Null if it has none."
    )

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Version)

    @strawberry.field(graphql_type=Annotated["WorkflowType", strawberry.lazy("schema.workflows.workflow")] | None)
    @staticmethod
    async def workflow(version: ParentVersion, info: Info) -> Workflow | None:
        if version.workflow_id is None:
            return None
        return await info.context.loaders.workflow.load(version.workflow_id)

    @strawberry.field(graphql_type=JSON | None)
    @staticmethod
    def input_schema(version: ParentVersion) -> object:
        return input_schema_of(version.spec)

    @strawberry.field(
        graphql_type=CountedConnection[Annotated["RunType", strawberry.lazy("schema.runs.run")]],
        description="Newest first.",
    )
    @staticmethod
    async def runs(
        version: ParentVersion,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[Run]:
        arguments = PageArguments(first, after, last, before)
        return await version_resolvers.run_page_of(info.context, "version_id", version.id, arguments)


def input_schema_of(spec: Any) -> object:
    """Return the JSON Schema of run inputs, or None if the spec has none."""
    return spec.get("inputs") if isinstance(spec, dict) else None


@strawberry.input
class CreateVersionInput(KeyedInput):
    workflow_id: strawberry.ID
    expected_revision: int | None = strawberry.field(
        default=None, description="Refuse if the draft has another revision."
    )
    publish: bool | None = False
    name: str | None = strawberry.field(
        default=strawberry.UNSET, description="The name of the version, 1 to 200 characters. Default: none."
    )
    note: str | None = strawberry.field(
        default=strawberry.UNSET, description="What is new, at most 10,000 characters. Default: none."
    )

    @property
    def texts(self) -> dict[str, str | None]:
        """The texts that the client has sent, by name."""
        return _sent({"name": self.name, "note": self.note})


def _sent(fields: dict[str, str | None]) -> dict[str, str | None]:
    return {name: value for name, value in fields.items() if value is not strawberry.UNSET}


@strawberry.input
class UpdateVersionInput(KeyedInput):
    version_id: strawberry.ID
    name: str | None = strawberry.field(
        default=strawberry.UNSET, description="The new name, 1 to 200 characters; null clears it. Default: unchanged."
    )
    note: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The new note, at most 10,000 characters; null clears it. Default: unchanged.",
    )

    @property
    def changes(self) -> dict[str, str | None]:
        """The texts that the client has sent, by name."""
        return _sent({"name": self.name, "note": self.note})


@strawberry.type
class UpdateVersionPayload(Payload):
    version: WorkflowVersion | None = None


@strawberry.input
class VersionInput(KeyedInput):
    version_id: strawberry.ID


@strawberry.input
class RestoreVersionInput(KeyedInput):
    version_id: strawberry.ID
    expected_revision: int


@strawberry.type
class VersionPayload(Payload):
    version: WorkflowVersion | None = None
    created: bool | None = strawberry.field(
        default=None, description="False if a version with this content existed already."
    )
