"""Sessions of signed-in browsers: their callers, and the renewal of their tokens.

A session whose tokens have ended is renewed with its refresh token by the next request. Requests of this
process share one renewal, and of several servers one spends the token; the others wait for its result.
"""

import asyncio
import secrets
from dataclasses import replace

import structlog
from redis.asyncio import Redis
from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_fixed

from app.server.sign_in.oidc import UNREACHABLE, IssuerTokens, OidcIssuer, SignInEnded
from persistence.db.database import Database
from persistence.events.publisher import announce
from persistence.problems import Unauthenticated, Unavailable
from persistence.secrets.key_source import KeySource
from persistence.secrets.keyring import DecryptionError
from persistence.workflows import browser_sessions
from persistence.workflows.api_keys import REVOKED_CHANNEL
from persistence.workflows.browser_sessions import BrowserSession, SessionGrant

log = structlog.get_logger(__name__)

EARLY_S = 30.0
"""Seconds before the end of its tokens at which a page may renew a session."""
OTHER_SERVER_S = 6.0
"""Seconds that a request waits for the server that renews its session."""
RENEWAL_S = browser_sessions.CLAIM_S - 1.0
"""Seconds of one renewal, all requests to the issuer together. While the claim lasts, nobody else spends the token."""
LOOK_S = 0.2
OVER = "The session has ended: sign in again."
_CONTEXT = "refresh token of a browser session"


class BrowserSessions:
    """The sessions of signed-in browsers, as one server sees them."""

    def __init__(self, database: Database, redis: Redis, issuer: OidcIssuer, keys: KeySource) -> None:
        self._database, self._redis, self.issuer, self._keys = database, redis, issuer, keys
        self._renewals: dict[str, asyncio.Task[None]] = {}

    async def start(self, tokens: IssuerTokens) -> str:
        """Store a new session, and return the value of its cookie. Raises KeyProblem."""
        cookie = secrets.token_urlsafe(32)
        await browser_sessions.create(self._database.pool, cookie, self._grant(tokens))
        return cookie

    async def valid(self, cookie: str, *, early_s: float = 0) -> BrowserSession:
        """Return the session of a cookie, renewed if its tokens end within `early_s` seconds.

        Raises:
            Unauthenticated: There is no such session, or it cannot be renewed any more.
            Unavailable: The tokens have ended, and the issuer does not answer.
        """
        session = await self._find(cookie)
        if session.remaining_s > early_s or (not session.is_renewable and session.remaining_s > 0):
            return session
        if not session.is_renewable:
            raise Unauthenticated(OVER)
        try:
            await self._renew(session, cookie)
        except Unavailable:
            # Tokens that are about to end are valid still.
            if session.remaining_s <= 0:
                raise
        return await self._find(cookie)

    async def end(self, cookie: str) -> None:
        """End the session of a cookie, with its sockets on every server."""
        id = await browser_sessions.end_of_cookie(self._database.pool, cookie)
        if id is not None:
            await self._publish(id)

    async def close(self) -> None:
        """Stop renewals. Others may claim them later."""
        for task in list(self._renewals.values()):
            task.cancel()
        await asyncio.gather(*self._renewals.values(), return_exceptions=True)

    async def _find(self, cookie: str) -> BrowserSession:
        session = await browser_sessions.find(self._database.pool, cookie)
        if session is None:
            raise Unauthenticated(OVER)
        return session

    async def _renew(self, session: BrowserSession, cookie: str) -> None:
        """Renew a session once for all requests. A request that disconnects does not cancel it."""
        task = self._renewals.get(session.id)
        if task is None:
            task = asyncio.create_task(self._renew_once(session, cookie), name="sign_in.renewal")
            self._renewals[session.id] = task
            task.add_done_callback(lambda _: self._renewals.pop(session.id, None))
        await asyncio.shield(task)

    async def _renew_once(self, session: BrowserSession, cookie: str) -> None:
        pool = self._database.pool
        if not await browser_sessions.claim_renewal(pool, session.id):
            await self._wait_for_other_server(session, cookie)
            return
        try:
            async with asyncio.timeout(RENEWAL_S):
                tokens = await self.issuer.renew(self._refresh_token(session), _tokens_of(session))
        except (SignInEnded, DecryptionError, Unauthenticated) as error:
            log.info("sign_in.session_over", subject=session.grant.subject, reason=type(error).__name__)
            await browser_sessions.end(pool, session.id)
            raise Unauthenticated(OVER) from error
        except (Unavailable, TimeoutError) as error:
            await browser_sessions.release_renewal(pool, session.id)
            raise Unavailable(UNREACHABLE) from error
        await browser_sessions.renew(pool, session.id, self._grant(tokens))
        # Sockets of the old tokens keep the roles of these. They connect again.
        await self._publish(session.id)

    async def _wait_for_other_server(self, session: BrowserSession, cookie: str) -> None:
        """Wait until the session has another id, or has ended. Raises Unavailable."""

        async def is_unchanged() -> bool:
            found = await browser_sessions.find(self._database.pool, cookie)
            return found is not None and found.id == session.id

        try:
            await AsyncRetrying(
                retry=retry_if_result(bool), wait=wait_fixed(LOOK_S), stop=stop_after_delay(OTHER_SERVER_S)
            )(is_unchanged)
        except RetryError as error:
            raise Unavailable("The session is being renewed by another server: try again in some seconds.") from error

    def _grant(self, tokens: IssuerTokens) -> SessionGrant:
        grant = SessionGrant(tokens.subject, tokens.roles, tokens.expires_at)
        if tokens.refresh_token is None:
            return grant
        key_id, data = self._keys.keyring().encrypt(tokens.refresh_token, _CONTEXT)
        return replace(grant, refresh_key_id=key_id, refresh_token=data)

    def _refresh_token(self, session: BrowserSession) -> str:
        grant = session.grant
        return self._keys.keyring().decrypt(grant.refresh_key_id or "", grant.refresh_token or b"", _CONTEXT)

    async def _publish(self, id: str) -> None:
        """Tell all servers that a session has ended. Without Redis they notice it a second later."""
        await announce(self._redis, REVOKED_CHANNEL, id)


def _tokens_of(session: BrowserSession) -> IssuerTokens:
    grant = session.grant
    return IssuerTokens(grant.subject, dict(grant.roles), grant.expires_at, None)
