"""Attacks of a client on the connections of a server. Each returns how it was refused."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

SOCKETS = 1_100
"""More than one address may open."""
POST = b"POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
ClientAttack = Callable[[int], Coroutine[Any, Any, Counter[str]]]


async def open_many_sockets(port: int) -> Counter[str]:
    """Open more sockets than an address may have, each with a subscription."""
    statuses: Counter[str] = Counter()
    release = asyncio.Event()
    limit = asyncio.Semaphore(50)

    async def hold() -> None:
        async with limit:
            socket = await connect(
                f"ws://127.0.0.1:{port}/graphql",
                subprotocols=[Subprotocol("graphql-transport-ws")],
                proxy=None,
                open_timeout=60,
            )
        async with socket:
            try:
                await socket.send('{"type": "connection_init"}')
                await socket.recv()
                statuses["open"] += 1
            except ConnectionClosed as closed:
                statuses[f"close code {closed.rcvd.code if closed.rcvd else 'none'}"] += 1
            if statuses.total() == SOCKETS:
                release.set()
            await release.wait()

    await asyncio.gather(*(hold() for _ in range(SOCKETS)))
    return statuses


async def send_large_headers(port: int) -> Counter[str]:
    """Send headers of 20 MB on 20 connections."""
    return await _send_all(port, [POST + b"x: " + b"a" * 20_000_000] * 20)


async def send_large_bodies(port: int) -> Counter[str]:
    """Announce and send bodies above the limit."""
    size = 20_000_000
    return await _send_all(port, [POST + b"content-length: %d\r\n\r\n" % size + b"a" * size] * 10)


async def send_no_http(port: int) -> Counter[str]:
    """Send bytes that are no HTTP."""
    return await _send_all(port, [b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", b"GET\r\n\r\n"] * 30)


async def _send_all(port: int, requests: list[bytes]) -> Counter[str]:
    return Counter(await asyncio.gather(*(_send(port, request) for request in requests)))


async def _send(port: int, request: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        line = await reader.readline()
        return f"HTTP {line.split()[1].decode()}" if line else "closed"
    except ConnectionError:
        return "reset"
    finally:
        writer.close()


CLIENT_ATTACKS: dict[str, ClientAttack] = {
    attack.__name__: attack for attack in (open_many_sockets, send_large_headers, send_large_bodies, send_no_http)
}
