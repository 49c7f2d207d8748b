"""A client of the API, as anybody could write one: operations over HTTP, one subscription over graphql-transport-ws."""

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
AWAY = (OSError, WebSocketException)
"""The server is away, or cannot serve just now: worth another try."""
PASSING = (408, 425, 429)
"""Of 4xx, those that say: later."""
TIMED_OUT = 4408


class RunRefused(Exception):
    """The server does not take what is asked, or is not there; the message says why."""


class Unanswered(RunRefused):
    """The server is away, or cannot serve just now."""


class Client:
    """For the server at `host` (`127.0.0.1:8000`)."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.page = f"http://{host}/graphql"

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer's data. Raises RunRefused, and Unanswered where it is worth another try."""
        try:
            async with plain_client(timeout_s=30) as client:
                response = await client.post(self.page, json={"query": query, "variables": variables})
        except httpx.TransportError as wrong:
            raise Unanswered(
                f"nothing answers at {self.page} ({wrong or type(wrong).__name__}): is `treadle up` running there? "
                "Another port goes by --port"
            ) from wrong
        try:
            answer = response.json()
            errors = answer.get("errors")
        except (ValueError, AttributeError) as wrong:
            if _passes(response.status_code):
                raise Unanswered(f"{self.page} answers HTTP {response.status_code}") from wrong
            raise RunRefused(f"what answers at {self.page} is no Treadle: choose its port by --port") from wrong
        if errors:
            kind = Unanswered if _is_away(errors) else RunRefused
            raise kind("; ".join(error["message"] for error in errors))
        data: dict[str, Any] = answer["data"]
        return data

    async def subscribe(self, query: str, **variables: Any) -> AsyncGenerator[dict[str, Any], None]:
        """The data of each message. Raises one of AWAY where it is worth another try, else RunRefused."""
        try:
            async with aclosing(self._messages(query, variables)) as messages:
                async for data in messages:
                    yield data
        except WebSocketException as wrong:
            if (why := _refusal(wrong)) is None:
                raise
            raise RunRefused(
                f"the server at {self.page} takes no subscription: {why}. Does something between change what it is sent, "
                "and is it a Treadle of this version?"
            ) from wrong

    async def _messages(self, query: str, variables: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        async with connect(f"ws://{self._host}/graphql", subprotocols=[TRANSPORT], proxy=None) as socket:
            await socket.send(orjson.dumps({"type": "connection_init"}).decode())
            async for raw in socket:
                message = orjson.loads(raw)
                if message["type"] == "connection_ack":
                    request = {"query": query, "variables": variables}
                    await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": request}).decode())
                elif message["type"] == "next":
                    _check(message["payload"].get("errors"))
                    yield message["payload"]["data"]
                elif message["type"] == "error":
                    _check(message["payload"])
                elif message["type"] == "complete":
                    return


def _passes(status: int) -> bool:
    return status >= 500 or status in PASSING


def _refusal(wrong: WebSocketException) -> str | None:
    """Why there is no use in another try; None where there may be."""
    if isinstance(wrong, InvalidStatus):
        status = wrong.response.status_code
        return None if _passes(status) else f"it answers HTTP {status}"
    if isinstance(wrong, NegotiationError):
        return f"it does not speak {TRANSPORT}"
    if isinstance(wrong, ConnectionClosed) and wrong.rcvd is not None:
        is_final = 4400 <= wrong.rcvd.code < 4500 and wrong.rcvd.code != TIMED_OUT
        return f"it closes with {wrong.rcvd.code} {wrong.rcvd.reason}".rstrip(" .") if is_final else None
    return None


def _check(errors: list[dict[str, Any]] | None) -> None:
    if not errors:
        return
    if _is_away(errors):
        raise ConnectionError(errors[0]["message"])
    raise RunRefused(errors[0]["message"])


def _is_away(errors: list[dict[str, Any]]) -> bool:
    return any(error.get("extensions", {}).get("code") == "UNAVAILABLE" for error in errors)
