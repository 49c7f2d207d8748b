"""`Auth`: makes the caller of each request and WebSocket. No other module makes callers of the API.

The value of the Authorization header or of `authorization` in `connection_init` decides. Projects are
read for each caller, so that a new project is accessible at once.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from starlette.requests import HTTPConnection

from app.server.sign_in.jwks import KeySet
from app.server.sign_in.tokens import TokenClaims, TokenRules, TokenVerifier
from app.settings import Settings
from persistence.caller import Caller, CallerKind, Role
from persistence.db.database import Database
from persistence.problems import Unauthenticated
from persistence.workflows import api_keys, projects

EVERY_PROJECT = "*"
"""In the claim of a token: the role in all projects that the claim does not name."""
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+) *", re.IGNORECASE)
"""The credentials of RFC 6750, section 2.1."""
NOT_CONFIGURED = (
    "This server has no sign-in, so it accepts no tokens. Send the request without `Authorization`, or set "
    "TREADLE_JWT_SECRET or TREADLE_JWT_JWKS_URL for the server (docs/sign_in.md)."
)
NO_TOKEN = (
    "This server needs a token or an API key: send the header `Authorization: Bearer …`, or on a WebSocket "
    '`{"authorization": "Bearer …"}` as payload of connection_init.'
)
NO_BEARER = "The value of `Authorization` must be `Bearer ` and one token."


class Auth(Protocol):
    """Makes callers."""

    async def caller(self, authorization: str | None, address: str | None) -> Caller:
        """Return the caller.

        Args:
            authorization: The value of the Authorization header; None if it was not sent.
            address: The network address of the client.

        Raises:
            Unauthenticated: The caller is unknown.
        """
        ...

    @property
    def needs_token(self) -> bool:
        """Whether every caller needs a token."""
        ...


class LocalAuth:
    """Without sign-in: every caller is `local`, admin of every project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def caller(self, authorization: str | None, address: str | None) -> Caller:
        # A proxy that signs people in itself may pass on its own kind of credentials.
        if authorization is not None and authorization.lower().startswith("bearer"):
            raise Unauthenticated(NOT_CONFIGURED)
        roles = dict.fromkeys(await projects.all_ids(self._database.pool), Role.ADMIN)
        return Caller("local", roles, may_create_projects=True, address=address)

    @property
    def needs_token(self) -> bool:
        return False


class TokenAuth:
    """With sign-in: callers have a JSON Web Token or an API key."""

    def __init__(self, database: Database, verifier: TokenVerifier) -> None:
        self._database, self._verifier = database, verifier

    async def caller(self, authorization: str | None, address: str | None) -> Caller:
        token = bearer_token(authorization)
        if token.startswith(api_keys.TOKEN_PREFIX):
            return await self._by_key(token, address)
        return await self._by_claims(await self._verifier.verify(token), address)

    async def _by_key(self, token: str, address: str | None) -> Caller:
        found = await api_keys.find(self._database.pool, token)
        if found is None:
            raise Unauthenticated("There is no such API key.")
        if found.is_revoked:
            raise Unauthenticated("The API key was revoked: use another one.")
        if found.is_expired:
            raise Unauthenticated("The API key has expired: create a new one.")
        return Caller(
            found.key_id,
            {found.project_id: found.role},
            kind=CallerKind.KEY,
            expires_at=found.expires_at,
            key_id=found.key_id,
            address=address,
        )

    @property
    def needs_token(self) -> bool:
        return True

    async def _by_claims(self, claims: TokenClaims, address: str | None) -> Caller:
        everywhere = claims.grants.get(EVERY_PROJECT)
        named = await projects.named(self._database.pool, list(claims.grants), every=everywhere is not None)
        return Caller(
            claims.subject,
            _roles(claims.grants, named, everywhere),
            kind=CallerKind.JWT,
            may_create_projects=everywhere is Role.ADMIN,
            expires_at=claims.expires_at,
            address=address,
        )


def _roles(grants: Mapping[str, Role], named: Mapping[str, str], everywhere: Role | None) -> dict[str, Role]:
    """Return the role in each project: by its id, else by its name, else by `*`."""
    chosen = {id: grants.get(id) or grants.get(name) or everywhere for id, name in named.items()}
    return {id: role for id, role in chosen.items() if role is not None}


def bearer_token(authorization: str | None) -> str:
    """Return the token of an Authorization header. Raises Unauthenticated."""
    if authorization is None:
        raise Unauthenticated(NO_TOKEN, has_token=False)
    match = _BEARER.fullmatch(authorization)
    if match is None:
        raise Unauthenticated(NO_BEARER)
    return match[1]


def authorization_of(connection: HTTPConnection) -> str | None:
    """Return the value of the Authorization header. Raises Unauthenticated if there are several."""
    values = connection.headers.getlist("authorization")
    if len(values) > 1:
        raise Unauthenticated("The request has several Authorization headers.")
    return values[0] if values else None


def authorization_in(payload: Mapping[str, object]) -> str | None:
    """Return `authorization` of the payload of connection_init, in any case. Raises Unauthenticated."""
    values = [value for name, value in payload.items() if name.lower() == "authorization" and value is not None]
    if len(values) > 1 or not all(isinstance(value, str) for value in values):
        raise Unauthenticated("`authorization` in the payload of connection_init must be one text.")
    return str(values[0]) if values else None


@asynccontextmanager
async def open_auth(settings: Settings, database: Database) -> AsyncIterator[Auth]:
    """Create the sign-in that the settings select."""
    if not settings.has_sign_in:
        yield LocalAuth(database)
        return
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret is not None else None
    rules = TokenRules(secret, settings.jwt_issuer, settings.jwt_audience, settings.jwt_claim)
    async with AsyncExitStack() as stack:
        keys = KeySet(settings.jwt_jwks_url) if settings.jwt_jwks_url else None
        if keys is not None:
            stack.push_async_callback(keys.close)
            keys.refresh_in_background()
        yield TokenAuth(database, TokenVerifier(rules, keys))
