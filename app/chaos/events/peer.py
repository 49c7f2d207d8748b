"""An HTTP server beside the system under test. No fault is injected into it.

`GET /items?after=N` is the list that a `poll` asks. `POST /messages` is the endpoint of notifications.
It refuses the first attempt of some messages, so that retries are part of the test.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from engine.triggers.webhook import SignatureVerdict, WebhookMessage, WebhookSignature, verify

KEY = "a-key-of-the-chaos-suite"
REFUSED_SHARE = 0.05
"""Share of the messages whose first attempt is refused."""
_PAGE = 50
"""Items of one response."""


@dataclass(slots=True)
class EventPeer:
    """The state of the server.

    Attributes:
        items: The number of items that the list has.
        messages: The accepted messages: (run id, type), by message id.
        repeated: Number of accepted messages that came again.
        invalid: Messages with an invalid signature, as text.
    """

    rng: Random
    port: int = 0
    items: int = 0
    messages: dict[str, tuple[str, str]] = field(default_factory=dict)
    repeated: int = 0
    invalid: list[str] = field(default_factory=list)
    _refused: set[str] = field(default_factory=set)

    async def list_items(self, request: Request) -> JSONResponse:
        after = int(request.query_params["after"])
        numbers = range(after + 1, min(self.items, after + _PAGE) + 1)
        return JSONResponse([{"id": item_key(number), "number": number} for number in numbers])

    async def receive(self, request: Request) -> Response:
        body = await request.body()
        message_id = request.headers.get("webhook-id", "")
        if (verdict := _verdict(request, body)) is not SignatureVerdict.VALID:
            self.invalid.append(f"{message_id}: {verdict}")
            return Response(status_code=401)
        if self._refuses(message_id):
            return Response(status_code=503)
        message: dict[str, Any] = orjson.loads(body)
        self.repeated += message_id in self.messages
        self.messages[message_id] = message["data"]["runId"], message["type"]
        return Response(status_code=204)

    def _refuses(self, message_id: str) -> bool:
        if message_id in self.messages or message_id in self._refused or self.rng.random() >= REFUSED_SHARE:
            return False
        self._refused.add(message_id)
        return True


def item_key(number: int) -> str:
    return f"item-{number}"


def _verdict(request: Request, body: bytes) -> SignatureVerdict:
    """Check a signature as of its own time, because the clock of one worker is wrong."""
    try:
        now = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
    except (KeyError, ValueError):
        return SignatureVerdict.MISSING
    signature = WebhookSignature.model_validate({"kind": "standard", "secret": "chaos"})
    return verify(signature, KEY, WebhookMessage("POST", dict(request.headers), {}, body), now)[0]


class PeerServer(uvicorn.Server):
    """Leaves the signals of the process to the suite: Ctrl-C ends everything."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@asynccontextmanager
async def event_peer(rng: Random) -> AsyncIterator[EventPeer]:
    """Run the server on a free port for the duration of the block."""
    peer = EventPeer(rng)
    routes = [Route("/items", peer.list_items), Route("/messages", peer.receive, methods=["POST"])]
    config = uvicorn.Config(Starlette(routes=routes), lifespan="off", log_config=None, access_log=False)
    server = PeerServer(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer.port = listener.getsockname()[1]
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield peer
        finally:
            server.should_exit = True
            server.force_exit = True
            await task
