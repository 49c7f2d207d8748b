"""Checks of JSON Web Tokens (RFC 7519) by PyJWT: signature, times, issuer, audience and claims.

The configured keys select the algorithms, never the token: HS256 with the secret; RS256, ES256 and
EdDSA with keys of the issuer's key set. See docs/decisions/0027-sign-in.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from jwt import PyJWK
from jwt import exceptions as errors

from app.server.sign_in.jwks import KeySet
from persistence.caller import Role
from persistence.problems import Unauthenticated

MAX_TOKEN = 8 * 1024
"""Characters of a token. Servers in front of this one rarely accept longer headers."""
MAX_SUBJECT = 200
ASYMMETRIC = ("RS256", "ES256", "EdDSA")
LEEWAY_S = 1
"""Seconds by which the clocks of the issuer and of this server may differ."""
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
MESSAGES: list[tuple[type[errors.PyJWTError], str]] = [
    (errors.ExpiredSignatureError, "The token has expired: get a new one."),
    (errors.ImmatureSignatureError, "The token is not valid yet (`nbf`)."),
    (errors.InvalidAudienceError, "The token is for another audience: `aud` must contain TREADLE_JWT_AUDIENCE."),
    (errors.InvalidIssuerError, "The token is of another issuer: `iss` must be TREADLE_JWT_ISSUER."),
    (errors.InvalidSubjectError, "The `sub` of the token must be a text."),
    (errors.InvalidSignatureError, "The signature of the token does not fit the key of this server."),
    (errors.InvalidAlgorithmError, "The algorithm of the token does not fit its key."),
]
"""What clients see for each exception of the library; all others mean a malformed token."""
MALFORMED = "The token is malformed: it must be a JSON Web Token (RFC 7519) or an API key (`tk_…`)."


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What tokens must fulfil; the settings `TREADLE_JWT_…`."""

    secret: str | None
    issuer: str | None
    audience: str | None
    claim: str


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The claims of an accepted token.

    Args:
        subject: The `sub`.
        grants: Roles by project id, project name or `*`.
        expires_at: The `exp`.
    """

    subject: str
    grants: Mapping[str, Role]
    expires_at: datetime


class TokenVerifier:
    """Verifies tokens by the rules, with the secret or the keys of the issuer."""

    def __init__(self, rules: TokenRules, keys: KeySet | None) -> None:
        self._rules, self._keys = rules, keys

    async def verify(self, token: str) -> TokenClaims:
        """Check a token and return its claims. Raises Unauthenticated."""
        if len(token) > MAX_TOKEN:
            raise Unauthenticated(f"The token has {len(token):,} characters; the limit is {MAX_TOKEN:,}.")
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if not isinstance(algorithm, str):
                raise Unauthenticated(MALFORMED)
            key = await self._key(algorithm, header.get("kid"))
            payload = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._rules.issuer,
                audience=self._rules.audience,
                leeway=LEEWAY_S,
                options={
                    "require": self._required_claims(),
                    "verify_aud": self._rules.audience is not None,
                    "verify_iat": False,
                },
            )
        except errors.MissingRequiredClaimError as missing:
            raise Unauthenticated(f"The token lacks the claim `{missing.claim}`.") from missing
        except errors.PyJWTError as error:
            message = next((text for kind, text in MESSAGES if isinstance(error, kind)), MALFORMED)
            raise Unauthenticated(message) from error
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise Unauthenticated(MALFORMED) from error
        return TokenClaims(subject_of(payload), roles_of(payload, self._rules.claim), moment_of(payload["exp"]))

    def _required_claims(self) -> list[str]:
        optional = {"iss": self._rules.issuer, "aud": self._rules.audience}
        return ["exp", "sub", *(claim for claim, value in optional.items() if value is not None)]

    async def _key(self, algorithm: str, key_id: object) -> PyJWK | str:
        """Return the key that this server has for the algorithm. Raises Unauthenticated."""
        if algorithm == "HS256" and self._rules.secret is not None:
            return self._rules.secret
        if algorithm not in ASYMMETRIC or self._keys is None:
            accepted = [*(["HS256"] if self._rules.secret else []), *(ASYMMETRIC if self._keys else [])]
            raise Unauthenticated(f"The algorithm of the token is not accepted; this server accepts {accepted}.")
        key = await self._keys.find(key_id if isinstance(key_id, str) else None, algorithm)
        if key is None:
            raise Unauthenticated(
                "The key of the token is not known: the key set of the issuer has no such key, or the issuer cannot be "
                "reached now. Get a new token, or try again later."
            )
        return key


def subject_of(payload: Mapping[str, Any]) -> str:
    """Return the `sub` of checked claims. Raises Unauthenticated."""
    subject = payload["sub"]
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT or not subject.isprintable():
        raise Unauthenticated(f"The `sub` of the token must have 1 to {MAX_SUBJECT} printable characters.")
    return str(subject)


def moment_of(expiry: Any) -> datetime:
    """Return the moment of a time in claims."""
    try:
        return datetime.fromtimestamp(int(expiry), UTC)
    except (ValueError, OverflowError, OSError):
        return FOREVER


def roles_of(payload: Mapping[str, Any], claim: str) -> dict[str, Role]:
    """Return the roles of the claim. A token without it has none. Raises Unauthenticated."""
    listed = payload.get(claim) or {}
    if not isinstance(listed, dict):
        raise Unauthenticated(f"The claim `{claim}` of the token must be an object: project to role.")
    try:
        return {project: Role(role) for project, role in listed.items()}
    except ValueError as error:
        names = ", ".join(Role)
        raise Unauthenticated(f"A role in the claim `{claim}` of the token is not one of {names}.") from error
