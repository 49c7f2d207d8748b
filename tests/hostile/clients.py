"""Attacks of a client on the connections of a server."""

import asyncio
import json
import re
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.hostile.deployment import AttackedDeployment
from tests.hostile.report import AttackResult

SOCKETS = 1_100
"""More than one address or caller may open."""
MANY_SOCKETS = 3_000
"""Sockets of four callers, at four addresses, that a server must hold."""
PROBE_PATHS = ("/health", "/ping", "/livez", "/readyz", "/metrics", "/hooks/unknown")
SLOW_CLIENTS = 300
SLOW_S = 4.0
"""Seconds for which slow clients send and read."""
POST = b"POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
TRANSPORT = Subprotocol("graphql-transport-ws")
WATCH = json.dumps({"id": "1", "type": "subscribe", "payload": {"query": "subscription { runs { id } }"}})


async def open_many_sockets(target: AttackedDeployment) -> AttackResult:
    """Open more sockets than a caller may have, each with a subscription."""
    return AttackResult(await _hold_sockets(target, SOCKETS, lambda _: target.headers()))


async def _hold_sockets(
    target: AttackedDeployment, count: int, headers: Callable[[int], dict[str, str]]
) -> Counter[str]:
    """Open sockets with a subscription each, and close them when all are open. Returns what became of them."""
    statuses: Counter[str] = Counter()
    release = asyncio.Event()
    limit = asyncio.Semaphore(50)

    async def hold(number: int) -> None:
        async with limit:
            socket = await connect(
                f"ws://127.0.0.1:{target.port}/graphql",
                subprotocols=[TRANSPORT],
                proxy=None,
                open_timeout=60,
                additional_headers=headers(number),
            )
        async with socket:
            try:
                await socket.send('{"type": "connection_init"}')
                await socket.recv()
                await socket.send(WATCH)
                statuses["open"] += 1
            except ConnectionClosed as closed:
                statuses[f"close code {closed.rcvd.code if closed.rcvd else 'none'}"] += 1
            if statuses.total() == count:
                release.set()
            await release.wait()

    await asyncio.gather(*map(hold, range(count)))
    return statuses


async def open_sockets_again_and_again(target: AttackedDeployment) -> AttackResult:
    """Open 3,000 sockets of several callers and addresses, three times. The memory may not grow each time."""

    def headers(number: int) -> dict[str, str]:
        crowd = number % 4
        return target.headers(f"crowd {crowd}") | {"x-forwarded-for": f"198.51.100.{crowd}"}

    statuses, sizes, pid = Counter[str](), list[int](), target.system.processes[0].pid
    for _ in range(3):
        statuses += await _hold_sockets(target, MANY_SOCKETS, headers)
        sizes.append(_resident_mb(pid))
    shown = " → ".join(f"{size} MB" for size in sizes)
    grows = sizes[2] - sizes[1] > 0.1 * sizes[1]
    return AttackResult(statuses + Counter({shown: 1}), len(sizes), [f"the memory grows: {shown}"] if grows else [])


def _resident_mb(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


async def flood_the_probes(target: AttackedDeployment) -> AttackResult:
    """Request what counts for no limit, without signing in, on 64 connections as fast as possible."""
    statuses: Counter[str] = Counter()
    ends_at = time.monotonic() + SLOW_S

    async def flood(path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        while time.monotonic() < ends_at:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            size = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            assert size is not None, head
            await reader.readexactly(int(size[1]))
            statuses[f"{path} {head.split()[1]}"] += 1
        writer.close()

    await asyncio.gather(*(flood(PROBE_PATHS[number % len(PROBE_PATHS)]) for number in range(64)))
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
