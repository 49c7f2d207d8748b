"""Secrets as clients see them: names and times, never values."""

from datetime import datetime
from typing import Any

import strawberry

from persistence.secrets.store import Secret
from persistence.workflows.projects import Project
from resolvers import secrets
from schema.info import Info
from schema.payload import KeyedInput, Payload, keyed_mutation, payload
from schema.relay import Node
from schema.workflows.project import ProjectType
from schema.workflows.workflow import DeletePayload


@strawberry.type(
    name="Secret", description="A secret of a project. Its value can be set but never read: no field returns it."
)
class SecretType(Node):
    name: str = strawberry.field(description="Node templates use it as `{{ secrets.name }}`.")
    created_at: datetime
    updated_at: datetime
    updated_by: str
    last_used_at: datetime | None = strawberry.field(
        description="When a node last used it, to the minute. Null: never."
    )

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Secret)

    @strawberry.field(graphql_type=ProjectType)
    @staticmethod
    async def project(secret: strawberry.Parent[Secret], info: Info) -> Project | None:
        return await info.context.loaders.project.load(secret.project_id)


@strawberry.input
class SetSecretInput(KeyedInput):
    project_id: strawberry.ID | None = None
    name: str = strawberry.field(description="At most 100 letters, digits and `_`; the first is not a digit.")
    value: str = strawberry.field(description="At least 8 characters, at most 8 KiB.")

    async def idempotency_arguments(self) -> dict[str, Any]:
        """Return the arguments with a hash in place of the value, from which it cannot be guessed quickly."""
        salt = f"{self.project_id} {self.name} {self.idempotency_key}"
        return await super().idempotency_arguments() | {"value": await secrets.slow_hash(self.value, salt)}


@strawberry.input
class DeleteSecretInput(KeyedInput):
    project_id: strawberry.ID | None = None
    name: str


@strawberry.type
class SecretPayload(Payload):
    secret: SecretType | None = None


@strawberry.type
class SecretQueries:
    @strawberry.field(graphql_type=list[SecretType], description="Ordered by name, without values.")
    @staticmethod
    async def secrets(info: Info, project_id: strawberry.ID | None = None) -> list[Secret]:
        return await secrets.secrets_of(info.context, project_id)


@strawberry.type
class SecretMutations:
    @keyed_mutation
    @staticmethod
    async def set_secret(info: Info, input: SetSecretInput) -> SecretPayload:
        """Creates a secret or sets its value, which active runs use from their next node on."""
        return payload(
            SecretPayload, secret=await secrets.set_secret(info.context, input.project_id, input.name, input.value)
        )

    @keyed_mutation
    @staticmethod
    async def delete_secret(info: Info, input: DeleteSecretInput) -> DeletePayload:
        """Deletes a secret. Nodes that use it fail from then on with code SECRET."""
        return payload(
            DeletePayload, deleted_id=await secrets.delete_secret(info.context, input.project_id, input.name)
        )
