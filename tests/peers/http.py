"""An HTTP server on loopback whose paths select a behaviour.

It writes raw bytes, so that its responses can violate the protocol.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, unquote, urlsplit

from tests.peers import http_paths as http_paths  # registers paths that behave
from tests.peers import misbehaving_http as misbehaving_http  # registers paths that misbehave
from tests.peers.http_protocol import BEHAVIOURS, Peer, Request, Writer


async def _serve(peer: Peer, reader: asyncio.StreamReader, writer: Writer) -> None:
    try:
        while not writer.is_closing():
            request = await _read(reader)
            peer.seen.append(request)
            async with peer.more:
                peer.more.notify_all()
            await BEHAVIOURS[request.path](peer, request, writer)
            await writer.drain()
    except asyncio.IncompleteReadError:
        pass  # the client has closed the connection between two requests
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
    """Start a server for one test; all connections are closed at the end."""
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
