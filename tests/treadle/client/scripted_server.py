"""A server that sends prepared responses, one for each request, and records the requests."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

LOST = "the connection is closed without a response"


@dataclass
class ScriptedServer:
    """Sends one response for each request. The last one is repeated.

    Attributes:
        requests: The headers, by name in lower case, and the body of each request.
    """

    responses: Sequence[str]
    url: str = ""
    requests: list[tuple[dict[str, str], Any]] = field(default_factory=list)

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        number = min(len(self.requests), len(self.responses) - 1)
        self.requests.append((headers, json.loads(body)))
        if self.responses[number] != LOST:
            writer.write(self.responses[number].encode())
        writer.close()


def response(status: int, body: Any = None, *, kind: str = "application/json", **headers: str) -> str:
    """Create a response with a JSON body, or with a text."""
    text = body if isinstance(body, str) else json.dumps(body)
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n{extra}\r\n{text}"


def refused(code: str, status: int = 200, retry_after_s: float | None = None, **headers: str) -> str:
    """Create a response with one top-level error."""
    extensions = {"code": code} | ({} if retry_after_s is None else {"retryAfterS": retry_after_s})
    return response(status, {"errors": [{"message": f"It is {code}.", "extensions": extensions}]}, **headers)


def stream(*messages: Any, is_complete: bool = False) -> str:
    """Create an event stream that ends after these messages."""
    events = [f"event: next\ndata: {json.dumps(message)}\n\n" for message in messages]
    text = "".join([": connected\n\n", *events, "event: complete\ndata: \n\n" if is_complete else ""])
    # Without a length, the end of the connection ends the stream.
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{text}"


@asynccontextmanager
async def scripted(*responses: str) -> AsyncIterator[ScriptedServer]:
    """Run a server for the duration of the block."""
    scripted_server = ScriptedServer(responses)
    async with await asyncio.start_server(scripted_server.respond, "127.0.0.1", 0) as server:
        scripted_server.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/graphql"
        yield scripted_server
