"""A client of the GraphQL API for `treadle run`: operations over HTTP, subscriptions by WebSocket.

It uses only the public API, so it can be read as an example. Errors distinguish an unavailable
server, which is worth another attempt, from a refusal, which is not.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

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
    """A client of the server at `host`, such as `127.0.0.1:8000`.

    `token` is a token or an API key, for a server with sign-in.
    """

    def __init__(self, host: str, token: str | None = None) -> None:
        self._host = host
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.page = f"http://{host}/graphql"

    async def execute(self, query: str, **variables: Any) -> dict[str, Any]:
        """Execute a query or mutation and return its `data`.

        Raises RunRefused or ServerUnavailable.
        """
        try:
            async with plain_client(timeout_s=30) as client:
                response = await client.post(
                    self.page, json={"query": query, "variables": variables}, headers=self._headers
                )
        except httpx.TransportError as error:
            raise ServerUnavailable(
                f"no server responds at {self.page} ({error or type(error).__name__}): is `treadle up` running? "
                "Choose another port with --port"
            ) from error
        return self._data(response)

    def _data(self, response: httpx.Response) -> dict[str, Any]:
        try:
            body = response.json()
            errors = body.get("errors")
        except (ValueError, AttributeError) as error:
            if _is_retryable(response.status_code):
                raise ServerUnavailable(f"{self.page} responds with HTTP {response.status_code}") from error
            raise RunRefused(f"the server at {self.page} is not Treadle: choose its port with --port") from error
        if errors:
            kind = ServerUnavailable if _is_unavailable(errors) else RunRefused
            raise kind("; ".join(error["message"] for error in errors))
        data: dict[str, Any] = body["data"]
        return data

    async def has_worker(self) -> bool | None:
        """Return whether a worker is alive that executes runs; None if the server does not say it."""
        try:
            async with plain_client(timeout_s=5) as client:
                workers = (await client.get(f"http://{self._host}/readyz")).json()["workers"]
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
        except WebSocketException as error:
            if (reason := _refusal(error)) is None:
                raise
            raise RunRefused(
                f"the server at {self.page} accepts no subscription: {reason}. Check for a proxy that changes requests, "
                "and for a server of another version"
            ) from error

    async def _messages(self, query: str, variables: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        async with connect(f"ws://{self._host}/graphql", subprotocols=[TRANSPORT], proxy=None) as socket:
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
