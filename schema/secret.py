"""Secrets as clients see them: everything but their values."""

from datetime import datetime

import strawberry

from persistence.secrets.store import Secret as SecretRow
from persistence.workflows.projects import Project as ProjectRow
from resolvers import secrets
from schema.info import Info
from schema.payload import Payload, done, mutation
from schema.workflows.project import Project
from schema.workflows.workflow import DeletePayload


@strawberry.type(description="Values go in and never come out: no field returns them.")
class Secret:
    id: strawberry.ID
    name: str = strawberry.field(description="Templates of nodes ask for it as `{{ secrets.name }}`.")
    created_at: datetime
    updated_at: datetime
    updated_by: str
    last_used_at: datetime | None = strawberry.field(description="By a node, to the minute; null: never.")

    @strawberry.field(graphql_type=Project)
    @staticmethod
    async def project(secret: strawberry.Parent[SecretRow], info: Info) -> ProjectRow | None:
        return await info.context.loaders.project.load(secret.project_id)


@strawberry.input
class SetSecretInput:
    project_id: strawberry.ID | None = None
    name: str = strawberry.field(description="Letters, digits and `_`, not beginning with a digit; at most 100.")
    value: str = strawberry.field(description="8 characters to 8 KiB.")


@strawberry.input
class DeleteSecretInput:
    project_id: strawberry.ID | None = None
    name: str


@strawberry.type
class SecretPayload(Payload):
    secret: Secret | None = None


@strawberry.type
class SecretQueries:
    @strawberry.field(graphql_type=list[Secret], description="By name, without their values.")
    @staticmethod
    async def secrets(info: Info, project_id: strawberry.ID | None = None) -> list[SecretRow]:
        return await secrets.secrets_of(info.context, project_id)


@strawberry.type
class SecretMutations:
    @mutation
    @staticmethod
    async def set_secret(info: Info, input: SetSecretInput) -> SecretPayload:
        """Makes a secret, or gives it another value. Runs use the new one from their next node on."""
        return done(
            SecretPayload, secret=await secrets.set_secret(info.context, input.project_id, input.name, input.value)
        )

    @mutation
    @staticmethod
    async def delete_secret(info: Info, input: DeleteSecretInput) -> DeletePayload:
        """Nodes that ask for it fail from then on with the code SECRET."""
        return done(DeletePayload, deleted_id=await secrets.delete_secret(info.context, input.project_id, input.name))
