"""The client of an OpenID Connect issuer: the code flow with PKCE (RFC 7636), by Authlib.

Authlib makes state, nonce and code verifier, exchanges the code, and checks the ID token (OpenID Connect
Core 1.0, section 3.1.3.7). Every message to a client is ours. The addresses of the issuer come from its
configuration document only.
"""

import ssl
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from json import JSONDecodeError
from typing import Any
from urllib.parse import urlencode

import httpx2
import structlog
from authlib.common.errors import AuthlibBaseError
from joserfc.errors import JoseError

from app.server.sign_in.tokens import LEEWAY_S, moment_of, roles_of, subject_of
from app.settings import Settings
from persistence.caller import Role
from persistence.problems import Unauthenticated, Unavailable

log = structlog.get_logger(__name__)

TIMEOUT_S = 5.0
"""Seconds of one request to the issuer."""
CONFIGURATION_S = 3600.0
"""Seconds after which the configuration document of the issuer is read again."""
UNREACHABLE = "The issuer of the sign-in cannot be reached or does not answer as expected: try again later."
REFUSED = "The issuer of the sign-in did not confirm it. Sign in again."
INVALID = "The token of the issuer is not valid for this server. Sign in again, or tell the operator of this server."
_BROKEN = (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TypeError, RuntimeError)
"""What a call of the issuer raises if it gives no answer, or one that cannot be read."""
_ENDED = ("invalid_grant", "invalid_token", "interaction_required", "login_required", "consent_required")


class SignInEnded(Exception):
    """The issuer refuses the refresh token: the person has to sign in again."""


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """What the callback of an attempt to sign in needs. It travels in an encrypted cookie."""

    state: str
    nonce: str
    code_verifier: str
    return_to: str = "/"
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class IssuerTokens:
    """The checked content of the issuer's tokens."""

    subject: str
    roles: dict[str, Role]
    expires_at: datetime
    refresh_token: str | None


