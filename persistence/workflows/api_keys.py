"""API keys: credentials of programs, each with one role in one project.

Only a SHA-256 hash of a key is stored. A key has 256 random bits, so nothing can be guessed from its
hash, and a slow hash would add nothing. A revocation is committed before it is published; servers poll
as well, so a lost message delays it by POLL_S seconds at most.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

import asyncpg
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.audit_log import record
from persistence.caller import Caller, Role
from persistence.db.ids import Prefix, new_id
from persistence.db.tables import api_keys
from persistence.problems import Limit, NotFound

TOKEN_PREFIX = "tk_"
SHOWN = 8
"""Characters of a key that are stored and shown, besides TOKEN_PREFIX."""
MAX_KEYS = 1000
"""Most keys of one project that are not revoked."""
REVOKED_CHANNEL = "api_keys:revoked"
"""The Redis channel with the ids of revoked keys, and of browser sessions that have ended."""
_PUBLIC = [column for column in api_keys.c if column.name != "hash"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its hash. `prefix` is its begin, to tell keys apart."""

    id: str
    project_id: str
    name: str
    prefix: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


def _key_of(row: object) -> ApiKey:
    values = dict(row)  # type: ignore[call-overload]
    return ApiKey(**{**values, "role": Role(values["role"])})


async def create(
    connection: AsyncConnection, caller: Caller, project_id: str, name: str, role: Role, expires_at: datetime | None
) -> tuple[ApiKey, str]:
    """Create a key and return it with its token, which is stored nowhere.

    The caller has checked role, name and expiry. Raises Limit.
    """
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"api_keys:{project_id}"))))
    active = select(func.count()).where(api_keys.c.project_id == project_id, api_keys.c.revoked_at.is_(None))
    if (await connection.scalar(active) or 0) >= MAX_KEYS:
        raise Limit(f"The project has {MAX_KEYS:,} API keys, which is the limit. Revoke one first.")
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    values = {
        "id": new_id(Prefix.API_KEY),
        "project_id": project_id,
        "name": name,
        "prefix": token[: len(TOKEN_PREFIX) + SHOWN],
        "hash": _hash(token),
        "role": role.value,
        "created_by": caller.subject,
        "expires_at": expires_at,
    }
    row = await connection.execute(insert(api_keys).values(values).returning(*_PUBLIC))
    key = _key_of(row.mappings().one())
    await record(connection, caller, "createApiKey", project_id, key.id, after=_settings(key))
    return key, token


def _settings(key: ApiKey) -> dict[str, object]:
    """Return what the audit log shows of a key."""
    return {"name": key.name, "role": key.role, "expiresAt": key.expires_at, "revokedAt": key.revoked_at}


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, ApiKey]:
    """Read the keys of projects in which the caller is an admin, by id."""
    rows = await connection.execute(
        select(*_PUBLIC).where(api_keys.c.id.in_(ids), api_keys.c.project_id.in_(_administered(caller)))
    )
    return {row["id"]: _key_of(row) for row in rows.mappings()}


async def of_projects(connection: AsyncConnection, caller: Caller, project_ids: Collection[str]) -> list[ApiKey]:
    """List the keys of those projects in which the caller is an admin, newest first."""
    visible = [id for id in project_ids if id in _administered(caller)]
    rows = await connection.execute(
        select(*_PUBLIC).where(api_keys.c.project_id.in_(visible)).order_by(api_keys.c.id.desc())
    )
    return [_key_of(row) for row in rows.mappings()]


async def revoke(connection: AsyncConnection, caller: Caller, key_id: str) -> ApiKey:
    """Revoke a key for good. A repeat changes nothing. Raises NotFound."""
    own = api_keys.c.id == key_id, api_keys.c.project_id.in_(_administered(caller))
    change = update(api_keys).where(*own, api_keys.c.revoked_at.is_(None)).values(revoked_at=func.now())
    row = (await connection.execute(change.returning(*_PUBLIC))).mappings().one_or_none()
    if row is None:  # It is revoked already, or hidden.
        row = (await connection.execute(select(*_PUBLIC).where(*own))).mappings().one_or_none()
        if row is None:
            raise NotFound(key_id)
        return _key_of(row)
    key = _key_of(row)
    before, after = _settings(replace(key, revoked_at=None)), _settings(key)
    await record(connection, caller, "revokeApiKey", key.project_id, key_id, before=before, after=after)
    return key


def _administered(caller: Caller) -> list[str]:
    return [project_id for project_id in caller.projects if caller.may(Role.ADMIN, project_id)]


_FIND = """
SELECT id, project_id, role, expires_at, expires_at <= now() AS is_expired, revoked_at IS NOT NULL AS is_revoked,
  coalesce(last_used_at < now() - interval '1 minute', true) AS is_use_due
FROM api_keys WHERE hash = $1
"""
_USE = """
UPDATE api_keys SET last_used_at = now()
WHERE id = $1 AND coalesce(last_used_at < now() - interval '1 minute', true)
"""
_ENDED = "SELECT id FROM api_keys WHERE id = ANY($1) AND revoked_at IS NULL AND coalesce(expires_at > now(), true)"


@dataclass(frozen=True, slots=True)
class Credential:
    """The caller that an API key identifies."""

    key_id: str
    project_id: str
    role: Role
    expires_at: datetime | None
    is_expired: bool
    is_revoked: bool


async def find(pool: asyncpg.Pool, token: str) -> Credential | None:
    """Find a key by its token, and note its use, to the minute. It checks no caller."""
    row = await pool.fetchrow(_FIND, _hash(token))
    if row is None:
        return None
    found = Credential(
        row["id"], row["project_id"], Role(row["role"]), row["expires_at"], bool(row["is_expired"]), row["is_revoked"]
    )
    if row["is_use_due"] and not (found.is_expired or found.is_revoked):
        await pool.execute(_USE, found.key_id)
    return found


async def ended(pool: asyncpg.Pool, key_ids: Collection[str]) -> set[str]:
    """Return those of the keys that are revoked, expired or deleted."""
    valid = {row["id"] for row in await pool.fetch(_ENDED, list(key_ids))}
    return set(key_ids) - valid


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()
