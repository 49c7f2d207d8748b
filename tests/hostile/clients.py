"""Attacks of a client on the connections of a server."""

import asyncio
import json
import time
from collections import Counter

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.hostile.deployment import AttackedDeployment
from tests.hostile.report import AttackResult

SOCKETS = 1_100
"""More than one address or caller may open."""
SLOW_CLIENTS = 300
SLOW_S = 4.0
"""Seconds for which slow clients send and read."""
POST = b"POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
TRANSPORT = Subprotocol("graphql-transport-ws")
WATCH = json.dumps({"id": "1", "type": "subscribe", "payload": {"query": "subscription { runs { id } }"}})


async def open_many_sockets(target: AttackedDeployment) -> AttackResult:
    """Open more sockets than a caller may have, each with a subscription."""
    statuses: Counter[str] = Counter()
    release = asyncio.Event()
    limit = asyncio.Semaphore(50)

    async def hold() -> None:
        async with limit:
            socket = await connect(
                f"ws://127.0.0.1:{target.port}/graphql",
                subprotocols=[TRANSPORT],
                proxy=None,
                open_timeout=60,
                additional_headers=target.headers(),
            )
        async with socket:
            try:
                await socket.send('{"type": "connection_init"}')
                await socket.recv()
                await socket.send(WATCH)
                statuses["open"] += 1
            except ConnectionClosed as closed:
                statuses[f"close code {closed.rcvd.code if closed.rcvd else 'none'}"] += 1
            if statuses.total() == SOCKETS:
                release.set()
            await release.wait()

    await asyncio.gather(*(hold() for _ in range(SOCKETS)))
    return AttackResult(statuses)


async def send_slowly(target: AttackedDeployment) -> AttackResult:
    """Send headers and bodies byte by byte, and read no answers, on 300 connections."""
    statuses: Counter[str] = Counter()
    query = "{ runs(first: 1000) { nodes { id status inputs output createdAt } } }"
    body = json.dumps({"query": query}).encode()
    token = target.headers()["authorization"].encode()
    head = POST + b"authorization: %s\r\ncontent-length: %d\r\n\r\n" % (token, len(body))

    async def drip(data: bytes) -> None:
        """Send some bytes at once, and then one byte at a time."""
        _, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=64)
        ends_at = time.monotonic() + SLOW_S
        try:
            for byte in data[-20:]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(SLOW_S / 20)
                if time.monotonic() > ends_at:
                    break
            statuses["slow request"] += 1
        except ConnectionError:
            statuses["reset"] += 1
        finally:
            writer.close()

    async def read_nothing() -> None:
        """Send a whole request, again and again, and read no answer."""
        _, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=64)
        try:
            for _ in range(20):
                writer.write(head + body)
                await asyncio.sleep(SLOW_S / 20)
            statuses["unread answers"] += 1
        except ConnectionError:
            statuses["reset"] += 1
        finally:
            writer.close()

    slow = [drip(POST) for _ in range(SLOW_CLIENTS // 2)] + [drip(head + body) for _ in range(SLOW_CLIENTS // 2)]
    await asyncio.gather(*slow, *(read_nothing() for _ in range(10)))
    return AttackResult(statuses)


async def send_large_headers(target: AttackedDeployment) -> AttackResult:
    """Send headers of 20 MB on 20 connections."""
    return await _send_all(target.port, [POST + b"x: " + b"a" * 20_000_000] * 20)


async def send_large_bodies(target: AttackedDeployment) -> AttackResult:
    """Announce and send bodies above the limit."""
    size = 20_000_000
    return await _send_all(target.port, [POST + b"content-length: %d\r\n\r\n" % size + b"a" * size] * 10)


async def send_no_http(target: AttackedDeployment) -> AttackResult:
    """Send bytes that are no HTTP."""
    requests = [b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", b"GET\r\n\r\n"] * 30
    return await _send_all(target.port, requests)


async def _send_all(port: int, requests: list[bytes]) -> AttackResult:
    return AttackResult(Counter(await asyncio.gather(*(_send(port, request) for request in requests))))


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
