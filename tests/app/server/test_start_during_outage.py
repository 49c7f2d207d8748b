"""A server or worker that starts during an outage of Postgres waits, or ends with one line."""

import asyncio
import os
import struct
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

STARTING_UP = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
REFUSAL = b"E" + struct.pack("!i", len(STARTING_UP) + 4) + STARTING_UP
START = "import persistence.db.transient; persistence.db.transient.START_S = {}; from app.cli.main import main; main()"


class PostgresProxy:
    """A proxy that accepts connections, then refuses some as a starting Postgres does."""

    def __init__(self, socket: str, accepted: int, refused: int) -> None:
        self._socket, self._accepted, self._refused = socket, accepted, refused
        self.count = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        try:
            if self._accepted < self.count <= self._accepted + self._refused:
                await reader.readexactly(struct.unpack("!i", await reader.readexactly(4))[0] - 4)
                writer.write(REFUSAL)
            else:
                server_reader, server_writer = await asyncio.open_unix_connection(self._socket)
                await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            return  # The client closed the connection first, as a refused one may.
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def starting(
    command: str, urls: tuple[str, str], accepted: int, refused: int, timeout_s: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    parts = urlsplit(urls[0])
    proxy = PostgresProxy(f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.{parts.port or 5432}", accepted, refused)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://{parts.username or 'postgres'}@127.0.0.1:{port}{parts.path}?sslmode=disable"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", START.format(timeout_s), command),
            env={**os.environ, "TREADLE_DATABASE_URL": url, "TREADLE_REDIS_URL": urls[1], "TREADLE_PORT": "0"},
            stdout=PIPE,
            stderr=STDOUT,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("command", ["server", "worker"])
async def test_a_long_outage_ends_the_start_without_a_traceback(
    database_url: str, redis_url: str, command: str
) -> None:
    async def result_of(accepted: int) -> tuple[int | None, str]:
        async with starting(command, (database_url, redis_url), accepted, 10**6, 0.2) as process:
            async with asyncio.timeout(180):
                output = (await process.communicate())[0].decode()
            return process.returncode, output

    for code, output in await asyncio.gather(*map(result_of, range(4))):
        assert code, output
        assert "Traceback" not in output
        assert "the database system is starting up" in output
        assert ("cannot be reached" in output) ^ ("became unavailable during the start" in output), output


@pytest.mark.parametrize(("command", "ready"), [("server", "server.ready"), ("worker", "worker.ready")])
async def test_a_short_outage_delays_the_start(database_url: str, redis_url: str, command: str, ready: str) -> None:
    async with starting(command, (database_url, redis_url), 2, 3, 30) as process:
        assert process.stdout is not None
        output = ""
        async with asyncio.timeout(180):
            while ready not in output and (line := (await process.stdout.readline()).decode()):
                output += line
    assert ready in output, output
    assert [output.count(event) for event in ("start.away", "start.back")] == [1, 1]
