"""`Auth`: makes the caller of each request and WebSocket. No other module makes callers of the API.

The value of the Authorization header or of `authorization` in `connection_init` decides. Projects are
read for each caller with a token, so that a new project is accessible at once.
"""

import math
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol, Self

from redis.asyncio import Redis
from starlette.requests import HTTPConnection

from app.server.sign_in.browser_sessions import BrowserSessions
from app.server.sign_in.cookies import Cookies
from app.server.sign_in.jwks import KeySet
from app.server.sign_in.oidc import OidcIssuer
from app.server.sign_in.tokens import TokenRules, TokenVerifier
from app.settings import Settings
from persistence.caller import Caller, CallerKind, Role
from persistence.db.database import Database
from persistence.problems import Unauthenticated
from persistence.secrets.key_source import KeySource
from persistence.workflows import api_keys, projects
from persistence.workflows.browser_sessions import LIFETIME_DAYS

PROJECTS_S = 1.0
"""Seconds after which a server without sign-in reads its projects again."""
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


@dataclass(frozen=True, slots=True)
class BrowserSignIn:
    """The sign-in of browsers at an OpenID Connect issuer."""

    sessions: BrowserSessions
    cookies: Cookies

    @classmethod
    def of(cls, settings: Settings, database: Database, redis: Redis, keys: KeySource) -> Self:
        sessions = BrowserSessions(database, redis, OidcIssuer(settings), keys)
        return cls(sessions, Cookies(settings.public_address, LIFETIME_DAYS * 86_400, keys))


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

    async def caller_of_cookie(self, cookie: str, address: str | None) -> Caller:
        """Return the caller of a session cookie. Raises Unauthenticated, Unavailable."""
        ...

    def cookie_of(self, connection: HTTPConnection) -> str | None:
        """Return the session cookie of a request or handshake."""
        ...

    @property
    def needs_token(self) -> bool:
        """Whether every caller needs a token."""
        ...

    @property
    def browser(self) -> BrowserSignIn | None:
        """The sign-in of browsers; None if no issuer for it is configured."""
        ...


class LocalAuth:
    """Without sign-in: every caller is `local`, admin of every project.

    Its projects are read at most every PROJECTS_S seconds. All callers share one dictionary of roles,
    so a project that this server creates is in it at once (`resolvers.projects`), and one of another
    server after that time. Projects are never deleted.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._roles: dict[str, Role] = {}
        self._read_at = -math.inf

    async def caller(self, authorization: str | None, address: str | None) -> Caller:
        # A proxy that signs people in itself may pass on its own kind of credentials.
        if authorization is not None and authorization.lower().startswith("bearer"):
            raise Unauthenticated(NOT_CONFIGURED)
        if (now := time.monotonic()) > self._read_at + PROJECTS_S:
            self._roles.update(dict.fromkeys(await projects.all_ids(self._database.pool), Role.ADMIN))
            self._read_at = now
        return Caller("local", self._roles, may_create_projects=True, address=address)

    async def caller_of_cookie(self, cookie: str, address: str | None) -> Caller:
        return await self.caller(None, address)

    def cookie_of(self, connection: HTTPConnection) -> str | None:
        return None

    @property
    def needs_token(self) -> bool:
        return False

    @property
    def browser(self) -> None:
        return None


class TokenAuth:
    """With sign-in: callers have a JSON Web Token, an API key, or the session cookie of a browser."""

    def __init__(self, database: Database, verifier: TokenVerifier, browser: BrowserSignIn | None) -> None:
        self._database, self._verifier, self._browser = database, verifier, browser

    async def caller(self, authorization: str | None, address: str | None) -> Caller:
        token = bearer_token(authorization)
        if token.startswith(api_keys.TOKEN_PREFIX):
            return await self._by_key(token, address)
        claims = await self._verifier.verify(token)
        caller = Caller(claims.subject, {}, kind=CallerKind.JWT, expires_at=claims.expires_at, address=address)
        return await self._with_roles(caller, claims.grants)

    async def caller_of_cookie(self, cookie: str, address: str | None) -> Caller:
        if self._browser is None:
            raise Unauthenticated(NO_TOKEN, has_token=False)
        session = await self._browser.sessions.valid(cookie)
        grant = session.grant
        caller = Caller(
            grant.subject,
            {},
            kind=CallerKind.SESSION,
            expires_at=grant.expires_at,
            credential_id=session.id,
            address=address,
        )
        return await self._with_roles(caller, grant.roles)

    def cookie_of(self, connection: HTTPConnection) -> str | None:
        return None if self._browser is None else self._browser.cookies.session_of(connection)

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
            credential_id=found.key_id,
            address=address,
        )

    @property
    def needs_token(self) -> bool:
        return True

    @property
    def browser(self) -> BrowserSignIn | None:
        return self._browser

    async def _with_roles(self, caller: Caller, grants: Mapping[str, Role]) -> Caller:
        """Return the caller with the roles that a token or a session grants."""
        everywhere = grants.get(EVERY_PROJECT)
        named = await projects.named(self._database.pool, list(grants), every=everywhere is not None)
        roles = _roles(grants, named, everywhere)
        return replace(caller, roles=roles, may_create_projects=everywhere is Role.ADMIN)


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
async def open_auth(settings: Settings, database: Database, redis: Redis, keys: KeySource) -> AsyncIterator[Auth]:
    """Create the sign-in that the settings select. `keys` encrypt what browsers and sessions store."""
    if not settings.has_sign_in:
        yield LocalAuth(database)
        return
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret is not None else None
    rules = TokenRules(secret, settings.jwt_issuer, settings.jwt_audience, settings.jwt_claim)
    async with AsyncExitStack() as stack:
        key_set = KeySet(settings.jwt_jwks_url) if settings.jwt_jwks_url else None
        if key_set is not None:
            stack.push_async_callback(key_set.close)
            key_set.refresh_in_background()
        browser = None
        if settings.oidc_issuer is not None:
            browser = BrowserSignIn.of(settings, database, redis, keys)
            stack.push_async_callback(browser.sessions.close)
        yield TokenAuth(database, TokenVerifier(rules, key_set), browser)
