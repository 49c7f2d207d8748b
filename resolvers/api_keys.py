"""API keys of projects: their admins create, list and revoke them. A token is returned once."""

from datetime import UTC, datetime

from persistence.caller import Role
from persistence.events.publisher import announce
from persistence.problems import invalid
from persistence.workflows import api_keys
from persistence.workflows.api_keys import REVOKED_CHANNEL, ApiKey
from resolvers.authorise import project_for, require
from resolvers.checks import checked_name
from resolvers.context import Context
from resolvers.idempotent import shielded
from resolvers.permissions import MUTATIONS, QUERIES


async def api_keys_of(context: Context, project_id: str | None) -> list[ApiKey]:
    """List the keys of a project, newest first; None for all projects that the caller administers.

    Raises NotFound, Forbidden.
    """
    if project_id is not None:
        require(context.caller, QUERIES["apiKeys"], project_id)
    chosen = context.caller.projects if project_id is None else [project_id]
    async with context.read() as connection:
        return await api_keys.of_projects(connection, context.caller, chosen)


async def create_api_key(
    context: Context, project_id: str | None, name: str, role: Role, expires_at: datetime | None
) -> tuple[ApiKey, str]:
    """Create a key and return it with its token.

    Raises:
        NotFound, Forbidden: The caller has no role in the project, or a lower one than admin.
        Invalid: The name is empty or too long, or the expiry is in the past.
        Limit: The project has too many keys.
    """
    async with context.database.begin() as connection:
        chosen = await project_for(connection, context.caller, MUTATIONS["createApiKey"], project_id)
        named = checked_name("input.name", name)
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise invalid("input.expiresAt", "PAST", "must be in the future")
        return await api_keys.create(connection, context.caller, chosen, named, role, expires_at)


async def revoke_api_key(context: Context, key_id: str) -> ApiKey:
    """Revoke a key. Requests with it are refused at once, and its sockets close within 2 s.

    Raises:
        NotFound: The key does not exist, or the caller is not an admin of its project. Only admins see
            keys.
    """
    return await shielded(_revoke(context, key_id))


async def _revoke(context: Context, key_id: str) -> ApiKey:
    async with context.database.begin() as connection:
        revoked = await api_keys.revoke(connection, context.caller, key_id)
    await announce(context.redis, REVOKED_CHANNEL, revoked.id)
    return revoked
