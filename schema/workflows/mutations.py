"""Root mutations of projects, workflows, drafts and versions."""

import strawberry

from resolvers import projects
from resolvers.workflows import versions, workflows
from schema.info import Info
from schema.payload import keyed_mutation, payload
from schema.workflows.draft import DraftPayload, SaveDraftInput
from schema.workflows.project import CreateProjectInput, ProjectPayload
from schema.workflows.version import (
    CreateVersionInput,
    RestoreVersionInput,
    UpdateVersionInput,
    UpdateVersionPayload,
    VersionInput,
    VersionPayload,
)
from schema.workflows.workflow import (
    CreateWorkflowInput,
    DeletePayload,
    DeleteWorkflowInput,
    DuplicateWorkflowInput,
    UpdateWorkflowInput,
    WorkflowPayload,
)


@strawberry.type
class WorkflowMutations:
    @keyed_mutation
    @staticmethod
    async def create_project(info: Info, input: CreateProjectInput) -> ProjectPayload:
        return payload(ProjectPayload, project=await projects.create_project(info.context, input.name))

    @keyed_mutation
    @staticmethod
    async def create_workflow(info: Info, input: CreateWorkflowInput) -> WorkflowPayload:
        created = await workflows.create_workflow(
            info.context,
            project_id=input.project_id,
            name=input.name,
            description=input.description,
            spec=input.spec,
            template=input.template,
        )
        return payload(WorkflowPayload, workflow=created)

    @keyed_mutation
    @staticmethod
    async def update_workflow(info: Info, input: UpdateWorkflowInput) -> WorkflowPayload:
        workflow = await workflows.update_workflow(info.context, input.id, input.changes, input.exposure)
        return payload(WorkflowPayload, workflow=workflow)

    @keyed_mutation
    @staticmethod
    async def duplicate_workflow(info: Info, input: DuplicateWorkflowInput) -> WorkflowPayload:
        return payload(WorkflowPayload, workflow=await workflows.duplicate_workflow(info.context, input.id, input.name))

    @keyed_mutation
    @staticmethod
    async def delete_workflow(info: Info, input: DeleteWorkflowInput) -> DeletePayload:
        """Deletes a workflow. Refused while runs are active, unless `cancelRuns` is true."""
        deleted = await workflows.delete_workflow(info.context, input.id, cancel_runs=bool(input.cancel_runs))
        return payload(DeletePayload, deleted_id=deleted)

    @keyed_mutation
    @staticmethod
    async def save_draft(info: Info, input: SaveDraftInput) -> DraftPayload:
        draft = await workflows.save_draft(info.context, input.workflow_id, input.spec, input.expected_revision)
        return payload(DraftPayload, draft=draft)

    @keyed_mutation
    @staticmethod
    async def create_version(info: Info, input: CreateVersionInput) -> VersionPayload:
        version, created = await versions.create_version(
            info.context, input.workflow_id, input.expected_revision, publish=bool(input.publish), texts=input.texts
        )
        return payload(VersionPayload, version=version, created=created)

    @keyed_mutation
    @staticmethod
    async def update_version(info: Info, input: UpdateVersionInput) -> UpdateVersionPayload:
        """Sets the name and the note of a version. What it runs never changes. Requires the role EDITOR."""
        version = await versions.update_version(info.context, input.version_id, input.changes)
        return payload(UpdateVersionPayload, version=version)

    @keyed_mutation
    @staticmethod
    async def publish_version(info: Info, input: VersionInput) -> VersionPayload:
        return payload(VersionPayload, version=await versions.publish_version(info.context, input.version_id))

    @keyed_mutation
    @staticmethod
    async def archive_version(info: Info, input: VersionInput) -> VersionPayload:
        return payload(VersionPayload, version=await versions.archive_version(info.context, input.version_id))

    @keyed_mutation
    @staticmethod
    async def restore_version(info: Info, input: RestoreVersionInput) -> DraftPayload:
        """Copies the spec of a version into the draft."""
        draft = await workflows.restore_version(info.context, input.version_id, input.expected_revision)
        return payload(DraftPayload, draft=draft)
