"""The cookies of browser sign-in: of the session, and of an attempt to sign in.

Scripts cannot read them (HttpOnly), and pages of other sites cannot send requests with them, except by
opening a page (SameSite=Lax). Over https, other hosts of the domain cannot set them (`__Host-`).
"""

import base64
import binascii
import time
from collections.abc import Mapping

import orjson
from starlette.requests import HTTPConnection
from starlette.responses import Response

from app.server.sign_in.oidc import SignInAttempt, attempt_values
from persistence.secrets.key_source import KeySource
from persistence.secrets.keyring import DecryptionError

ATTEMPT_S = 600
"""Seconds that a person has to sign in at the issuer."""
MAX_COOKIE = 200
"""Characters of the longest session cookie that is looked up."""
_CONTEXT = "browser sign-in attempt"


class Cookies:
    """Reads and sets the cookies of one server."""

    def __init__(self, public_address: str, lifetime_s: int, keys: KeySource) -> None:
        """`lifetime_s` is the longest time of a session."""
        self._is_secure = public_address.startswith("https://")
        prefix = "__Host-" if self._is_secure else ""
        self.session_name, self._attempt_name = f"{prefix}treadle_session", f"{prefix}treadle_sign_in"
        self._lifetime_s, self._keys = lifetime_s, keys

    def session_of(self, connection: HTTPConnection) -> str | None:
        """Return the value of the session cookie."""
        value = connection.cookies.get(self.session_name)
        return value if value and len(value) <= MAX_COOKIE else None

    def set_session(self, response: Response, value: str) -> None:
        self._set(response, self.session_name, value, self._lifetime_s)

    def clear_session(self, response: Response) -> None:
        self._set(response, self.session_name, "", 0)

    def set_attempt(self, response: Response, attempt: SignInAttempt) -> None:
        """Keep an attempt in the browser, encrypted. Raises KeyProblem if this host has no key."""
        text = orjson.dumps(attempt_values(attempt)).decode()
        key_id, data = self._keys.keyring().encrypt(text, _CONTEXT)
        self._set(response, self._attempt_name, f"{key_id}.{base64.urlsafe_b64encode(data).decode()}", ATTEMPT_S)

    def clear_attempt(self, response: Response) -> None:
        self._set(response, self._attempt_name, "", 0)

    def attempt_of(self, cookies: Mapping[str, str]) -> SignInAttempt | None:
        """Return the attempt of a browser; None if there is none, or if it is too old or not ours.

        Raises KeyProblem if the keys of this host cannot be read.
        """
        key_id, _, data = cookies.get(self._attempt_name, "").partition(".")
        try:
            text = self._keys.keyring().decrypt(key_id, base64.urlsafe_b64decode(data), _CONTEXT)
            attempt = SignInAttempt(**orjson.loads(text))
        except (DecryptionError, binascii.Error, ValueError, TypeError):
            return None
        return attempt if time.time() - attempt.started_at < ATTEMPT_S else None

    def _set(self, response: Response, name: str, value: str, max_age_s: int) -> None:
        response.set_cookie(name, value, max_age_s, path="/", secure=self._is_secure, httponly=True, samesite="lax")
