"""Sign-in sessions of browsers: what the tokens of an OpenID Connect issuer said, by a random cookie.

Only a SHA-256 hash of the cookie is stored, and the refresh token is encrypted. A renewal is claimed by
a guarded update, so that one server of many spends the refresh token; if it dies, another one may try
after CLAIM_S seconds. Each renewal gives the session a new id, which ends sockets of the old one.
Called by the sign-in of servers.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

import asyncpg

from persistence.caller import Role
from persistence.db.ids import Prefix, new_id

LIFETIME_DAYS = 7
"""Days after which a person has to sign in again, also if the issuer renews its tokens for longer."""
CLAIM_S = 15
"""Seconds in which the server that renews a session is expected to finish."""


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """What a session stores of the tokens of the issuer.

    Args:
        subject: The `sub`.
        roles: Roles by project id, project name or `*`.
        expires_at: When the tokens end.
        refresh_key_id: The id of the key that `refresh_token` is encrypted under; None without a token.
        refresh_token: The refresh token, encrypted.
    """

    subject: str
    roles: Mapping[str, Role]
    expires_at: datetime
    refresh_key_id: str | None = None
    refresh_token: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A session. `id` changes with each renewal. `remaining_s` is negative after the end of the tokens."""

    id: str
    grant: SessionGrant
    remaining_s: float

    @property
    def is_renewable(self) -> bool:
        return self.grant.refresh_token is not None


_COLUMNS = "id, subject, roles, expires_at, refresh_key_id, refresh_token"
_CREATE = f"""
WITH past AS (DELETE FROM browser_sessions WHERE ends_at <= now())
INSERT INTO browser_sessions ({_COLUMNS}, hash, ends_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(days => {LIFETIME_DAYS}))
"""
_FIND = f"""
SELECT {_COLUMNS}, extract(epoch FROM expires_at - now())::float8 AS remaining_s
FROM browser_sessions WHERE hash = $1 AND ends_at > now()
"""
_CLAIM = f"""
UPDATE browser_sessions SET renewal_claimed_until = now() + make_interval(secs => {CLAIM_S})
WHERE id = $1 AND refresh_token IS NOT NULL AND coalesce(renewal_claimed_until <= now(), true)
"""
_RENEW = """
UPDATE browser_sessions SET id = $2, subject = $3, roles = $4, expires_at = $5, refresh_key_id = $6,
  refresh_token = $7, renewal_claimed_until = NULL
WHERE id = $1
"""
_RELEASE = "UPDATE browser_sessions SET renewal_claimed_until = NULL WHERE id = $1"
_END = "DELETE FROM browser_sessions WHERE id = $1"
_END_OF_COOKIE = "DELETE FROM browser_sessions WHERE hash = $1 RETURNING id"
_VALID = "SELECT id FROM browser_sessions WHERE id = ANY($1) AND expires_at > now() AND ends_at > now()"


async def create(pool: asyncpg.Pool, cookie: str, grant: SessionGrant) -> None:
    """Store a session, and delete those that are over."""
    await pool.execute(_CREATE, *_values(new_id(Prefix.BROWSER_SESSION), grant), _hash(cookie))


async def find(pool: asyncpg.Pool, cookie: str) -> BrowserSession | None:
    """Find a session by its cookie; also one whose tokens have ended, which may be renewed."""
    row = await pool.fetchrow(_FIND, _hash(cookie))
    if row is None:
        return None
    roles = {project: Role(role) for project, role in row["roles"].items()}
    grant = SessionGrant(row["subject"], roles, row["expires_at"], row["refresh_key_id"], row["refresh_token"])
    return BrowserSession(row["id"], grant, row["remaining_s"])


async def claim_renewal(pool: asyncpg.Pool, id: str) -> bool:
    """Return whether this server may spend the refresh token of a session, and no other one."""
    return bool((await pool.execute(_CLAIM, id)) == "UPDATE 1")


async def renew(pool: asyncpg.Pool, id: str, grant: SessionGrant) -> bool:
    """Store the new tokens of a session under a new id. Return False if it has ended meanwhile."""
    return bool((await pool.execute(_RENEW, id, *_values(new_id(Prefix.BROWSER_SESSION), grant))) == "UPDATE 1")


async def release_renewal(pool: asyncpg.Pool, id: str) -> None:
    """Let another request try to renew a session, after an outage of the issuer."""
    await pool.execute(_RELEASE, id)


async def end(pool: asyncpg.Pool, id: str) -> None:
    """End a session whose refresh token the issuer refuses."""
    await pool.execute(_END, id)


async def end_of_cookie(pool: asyncpg.Pool, cookie: str) -> str | None:
    """End the session of a cookie, and return its id; None if there is none."""
    id: str | None = await pool.fetchval(_END_OF_COOKIE, _hash(cookie))
    return id


async def ended(pool: asyncpg.Pool, ids: Collection[str]) -> set[str]:
    """Return those of the sessions that have ended, have expired, or were renewed under another id."""
    return set(ids) - {row["id"] for row in await pool.fetch(_VALID, list(ids))}


def _values(id: str, grant: SessionGrant) -> tuple[object, ...]:
    return id, grant.subject, dict(grant.roles), grant.expires_at, grant.refresh_key_id, grant.refresh_token


def _hash(cookie: str) -> bytes:
    return sha256(cookie.encode()).digest()
