"""Paths of the test server that misbehave: they hang, drip, break off, never end, or lie."""

import asyncio
import gzip
import json
import zlib
from functools import cache

from tests.peers.http_paths import echo
from tests.peers.http_protocol import MIB, Peer, Request, Writer, answer, at, head


@at("/hang")
async def hang(peer: Peer, request: Request, writer: Writer) -> None:
    await request.reader.read(1)  # returns when the client closes the connection
    raise ConnectionResetError


@at("/hang-once")
async def hang_once(peer: Peer, request: Request, writer: Writer) -> None:
    """The first request never gets a response."""
    await (hang if peer.count("/hang-once") == 1 else echo)(peer, request, writer)


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


@at("/headers")
async def headers(peer: Peer, request: Request, writer: Writer) -> None:
    """Send headers that take long to parse: `many`, `large`, or parameters of a media type."""
    lines = {
        "many": [f"x-{number}: a" for number in range(6_000)],
        "large": [f"x: {'a' * 90_000}"],
        "media": [f"content-type: text/plain{';' * 90_000}"],
        "links": [f"link: {', <' * 30_000}"],
    }[request.one("kind")]
    head(writer, "content-length: 2", *lines)
    writer.write(b"{}")


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


@at("/closed")
async def closed(_: Peer, request: Request, writer: Writer) -> None:
    writer.close()


@at("/garbage")
async def garbage(_: Peer, request: Request, writer: Writer) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.0\r\n")
    await writer.drain()
    writer.close()


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
    """Return 64 MiB of zeros, compressed `layers` times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(b"\0" * MIB) for _ in range(64)) + packer.flush()
    for _ in range(layers - 1):
        packed = gzip.compress(packed)
    return packed


@at("/bomb")
async def gzip_bomb(_: Peer, request: Request, writer: Writer) -> None:
    layers = int(request.one("layers"))
    packed = bomb(layers)
    answer(writer, packed, media="text/plain", content_encoding=", ".join(["gzip"] * layers))


@cache
def members(count: int) -> bytes:
    """Return `count` empty gzip files, one after the other."""
    return gzip.compress(b"", mtime=0) * count


@at("/members")
async def gzip_members(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, members(int(request.one("count"))), media="text/plain", content_encoding="gzip")


@at("/cut-gzip")
async def cut_gzip(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, gzip.compress(b'{"packed": true}')[:-9], content_encoding="gzip")


CODINGS = {
    "raw-deflate": lambda data: zlib.compress(data, wbits=-15),
    "deflate": zlib.compress,
    "two-members": lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]),
    "identity": bytes,
}


@at("/coded")
async def coded(_: Peer, request: Request, writer: Writer) -> None:
    name = request.one("coding")
    body = CODINGS.get(name, gzip.compress)(b'{"packed": true}')
    answer(writer, body, content_encoding={"raw-deflate": "deflate", "two-members": "gzip"}.get(name, name))


@at("/not-gzip")
async def not_gzip(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"this is no gzip", content_encoding="gzip")


@at("/broken-utf8")
async def broken_utf8(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"abc\xff\xfe", media="text/plain; charset=utf-8")


@at("/not-json")
async def not_json(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"<html>no json</html>")


@at("/loop")
async def loop(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b"", "302 Round", location="/loop")


@at("/pages-in-a-circle")
async def circle(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b'{"data": [], "next": "/pages-in-a-circle"}')


@at("/pages-for-ever")
async def for_ever(peer: Peer, request: Request, writer: Writer) -> None:
    number = peer.count("/pages-for-ever")
    answer(writer, json.dumps({"data": ["x" * 1000], "next": f"/pages-for-ever?n={number}"}).encode())
