"""The public keys of the issuer (JWKS, RFC 7517): fetched from the configured address, and cached.

No token decides what is fetched, or when: a token with an unknown key id causes at most one request
in COOL_DOWN_S seconds, which all waiting callers share. If the issuer is unavailable, the last keys
stay in use for STALE_S seconds.
"""

import asyncio
import time

import httpx
import orjson
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from app.http_client import plain_client
from persistence.db.outage import Outage

FRESH_S = 600.0
"""Seconds after which the keys are fetched again in the background."""
STALE_S = 86_400.0
"""Seconds that keys are used after the last successful request."""
COOL_DOWN_S = 10.0
"""Seconds between two requests for a key that is missing."""
TIMEOUT_S = 3.0
"""Seconds of one request."""
MAX_BYTES = 256 * 1024
MAX_KEYS = 100


class KeySetError(Exception):
    """The answer of the issuer is no key set."""


class KeySet:
    """The keys of one issuer. End it with `await close()`."""

    def __init__(self, url: str) -> None:
        self._url = url
        # Created once: it loads the certificates of all authorities for https.
        is_plain = url.startswith("http://")
        self._client = plain_client(timeout_s=TIMEOUT_S) if is_plain else httpx.AsyncClient(timeout=TIMEOUT_S)
        self._keys: list[PyJWK] = []
        self._fetched_at = self._tried_at = -STALE_S
        self._task: asyncio.Task[None] | None = None
        self._problem: str | None = None
        self._outage = Outage("sign_in.keys")

    async def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """Return the key of a token; None if the issuer has no such key, or cannot be reached.

        Args:
            key_id: The `kid` of the token; None selects the only key for the algorithm.
            algorithm: The `alg` of the token.
        """
        found = self._cached(key_id, algorithm)
        if found is None:
            await self._refresh(COOL_DOWN_S)
            return self._cached(key_id, algorithm)
        if self._age(self._fetched_at) > FRESH_S:
            self.refresh_in_background()
        return found

    def refresh_in_background(self) -> None:
        """Fetch the keys without waiting for them, unless that was just tried."""
        if self._task is None and self._age(self._tried_at) > COOL_DOWN_S:
            self._task = asyncio.create_task(self._fetch_once(), name="sign_in.keys")

    async def _refresh(self, cool_down_s: float) -> None:
        if self._task is None and self._age(self._tried_at) > cool_down_s:
            self.refresh_in_background()
        if self._task is not None:
            # A caller that disconnects does not cancel the request of the others.
            await asyncio.shield(self._task)

    def _cached(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        if self._age(self._fetched_at) > STALE_S:
            return None
        fitting = [key for key in self._keys if key.algorithm_name == algorithm]
        if key_id is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.key_id == key_id), None)

    def _age(self, moment: float) -> float:
        return time.monotonic() - moment

    async def _fetch_once(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self._keys = _usable_keys(await self._download())
            self._fetched_at = time.monotonic()
            self._outage.recovered()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, KeySetError) as error:
            self._problem = str(error) or type(error).__name__
            self._outage.failed(error)
        finally:
            self._tried_at, self._task = time.monotonic(), None

    async def _download(self) -> bytes:
        """Return the body of the key set. Redirects are not followed."""
        async with self._client.stream("GET", self._url, headers={"Accept": "application/json"}) as response:
            if response.status_code != 200:
                raise KeySetError(f"the issuer answers with HTTP {response.status_code}")
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise KeySetError(f"the key set has more than {MAX_BYTES:,} bytes")
        return body

    async def check(self) -> tuple[set[str], str | None]:
        """Fetch the keys and return their algorithms, and what is wrong if there are none."""
        await self._refresh(0)
        if self._keys:
            return {key.algorithm_name for key in self._keys}, None
        return set(), self._problem or "the key set has no keys for signatures"

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._client.aclose()


def _usable_keys(body: bytes) -> list[PyJWK]:
    """Return the keys for signatures that can be read. Keys of other kinds are left out."""
    try:
        listed = orjson.loads(body)["keys"]
    except (orjson.JSONDecodeError, LookupError, TypeError) as error:
        raise KeySetError("the answer is not a key set") from error
    if not isinstance(listed, list):
        raise KeySetError("the answer is not a key set")
    keys = []
    for data in listed[:MAX_KEYS]:
        # A symmetric key in a public set would let everybody sign.
        if not isinstance(data, dict) or data.get("kty") not in ("RSA", "EC", "OKP") or data.get("use") == "enc":
            continue
        try:
            keys.append(PyJWK(data))
        except (PyJWTError, ValueError, TypeError):
            continue
    return keys
