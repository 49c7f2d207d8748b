"""The parts of the HTTP test server: requests, responses, and the behaviours by path."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

MIB = 1024 * 1024


@dataclass
class Request:
    """A request that the server has received."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader

    def one(self, name: str) -> str:
        """Return the first value of a query parameter."""
        return self.query[name][0]


@dataclass
class Peer:
    """The state of a test server.

    `seen` are the requests so far, and `more` notifies of each. `left` is set when a client closes a
    connection before its response is complete. `written` counts bytes of large bodies. `document` and
    `media` are the response of `/list`.
    """

    port: int = 0
    seen: list[Request] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    more: asyncio.Condition = field(default_factory=asyncio.Condition)
    written: int = 0
    document: bytes = b"[]"
    media: str = "application/json"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def elsewhere(self) -> str:
        """The same server under another name, so that it is another origin."""
        return f"http://localhost:{self.port}"

    def count(self, path: str) -> int:
        return sum(request.path == path for request in self.seen)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the requests fulfil a condition. Raises TimeoutError after 60 s."""
        async with asyncio.timeout(60), self.more:
            await self.more.wait_for(condition)


Writer = asyncio.StreamWriter
Behaviour = Callable[[Peer, Request, Writer], Awaitable[None]]
BEHAVIOURS: dict[str, Behaviour] = {}


def at(path: str) -> Callable[[Behaviour], Behaviour]:
    """Register a behaviour for a path."""

    def register(behaviour: Behaviour) -> Behaviour:
        BEHAVIOURS[path] = behaviour
        return behaviour

    return register


def answer(
    writer: Writer, body: bytes, status: str = "200 OK", media: str = "application/json", **headers: str
) -> None:
    """Write a complete response."""
    all_headers = {"content-type": media, "content-length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in all_headers.items())
    writer.write(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)


def head(writer: Writer, *lines: str) -> None:
    """Write the status line and the headers of a response; the body follows."""
    writer.write(("HTTP/1.1 200 OK\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode())
