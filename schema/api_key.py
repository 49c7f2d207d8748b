"""API keys as clients see them: never their tokens, except once, when they are created."""

from datetime import datetime

import strawberry

from persistence.caller import Role
from persistence.workflows.api_keys import ApiKey
from persistence.workflows.projects import Project
from resolvers import api_keys
from schema import enums as enums
from schema.info import Info
from schema.payload import KeyedInput, Payload, keyed_mutation, payload
from schema.relay import Node
from schema.workflows.project import ProjectType


@strawberry.type(
    name="ApiKey", description="A credential of a program, with one role in one project. Admins of the project see it."
)
class ApiKeyType(Node):
    name: str = strawberry.field(description="What the key is for. It need not be unique.")
    prefix: str = strawberry.field(description="The first characters of the token, to tell keys apart.")
    role: Role = strawberry.field(description="The role of the key in its project.")
    created_by: str = strawberry.field(description="The subject that created the key.")
    created_at: datetime = strawberry.field(description="When the key was created.")
    expires_at: datetime | None = strawberry.field(description="When the key ends. Null: never.")
    last_used_at: datetime | None = strawberry.field(
        description="When the key was last used to sign in, to the minute. Null: never."
    )
    revoked_at: datetime | None = strawberry.field(description="When the key was revoked. Null: it was not.")

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, ApiKey)

    @strawberry.field(graphql_type=ProjectType, description="The project that the key gives access to.")
    @staticmethod
    async def project(key: strawberry.Parent[ApiKey], info: Info) -> Project | None:
        return await info.context.loaders.project.load(key.project_id)


@strawberry.input
class CreateApiKeyInput(KeyedInput):
    project_id: strawberry.ID | None = strawberry.field(
        default=None, description="Default: your only project, or `default`."
    )
    name: str = strawberry.field(description="1 to 200 visible characters.")
    role: Role = strawberry.field(description="The role of the key in the project.")
    expires_at: datetime | None = strawberry.field(
        default=None, description="When the key ends; must be in the future. Default: never."
    )


@strawberry.input
class RevokeApiKeyInput(KeyedInput):
    id: strawberry.ID = strawberry.field(description="The id of the key (`key_…`), not its token.")


@strawberry.type
class CreateApiKeyPayload(Payload):
    api_key: ApiKeyType | None = strawberry.field(default=None, description="The new key.")
    token: str | None = strawberry.field(
        default=None,
        description="Send it as `Authorization: Bearer tk_…`. It is returned here only, and stored nowhere.",
    )


@strawberry.type
class RevokeApiKeyPayload(Payload):
    api_key: ApiKeyType | None = strawberry.field(default=None, description="The revoked key.")


@strawberry.type
class ApiKeyQueries:
    @strawberry.field(
        graphql_type=list[ApiKeyType],
        description="The API keys of a project, newest first, also revoked ones. Without `projectId`: of all projects that "
        "you are an admin of.",
    )
    @staticmethod
    async def api_keys(info: Info, project_id: strawberry.ID | None = None) -> list[ApiKey]:
        return await api_keys.api_keys_of(info.context, project_id)


@strawberry.type
class ApiKeyMutations:
    @keyed_mutation
    @staticmethod
    async def create_api_key(info: Info, input: CreateApiKeyInput) -> CreateApiKeyPayload:
        """Creates an API key with a role in a project. Requires the role ADMIN."""
        key, token = await api_keys.create_api_key(
            info.context, input.project_id, input.name, input.role, input.expires_at
        )
        return payload(CreateApiKeyPayload, api_key=key, token=token)

    @keyed_mutation
    @staticmethod
    async def revoke_api_key(info: Info, input: RevokeApiKeyInput) -> RevokeApiKeyPayload:
        """Revokes an API key for good: requests with it fail at once, and its sockets close within 2 s."""
        return payload(RevokeApiKeyPayload, api_key=await api_keys.revoke_api_key(info.context, input.id))
