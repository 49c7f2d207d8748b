"""What the peers that speak HTTP are made of: what they were asked, how they answer, and the paths they know."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

MIB = 1024 * 1024


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader

    def one(self, name: str) -> str:
        return self.query[name][0]


@dataclass
class Peer:
    """`seen` are the requests so far; `left` is set when a client closes a connection that it was not answered on."""

    port: int = 0
    seen: list[Request] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    written: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def elsewhere(self) -> str:
        """The same server by another name, which makes it another origin."""
        return f"http://localhost:{self.port}"

    def count(self, path: str) -> int:
        return sum(request.path == path for request in self.seen)


Writer = asyncio.StreamWriter
Behaviour = Callable[[Peer, Request, Writer], Awaitable[None]]
BEHAVIOURS: dict[str, Behaviour] = {}


def at(path: str) -> Callable[[Behaviour], Behaviour]:
    def register(behaviour: Behaviour) -> Behaviour:
        BEHAVIOURS[path] = behaviour
        return behaviour

    return register


def answer(
    writer: Writer, body: bytes, status: str = "200 OK", media: str = "application/json", **headers: str
) -> None:
    named = {"content-type": media, "content-length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    writer.write(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)


def head(writer: Writer, *lines: str) -> None:
    writer.write(("HTTP/1.1 200 OK\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode())
