"""Embedded servers keep data, recover from crashes, and leave permissions of folders unchanged."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app.embedded import servers as embedded
from app.embedded.servers import in_use, postgres, redis, servers
from app.errors import EmbeddedError

RUN_SERVERS = """
import sys, pathlib
from app.embedded.servers import servers
with servers(pathlib.Path(sys.argv[1]), durable=False) as urls:
    print(urls[0], flush=True)
    sys.stdin.read()
"""

STAY_CONNECTED = """
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


async def test_postgres_keeps_data_between_starts(open_folder: Path) -> None:
    data = open_folder / "data"
    with postgres(data, durable=False) as store:
        await run_sql(store.url, "CREATE TABLE stored AS SELECT 7 AS value")
    with postgres(data, durable=False) as store:
        assert await run_sql(store.url, "SELECT value FROM stored") == 7


async def test_a_kill_ends_the_servers_and_the_next_start_recovers(open_folder: Path) -> None:
    with subprocess.Popen(  # noqa: ASYNC220 (nothing else runs here)
        [sys.executable, "-c", RUN_SERVERS, open_folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        stale = [(open_folder / name).resolve() for name in ("postgres.sockets", "redis.sockets")]
        await run_sql(url, "CREATE TABLE stored AS SELECT 7 AS value")
        assert in_use(open_folder) is not None
        owner.kill()
    with servers(open_folder, durable=False) as (url, _):
        assert await run_sql(url, "SELECT value FROM stored") == 7
    assert not any(path.exists() for path in stale)


def test_a_link_in_the_data_folder_removes_no_folder_of_others(open_folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "treadle-backups"
    elsewhere.mkdir()
    with tempfile.TemporaryDirectory(prefix="treadle-") as name:
        in_use_by_others = Path(name) / "backup"
        in_use_by_others.write_text("data")
        for target in (elsewhere, Path(name), Path(name) / "absent"):
            (open_folder / "redis.sockets").symlink_to(target)
            with redis(open_folder):
                pass
        assert in_use_by_others.read_text() == "data"
    assert elsewhere.is_dir()


def test_a_second_start_on_a_folder_logs_that_it_waits_and_then_fails(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it logged nothing for twenty seconds."""
    monkeypatch.setattr(embedded, "LOCK_S", 0.2)
    error = pytest.raises(EmbeddedError, match=r"already runs on .*--data-dir")
    with redis(open_folder), capture_logs() as logs, error, redis(open_folder):
        pass
    assert [(line["event"], line["store"]) for line in logs] == [("up.waiting", "Redis")]


async def test_a_stale_pid_file_with_the_number_of_a_live_process_does_not_prevent_a_start(open_folder: Path) -> None:
    with postgres(open_folder, durable=False):
        pass
    (open_folder / "postgres" / "cluster" / "postmaster.pid").write_text(f"{os.getppid()}\n")
    with postgres(open_folder, durable=False) as store:
        assert await run_sql(store.url, "SELECT 1") == 1


async def test_an_incomplete_initdb_is_removed(open_folder: Path) -> None:
    data = open_folder / "postgres"
    (data / "new").mkdir(parents=True)
    (data / "new" / "PG_VERSION").write_text("18")
    with postgres(open_folder, durable=False) as store:
        assert await run_sql(store.url, "SELECT 1") == 1


async def test_environment_variables_for_another_postgres_are_ignored(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATABASE", "elsewhere")
    with postgres(open_folder, durable=False):
        assert (open_folder / "postgres.sockets" / ".s.PGSQL.5432").exists()


def test_an_inaccessible_folder_is_reported_and_stays_inaccessible(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir()
    # If this is root, Postgres runs as another user, to whom 0700 denies access. Otherwise only
    # 0000 does.
    closed.chmod(0o700 if os.geteuid() == 0 else 0o000)
    before = mode(closed), mode(open_folder)
    with pytest.raises(EmbeddedError, match=r"cannot (access|be created)"), postgres(closed / "data"):
        pass
    assert (mode(closed), mode(open_folder)) == before
    closed.chmod(0o700)


def test_other_users_cannot_access_the_data(open_folder: Path) -> None:
    with servers(open_folder / "data", durable=False):
        assert mode(open_folder / "data" / "postgres") == 0o700
        assert mode((open_folder / "data" / "redis.sockets").resolve()) == 0o700
    assert list((open_folder / "data").glob("*.sockets")) == []


async def test_redis_responds_and_keeps_no_data(open_folder: Path) -> None:
    with redis(open_folder) as store:
        async with Redis.from_url(store.url) as client:
            await client.set("key", "value")
    with redis(open_folder) as store:
        async with Redis.from_url(store.url) as client:
            assert await client.get("key") is None


def test_a_failed_start_reports_the_end_of_the_log(open_folder: Path) -> None:
    with postgres(open_folder, durable=False):
        pass
    with (open_folder / "postgres" / "cluster" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match="no_such_setting"), postgres(open_folder, durable=False):
        pass


def test_a_stop_does_not_wait_for_connected_clients(open_folder: Path) -> None:
    with postgres(open_folder, durable=False) as store:
        client = subprocess.Popen([sys.executable, "-c", STAY_CONNECTED, store.url], stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        assert client.stdout.readline() == "connected\n"
    client.communicate(timeout=60)
    assert client.returncode == 0
