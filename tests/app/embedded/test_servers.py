"""The embedded servers keep what they should, take a crash, and leave other people's folders alone."""

import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app.embedded import servers as embedded
from app.embedded.servers import in_use, postgres, redis, servers
from app.errors import EmbeddedError

HOLD = """
import sys, pathlib
from app.embedded.servers import servers
with servers(pathlib.Path(sys.argv[1]), durable=False) as urls:
    print(urls[0], flush=True)
    sys.stdin.read()
"""

CONNECTED = """
import asyncio, sys, asyncpg
async def stay():
    ended = asyncio.Event()
    connection = await asyncpg.connect(sys.argv[1])
    connection.add_termination_listener(lambda _: ended.set())
    print("connected", flush=True)
    await ended.wait()
asyncio.run(stay())
"""


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def run_sql(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_data_stays_between_starts(open_folder: Path) -> None:
    data = open_folder / "data"
    with postgres(data, durable=False) as store:
        await run_sql(store.url, "CREATE TABLE kept AS SELECT 7 AS value")
    with postgres(data, durable=False) as store:
        assert await run_sql(store.url, "SELECT value FROM kept") == 7


async def test_a_kill_takes_the_servers_along_and_the_next_start_recovers(open_folder: Path) -> None:
    with subprocess.Popen(  # noqa: ASYNC220 (nothing else runs here)
        [sys.executable, "-c", HOLD, open_folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        url = holder.stdout.readline().strip()
        left = [(open_folder / name).resolve() for name in ("postgres.sockets", "redis.sockets")]
        await run_sql(url, "CREATE TABLE kept AS SELECT 7 AS value")
        assert in_use(open_folder) is not None
        holder.kill()
    with servers(open_folder, durable=False) as (url, _):
        assert await run_sql(url, "SELECT value FROM kept") == 7
    assert not any(path.exists() for path in left)


def test_a_second_start_on_a_folder_says_at_once_that_it_waits_and_then_why_it_cannot(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once said nothing for twenty seconds."""
    monkeypatch.setattr(embedded, "LOCK_S", 0.2)
    refused = pytest.raises(EmbeddedError, match=r"already runs on .*--data-dir")
    with redis(open_folder), capture_logs() as told, refused, redis(open_folder):
        pass
    assert [(line["event"], line["store"]) for line in told] == [("up.waiting", "Redis")]


async def test_a_pid_file_with_the_number_of_somebody_alive_is_no_hindrance(open_folder: Path) -> None:
    with postgres(open_folder, durable=False):
        pass
    (open_folder / "postgres" / "cluster" / "postmaster.pid").write_text(f"{os.getppid()}\n")
    with postgres(open_folder, durable=False) as store:
        assert await run_sql(store.url, "SELECT 1") == 1


async def test_half_an_initdb_is_thrown_away(open_folder: Path) -> None:
    data = open_folder / "postgres"
    (data / "new").mkdir(parents=True)
    (data / "new" / "PG_VERSION").write_text("18")
    with postgres(open_folder, durable=False) as store:
        assert await run_sql(store.url, "SELECT 1") == 1


async def test_variables_for_another_postgres_do_not_lead_astray(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATABASE", "elsewhere")
    with postgres(open_folder, durable=False):
        assert (open_folder / "postgres.sockets" / ".s.PGSQL.5432").exists()


def test_a_folder_that_cannot_be_reached_is_told_and_left_closed(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir()
    # Root lends Postgres another user, whom 0700 keeps out; for anybody else it takes 0000.
    closed.chmod(0o700 if os.geteuid() == 0 else 0o000)
    before = mode(closed), mode(open_folder)
    with pytest.raises(EmbeddedError, match=r"cannot (reach|be made)"), postgres(closed / "data"):
        pass
    assert (mode(closed), mode(open_folder)) == before
    closed.chmod(0o700)


def test_the_data_is_closed_to_others(open_folder: Path) -> None:
    with servers(open_folder / "data", durable=False):
        assert mode(open_folder / "data" / "postgres") == 0o700
        assert mode((open_folder / "data" / "redis.sockets").resolve()) == 0o700
    assert list((open_folder / "data").glob("*.sockets")) == []


async def test_redis_answers_and_keeps_nothing(open_folder: Path) -> None:
    with redis(open_folder) as store:
        async with Redis.from_url(store.url) as client:
            await client.set("key", "value")
    with redis(open_folder) as store:
        async with Redis.from_url(store.url) as client:
            assert await client.get("key") is None


def test_a_server_that_does_not_start_shows_the_end_of_its_log(open_folder: Path) -> None:
    with postgres(open_folder, durable=False):
        pass
    with (open_folder / "postgres" / "cluster" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match="no_such_setting"), postgres(open_folder, durable=False):
        pass


def test_stopping_does_not_wait_for_who_is_connected(open_folder: Path) -> None:
    with postgres(open_folder, durable=False) as store:
        client = subprocess.Popen([sys.executable, "-c", CONNECTED, store.url], stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        assert client.stdout.readline() == "connected\n"
    client.communicate(timeout=60)
    assert client.returncode == 0
