"""An HTTP server on loopback that behaves, and misbehaves, as its path says. It writes bytes, so that it can lie."""

import asyncio
import gzip
import json
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import parse_qs, unquote, urlsplit

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


@at("/echo")
async def echo(_: Peer, request: Request, writer: Writer) -> None:
    told = {"method": request.method, "query": request.query, "headers": request.headers}
    answer(writer, json.dumps({**told, "body": request.body.decode("utf-8", "replace")}).encode())


@at("/text")
async def text(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, "grüße".encode("latin-1"), media="text/plain; charset=iso-8859-1")


@at("/bytes")
async def some_bytes(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"\x00\x01\xff", media="image/png")


@at("/empty")
async def empty(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"")


@at("/as")
async def as_media(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, request.body, media=request.one("media"))


@at("/broken-utf8")
async def broken_utf8(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"abc\xff\xfe", media="text/plain; charset=utf-8")


@at("/not-json")
async def not_json(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"<html>no json</html>")


@at("/hang")
async def hang(peer: Peer, request: Request, writer: Writer) -> None:
    await request.reader.read(1)  # nothing more comes but the end
    raise ConnectionResetError


@at("/drip")
async def drip(peer: Peer, request: Request, writer: Writer) -> None:
    head(writer, "content-type: text/plain", "content-length: 50000")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.02)


@at("/babble")
async def babble(peer: Peer, request: Request, writer: Writer) -> None:
    head(writer, "content-type: text/plain", "transfer-encoding: chunked")
    while True:
        writer.write(b"3\r\nbla\r\n")
        await writer.drain()
        await asyncio.sleep(0.002)


@at("/drip-headers")
async def drip_headers(peer: Peer, request: Request, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.02)


@at("/endless-headers")
async def endless_headers(peer: Peer, request: Request, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


@at("/short")
async def short(_: Peer, request: Request, writer: Writer) -> None:
    head(writer, "content-length: 100")
    writer.write(b"only this")
    await writer.drain()
    writer.close()


@at("/long")
async def long(_: Peer, request: Request, writer: Writer) -> None:
    head(writer, "content-type: application/json", "content-length: 2")
    writer.write(b"{}HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned")


@at("/gib")
async def gib(peer: Peer, request: Request, writer: Writer) -> None:
    head(writer, "content-type: application/octet-stream", "transfer-encoding: chunked")
    block = f"{MIB:x}\r\n".encode() + b"\0" * MIB + b"\r\n"
    for _ in range(1024):
        writer.write(block)
        await writer.drain()
        peer.written += MIB


@at("/gib-announced")
async def gib_announced(peer: Peer, request: Request, writer: Writer) -> None:
    head(writer, f"content-length: {1024 * MIB}")
    for _ in range(1024):
        writer.write(b"\0" * MIB)
        await writer.drain()
        peer.written += MIB


@cache
def bomb(layers: int) -> bytes:
    """A GiB of nothing, packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(b"\0" * MIB) for _ in range(1024)) + packer.flush()
    for _ in range(layers - 1):
        packed = gzip.compress(packed)
    return packed


@at("/bomb")
async def gzip_bomb(_: Peer, request: Request, writer: Writer) -> None:
    layers = int(request.one("layers"))
    packed = bomb(layers)
    answer(writer, packed, media="text/plain", content_encoding=", ".join(["gzip"] * layers))


@at("/gzip")
async def gzipped(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, gzip.compress(b'{"packed": true}'), content_encoding="gzip")


@at("/not-gzip")
async def not_gzip(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"this is no gzip", content_encoding="gzip")


@at("/garbage")
async def garbage(_: Peer, request: Request, writer: Writer) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.0\r\n")
    await writer.drain()
    writer.close()


@at("/closed")
async def closed(_: Peer, request: Request, writer: Writer) -> None:
    writer.close()


@at("/status")
async def status(_: Peer, request: Request, writer: Writer) -> None:
    headers = {"retry_after": request.one("after")} if "after" in request.query else {}
    answer(writer, b'{"said": "why"}', f"{request.one('code')} Told", **headers)


@at("/flaky")
async def flaky(peer: Peer, request: Request, writer: Writer) -> None:
    """Fails `times` times with `code`, and then answers."""
    if peer.count("/flaky") <= int(request.one("times")):
        await status(peer, request, writer)
    else:
        await echo(peer, request, writer)


@at("/to")
async def redirect(_: Peer, request: Request, writer: Writer) -> None:
    code = request.query.get("code", ["302"])[0]
    answer(writer, b"", f"{code} Elsewhere", location=request.one("url"), set_cookie="seen=1; Path=/")


@at("/loop")
async def loop(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"", "302 Round", location="/loop")


@at("/pages")
async def pages(_: Peer, request: Request, writer: Writer) -> None:
    """Three pages, told of in all the ways there are."""
    number = int(request.query.get("page", request.query.get("cursor", ["1"]))[0])
    last = number == 3
    body = {
        "data": [f"{number}a", f"{number}b"],
        "next": None if last else f"/pages?page={number + 1}",
        "cursor": number + 1,
    }
    if last:
        body["cursor"] = None
    headers = {} if last else {"link": f'</pages?page={number + 1}>; rel="next"'}
    answer(writer, json.dumps(body).encode(), **headers)


@at("/pages-in-a-circle")
async def circle(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b'{"data": [], "next": "/pages-in-a-circle"}')


@at("/pages-for-ever")
async def for_ever(peer: Peer, request: Request, writer: Writer) -> None:
    number = peer.count("/pages-for-ever")
    answer(writer, json.dumps({"data": ["x" * 1000], "next": f"/pages-for-ever?n={number}"}).encode())


@at("/enrich")
async def enrich(peer: Peer, request: Request, writer: Writer) -> None:
    """What a directory would say: busy at first, and nothing of those whom it does not know."""
    if peer.count("/enrich") == 1:
        answer(writer, b"", "503 Busy", retry_after="0")
    elif request.one("email") == "ann@example.com":
        answer(writer, json.dumps({"company": "Example Ltd", "employees": 120}).encode())
    else:
        answer(writer, b'{"error": "unknown"}', "404 Not Found")


@at("/leads")
async def leads(peer: Peer, request: Request, writer: Writer) -> None:
    """Takes a lead; one with a key that it has seen is the same one."""
    keys = [one.headers["idempotency-key"] for one in peer.seen if one.path == "/leads"]
    number = list(dict.fromkeys(keys)).index(request.headers["idempotency-key"]) + 1
    answer(writer, json.dumps({"lead": number, **json.loads(request.body)}).encode(), "201 Created")


@at("/hang-once")
async def hang_once(peer: Peer, request: Request, writer: Writer) -> None:
    """The first who asks waits for ever."""
    await (hang if peer.count("/hang-once") == 1 else echo)(peer, request, writer)


async def _serve(peer: Peer, reader: asyncio.StreamReader, writer: Writer) -> None:
    try:
        while not writer.is_closing():
            request = await _read(reader)
            peer.seen.append(request)
            peer.arrived.set()
            await BEHAVIOURS[request.path](peer, request, writer)
            await writer.drain()
    except asyncio.IncompleteReadError:
        pass  # the client is done
    except ConnectionError:
        peer.left.set()
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    return Request(method, unquote(parts.path), parse_qs(parts.query), headers, body, reader)


@asynccontextmanager
async def http_peer(tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A peer for one test; every connection is closed with it."""
    peer, serving = Peer(), set[asyncio.Task[None]]()

    async def connected(reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        task.add_done_callback(serving.discard)
        with suppress(asyncio.CancelledError):  # the test is over
            await _serve(peer, reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        ending = list(serving)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
