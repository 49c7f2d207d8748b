"""What waits for clients that do not read is bounded, over all connections of a server."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from app.server.write_buffers import BoundedWrites, WriteBuffers

MIB = 1024 * 1024
SMALL = 64 * 1024
MESSAGE = b"x" * (2 * MIB)


class Sender(BoundedWrites, asyncio.Protocol):
    """Sends one large message to every client that connects."""

    def __init__(self, buffers: WriteBuffers, lost: "asyncio.Queue[Exception | None]") -> None:
        self.buffers, self._lost = buffers, lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # The buffer of the kernel does not count, so it is small here.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        transport.write(MESSAGE)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost.put_nowait(exc)


class Server:
    """A server with bounded buffers, and the ends of its connections."""

    def __init__(self, max_bytes: int, stalled_s: float) -> None:
        self.buffers, self.lost = WriteBuffers(max_bytes, stalled_s), asyncio.Queue[Exception | None]()

    async def start(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        self.listener = await loop.create_server(lambda: Sender(self.buffers, self.lost), "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self.listener


async def stalled_client(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, and read only the first byte."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    await reader.readexactly(1)
    return reader, writer


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    server = Server(*request.param)
    async with await server.start():
        yield server


@pytest.mark.parametrize("server", [(6 * MIB, 60.0)], indirect=True)
async def test_the_connections_that_are_stalled_the_longest_end_above_the_limit(server: Server) -> None:
    clients = []
    for _ in range(12):
        clients.append(await stalled_client(server.port))
        assert server.buffers.size <= 6 * MIB
    for _ in range(12 - 6 * MIB // len(MESSAGE) - 1):
        await asyncio.wait_for(server.lost.get(), 10)
    # The newest client gets everything as soon as it reads.
    reader, _ = clients[-1]
    assert len(await reader.readexactly(len(MESSAGE) - 1)) == len(MESSAGE) - 1
    for _, writer in clients:
        writer.close()


@pytest.mark.parametrize("server", [(64 * MIB, 0.05)], indirect=True)
async def test_a_connection_that_stays_stalled_ends(server: Server) -> None:
    _, writer = await stalled_client(server.port)
    await asyncio.wait_for(server.lost.get(), 10)
    assert server.buffers.size == 0
    writer.close()
