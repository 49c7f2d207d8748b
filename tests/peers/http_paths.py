"""Paths of the test server that follow the protocol: echoes, redirects, pages, failures."""

import gzip
import hashlib
import json

from tests.peers.http_protocol import Peer, Request, Writer, answer, at


@at("/echo")
async def echo(_: Peer, request: Request, writer: Writer) -> None:
    received = {"method": request.method, "query": request.query, "headers": request.headers}
    answer(writer, json.dumps({**received, "body": request.body.decode("utf-8", "replace")}).encode())


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


@at("/gzip")
async def gzipped(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, gzip.compress(b'{"packed": true}'), content_encoding="gzip")


@at("/status")
async def status(_: Peer, request: Request, writer: Writer) -> None:
    headers = {"retry_after": request.one("after")} if "after" in request.query else {}
    answer(writer, b'{"said": "why"}', f"{request.one('code')} Refused", **headers)


@at("/flaky")
async def flaky(peer: Peer, request: Request, writer: Writer) -> None:
    """Fails `times` times with `code`, then echoes."""
    if peer.count("/flaky") <= int(request.one("times")):
        await status(peer, request, writer)
    else:
        await echo(peer, request, writer)


@at("/to")
async def redirect(_: Peer, request: Request, writer: Writer) -> None:
    code = request.query.get("code", ["302"])[0]
    answer(writer, b"", f"{code} Elsewhere", location=request.one("url"), set_cookie="seen=1; Path=/")


@at("/pages")
async def pages(_: Peer, request: Request, writer: Writer) -> None:
    """Three pages, linked by header, by address and by cursor."""
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


@at("/enrich")
async def enrich(peer: Peer, request: Request, writer: Writer) -> None:
    """A directory service: busy at first, and 404 for an unknown address."""
    if peer.count("/enrich") == 1:
        answer(writer, b"", "503 Busy", retry_after="0")
    elif request.one("email") == "ann@example.com":
        answer(writer, json.dumps({"company": "Example Ltd", "employees": 120}).encode())
    else:
        answer(writer, b'{"error": "unknown"}', "404 Not Found")


@at("/leads")
async def leads(peer: Peer, request: Request, writer: Writer) -> None:
    """Accepts a lead; a request with a known idempotency key is the same lead."""
    keys = [past.headers["idempotency-key"] for past in peer.seen if past.path == "/leads"]
    number = list(dict.fromkeys(keys)).index(request.headers["idempotency-key"]) + 1
    answer(writer, json.dumps({"lead": number, **json.loads(request.body)}).encode(), "201 Created")


@at("/list")
async def listed(peer: Peer, request: Request, writer: Writer) -> None:
    """Returns a document with an ETag, or 304 if the client has it."""
    etag = f'"{hashlib.sha256(peer.document).hexdigest()[:8]}"'
    if request.headers.get("if-none-match") == etag:
        answer(writer, b"", "304 Not Modified", etag=etag)
    else:
        answer(writer, peer.document, media=peer.media, etag=etag)