class OidcIssuer:
    """The configured issuer, at which this server is the client `TREADLE_OIDC_CLIENT_ID`."""

    def __init__(self, settings: Settings) -> None:
        assert settings.oidc_issuer is not None and settings.oidc_client_id is not None
        self._issuer, self._client_id = settings.oidc_issuer, settings.oidc_client_id
        secret = settings.oidc_client_secret
        self._secret = secret.get_secret_value() if secret is not None else None
        self._scope, self._claim = settings.oidc_scope, settings.jwt_claim
        self.redirect_uri = f"{settings.public_address}/auth/callback"
        self._home = f"{settings.public_address}/"
        # Created once: it loads the certificates of all authorities, which takes about 20 ms.
        is_plain = self._issuer.startswith("http://")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else ssl.create_default_context()
        self._made_at = -CONFIGURATION_S
        self._made: Any = None

    async def _app(self) -> Any:
        """Return Authlib's client with the issuer's configuration. Raises Unavailable."""
        if time.monotonic() - self._made_at > CONFIGURATION_S:
            app = self._new_app()
            try:
                metadata = await app.load_server_metadata()
            except _BROKEN as error:
                raise _unavailable(error) from error
            # OpenID Connect Discovery 1.0, section 4.3: another issuer must not pose as this one.
            if metadata.get("issuer") != self._issuer:
                log.error("sign_in.issuer_differs", configured=self._issuer, found=metadata.get("issuer"))
                raise Unavailable(UNREACHABLE)
            self._made, self._made_at = app, time.monotonic()
        return self._made

    def _new_app(self) -> Any:
        # Imported here: it takes 60 ms of the start, which servers without this sign-in do not need.
        from authlib.integrations.starlette_client import StarletteIntegration, StarletteOAuth2App

        return StarletteOAuth2App(
            StarletteIntegration("treadle"),
            "treadle",
            client_id=self._client_id,
            client_secret=self._secret,
            server_metadata_url=f"{self._issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": self._scope,
                "code_challenge_method": "S256",
                "timeout": TIMEOUT_S,
                "verify": self._tls,
                "trust_env": not self._issuer.startswith("http://"),
                **({} if self._secret else {"token_endpoint_auth_method": "none"}),
            },
        )

    async def begin(self, return_to: str) -> tuple[str, SignInAttempt]:
        """Return the address at which a person signs in, and what the callback needs. Raises Unavailable."""
        try:
            made = await (await self._app()).create_authorization_url(self.redirect_uri)
        except _BROKEN as error:
            raise _unavailable(error) from error
        attempt = SignInAttempt(made["state"], made["nonce"], made["code_verifier"], return_to, time.time())
        return made["url"], attempt

    async def redeem(self, attempt: SignInAttempt, code: str) -> IssuerTokens:
        """Exchange the code of a callback for tokens, and check them.

        Raises:
            Unauthenticated: The issuer refuses the code, or its tokens are not valid here.
            Unavailable: The issuer does not answer.
        """
        try:
            tokens = await self._fetch(code=code, code_verifier=attempt.code_verifier, redirect_uri=self.redirect_uri)
        except SignInEnded as error:
            raise Unauthenticated(REFUSED) from error
        if "id_token" not in tokens:
            log.error("sign_in.no_id_token", scope=self._scope)
            raise Unauthenticated(INVALID)
        return await self._checked(tokens, attempt.nonce)

    async def renew(self, refresh_token: str, before: IssuerTokens) -> IssuerTokens:
        """Exchange a refresh token for new tokens.

        An answer without an ID token renews the times only (OpenID Connect Core 1.0, section 12.2).

        Raises:
            SignInEnded: The issuer refuses the token.
            Unauthenticated: The new tokens are not valid here.
            Unavailable: The issuer does not answer.
        """
        tokens = await self._fetch(grant_type="refresh_token", refresh_token=refresh_token)
        next_token = _text(tokens.get("refresh_token")) or refresh_token
        if "id_token" not in tokens:
            return replace(before, expires_at=_after(tokens.get("expires_in")), refresh_token=next_token)
        renewed = await self._checked(tokens, None)
        if renewed.subject != before.subject:
            raise Unauthenticated(INVALID)
        return replace(renewed, refresh_token=next_token)

    async def sign_out_url(self) -> str | None:
        """Return where the person also signs out of the issuer; None if it has no such page.

        The address has no ID token as a hint: tokens must not be in addresses, which are logged.
        """
        try:
            endpoint = (await (await self._app()).load_server_metadata()).get("end_session_endpoint")
        except Unavailable:
            return None
        if not isinstance(endpoint, str):
            return None
        query = urlencode({"client_id": self._client_id, "post_logout_redirect_uri": self._home})
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    def is_own(self, issuer: str | None) -> bool:
        """Return whether a callback may be of this issuer, by its `iss` (RFC 9207)."""
        return issuer is None or issuer == self._issuer

    async def _fetch(self, **arguments: str) -> dict[str, Any]:
        """Call the token endpoint. Raises SignInEnded, Unavailable."""
        try:
            tokens: dict[str, Any] = await (await self._app()).fetch_access_token(**arguments)
        except AuthlibBaseError as error:
            log.warning("sign_in.refused", error=error.error, description=str(error.description or "")[:300])
            if error.error in _ENDED:
                raise SignInEnded from error
            raise Unavailable(UNREACHABLE) from error
        except _BROKEN as error:
            raise _unavailable(error) from error
        return tokens

    async def _checked(self, tokens: dict[str, Any], nonce: str | None) -> IssuerTokens:
        """Check an ID token: signature, issuer, audience, times, nonce, `azp` and `at_hash`."""
        app = await self._app()
        options = {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._client_id},
        }
        try:
            claims = await app.parse_id_token(tokens, nonce, claims_options=options, leeway=LEEWAY_S)
        except (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError, JSONDecodeError) as error:
            # The keys of the issuer cannot be read, so the token may be valid.
            raise _unavailable(error) from error
        except (JoseError, AuthlibBaseError, ValueError, TypeError) as error:
            log.warning("sign_in.id_token_invalid", error=str(error)[:300] or type(error).__name__)
            raise Unauthenticated(INVALID) from error
        if self._claim not in claims:
            claims = {**claims, **await self._user_claims(app, tokens, claims["sub"])}
        refresh_token = _text(tokens.get("refresh_token"))
        return IssuerTokens(subject_of(claims), roles_of(claims, self._claim), moment_of(claims["exp"]), refresh_token)

    async def _user_claims(self, app: Any, tokens: dict[str, Any], subject: str) -> dict[str, Any]:
        """Read the claim with the roles from the user info endpoint: many issuers have it only there."""
        metadata = await app.load_server_metadata()
        if "userinfo_endpoint" not in metadata or "access_token" not in tokens:
            return {}
        try:
            found = await app.userinfo(token=tokens)
        except (*_BROKEN, AuthlibBaseError) as error:
            raise _unavailable(error) from error
        # OpenID Connect Core 1.0, section 5.3.2: the answer may be about somebody else.
        is_same = found.get("sub") == subject and self._claim in found
        return {self._claim: found[self._claim]} if is_same else {}


def attempt_values(attempt: SignInAttempt) -> dict[str, Any]:
    """Return the JSON form of an attempt."""
    return asdict(attempt)


def _unavailable(error: Exception) -> Unavailable:
    log.warning("sign_in.issuer_unavailable", error=str(error) or type(error).__name__)
    return Unavailable(UNREACHABLE)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _after(seconds: object) -> datetime:
    """Return the end of tokens that are valid for some seconds; without a number, for five minutes."""
    valid_s = seconds if isinstance(seconds, int) and 0 < seconds < 10**8 else 300
    return datetime.now(UTC) + timedelta(seconds=valid_s)
