"""A client of the GraphQL API for commands such as `treadle run`: operations over HTTP, subscriptions by WebSocket.

It uses only the public API, so it can be read as an example. Errors distinguish an unavailable
server, which is worth another attempt, from a refusal, which is not.
"""

import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

import httpx
import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, NegotiationError, WebSocketException
from websockets.typing import Subprotocol

from app.http_client import plain_client

TRANSPORT = Subprotocol("graphql-transport-ws")
TRANSIENT_ERRORS = (OSError, WebSocketException)
"""Errors of a subscription after which another attempt is worthwhile: the server is unavailable."""
RETRYABLE_STATUSES = (408, 425, 429)
"""HTTP statuses below 500 that ask the client to try again later."""
TRUST = "if it is right, set SSL_CERT_FILE to a file with the certificate of its authority"
TIMED_OUT = 4408
"""The one close code between 4400 and 4499 that is no refusal: `connection_init` came too late."""


class RunRefused(Exception):
    """The server refuses the request, or the address is not that of a Treadle server.

    The message says why.
    """


class ServerUnavailable(RunRefused):
    """The server does not respond at the moment, or cannot serve requests.

    Another attempt may succeed.
    """


class ApiClient:
    """A client of one server.

    Args:
        address: `127.0.0.1:8000`, or an address such as `https://treadle.example.com`.
        token: A token or an API key, for a server with sign-in.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        self.address = _base_of(address)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.page = f"{self.address}/graphql"
        is_secure = self.address.startswith("https:")
        # SSL_CERT_FILE and SSL_CERT_DIR replace the authorities of the machine.
        self._tls = ssl.create_default_context() if is_secure else None

    def _http(self, timeout_s: float) -> httpx.AsyncClient:
        if self._tls is None:
            return plain_client(timeout_s=timeout_s)
        return httpx.AsyncClient(timeout=timeout_s, verify=self._tls)

    async def execute(self, query: str, **variables: Any) -> dict[str, Any]:
        """Execute a query or mutation and return its `data`.

        Raises RunRefused or ServerUnavailable.
        """
        try:
            async with self._http(30) as client:
                response = await client.post(
                    self.page, json={"query": query, "variables": variables}, headers=self._headers
                )
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        return self._data(response)

    def _unreachable(self, error: Exception) -> RunRefused:
        reason = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return RunRefused(f"the certificate of {self.address} is not trusted ({_tls_reason(reason)}): {TRUST}")
        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
            return RunRefused(f"{self.address} is not a valid address: write https://host or http://host:port")
        return ServerUnavailable(
            f"no server responds at {self.page} ({reason}): is `treadle up` running? "
            "Choose another one with --url, or another port with --port"
        )

    def _data(self, response: httpx.Response) -> dict[str, Any]:
        try:
            body = response.json()
            errors = body.get("errors")
        except (ValueError, AttributeError) as error:
            if _is_retryable(response.status_code):
                raise ServerUnavailable(f"{self.page} responds with HTTP {response.status_code}") from error
            raise RunRefused(
                f"the server at {self.page} is not Treadle: choose its port with --port, or its address with --url"
            ) from error
        if errors:
            kind = ServerUnavailable if _is_unavailable(errors) else RunRefused
            raise kind("; ".join(error["message"] for error in errors))
        data: dict[str, Any] = body["data"]
        return data

    async def has_worker(self) -> bool | None:
        """Return whether a worker is alive that executes runs; None if the server does not say it."""
        try:
            async with self._http(5) as client:
                workers = (await client.get(f"{self.address}/readyz")).json()["workers"]
        except (httpx.TransportError, ValueError, LookupError, TypeError):
            return None
        return None if workers is None else workers > 0

    async def subscribe(self, query: str, **variables: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the `data` of each message of a subscription.

        Raises:
            RunRefused: Another attempt would fail, too.
            OSError, WebSocketException: One of `TRANSIENT_ERRORS`; another attempt may succeed.
        """
        try:
            async with aclosing(self._messages(query, variables)) as messages:
                async for data in messages:
                    yield data
        except ssl.SSLCertVerificationError as error:
            raise self._unreachable(error) from error
        except WebSocketException as error:
            if (reason := _refusal(error)) is None:
                raise
            raise RunRefused(
                f"the server at {self.page} accepts no subscription: {reason}. Check for a proxy that changes requests, "
                "and for a server of another version"
            ) from error

    async def _messages(self, query: str, variables: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        page = "ws" + self.page.removeprefix("http")
        proxy: Literal[True] | None = None if self._tls is None else True
        async with connect(page, subprotocols=[TRANSPORT], proxy=proxy, ssl=self._tls) as socket:
            await socket.send(orjson.dumps({"type": "connection_init", "payload": self._headers}).decode())
            async for raw in socket:
                message = orjson.loads(raw)
                if message["type"] == "connection_ack":
                    request = {"query": query, "variables": variables}
                    await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": request}).decode())
                elif message["type"] == "next":
                    _raise_errors(message["payload"].get("errors"))
                    yield message["payload"]["data"]
                elif message["type"] == "error":
                    _raise_errors(message["payload"])
                elif message["type"] == "complete":
                    return


def _base_of(address: str) -> str:
    """Return the address without a path of the API, with its scheme."""
    base = address if "://" in address else f"http://{address}"
    return base.rstrip("/").removesuffix("/graphql").rstrip("/")


def _tls_reason(text: str) -> str:
    """Return OpenSSL's reason, such as `self-signed certificate`."""
    return text.partition("certificate verify failed: ")[2].partition(" (_ssl.c")[0] or text


def _is_retryable(status: int) -> bool:
    return status >= 500 or status in RETRYABLE_STATUSES


def _refusal(error: WebSocketException) -> str | None:
    """Return why another attempt would fail, or None if it may succeed."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return None if _is_retryable(status) else f"it responds with HTTP {status}"
    if isinstance(error, NegotiationError):
        return f"it does not support the protocol {TRANSPORT}"
    if isinstance(error, ConnectionClosed) and error.rcvd is not None:
        is_final = 4400 <= error.rcvd.code < 4500 and error.rcvd.code != TIMED_OUT
        return f"it closes the socket with {error.rcvd.code} {error.rcvd.reason}".rstrip(" .") if is_final else None
    return None


def _raise_errors(errors: list[dict[str, Any]] | None) -> None:
    if not errors:
        return
    if _is_unavailable(errors):
        raise ConnectionError(errors[0]["message"])
    raise RunRefused(errors[0]["message"])


def _is_unavailable(errors: list[dict[str, Any]]) -> bool:
    return any(error.get("extensions", {}).get("code") == "UNAVAILABLE" for error in errors)
