"""A server or a worker that starts in the moment in which Postgres does: it waits a while, and ends with one line."""

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


class Door:
    """Between a process and Postgres: lets connections in, or says that the database system is starting up."""

    def __init__(self, socket: str, let_in: int, refused: int) -> None:
        self._socket, self._let_in, self._refused = socket, let_in, refused
        self.count = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        try:
            if self._let_in < self.count <= self._let_in + self._refused:
                await reader.readexactly(struct.unpack("!i", await reader.readexactly(4))[0] - 4)
                writer.write(REFUSAL)
            else:
                behind, before = await asyncio.open_unix_connection(self._socket)
                await asyncio.gather(_copy(reader, before), _copy(behind, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # Whoever was refused need not wait for the end of it.
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def starting(
    command: str, urls: tuple[str, str], let_in: int, refused: int, patience_s: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    parts = urlsplit(urls[0])
    door = Door(f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.{parts.port or 5432}", let_in, refused)
    async with await asyncio.start_server(door.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://{parts.username or 'postgres'}@127.0.0.1:{port}{parts.path}?sslmode=disable"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", START.format(patience_s), command),
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
async def test_an_outage_that_lasts_ends_the_start_without_a_traceback(
    database_url: str, redis_url: str, command: str
) -> None:
    async def ended(let_in: int) -> tuple[int | None, str]:
        async with starting(command, (database_url, redis_url), let_in, 10**6, 0.2) as process:
            async with asyncio.timeout(60):
                said = (await process.communicate())[0].decode()
            return process.returncode, said

    for code, said in await asyncio.gather(*map(ended, range(4))):
        assert code, said
        assert "Traceback" not in said
        assert "the database system is starting up" in said
        assert ("cannot be reached" in said) ^ ("went away in the middle of the start" in said), said


@pytest.mark.parametrize(("command", "ready"), [("server", "server.ready"), ("worker", "worker.ready")])
async def test_an_outage_that_passes_is_waited_for(database_url: str, redis_url: str, command: str, ready: str) -> None:
    async with starting(command, (database_url, redis_url), 2, 3, 30) as process:
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(60):
            while ready not in said and (line := (await process.stdout.readline()).decode()):
                said += line
    assert ready in said, said
    assert said.count("start.waiting") == 3
