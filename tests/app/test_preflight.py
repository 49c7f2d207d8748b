"""Preflight checks report an unusable store in one line: what is wrong, where, and what to do."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app.errors import StoreError
from app.preflight import check_stores, migrate_database, postgres_version, redis_version
from app.settings import Settings
from persistence.db.database import dsn
from persistence.db.migrate import NEWEST, revision
from tests.app.commands import Treadle
from tests.executor_worker import eventually


@asynccontextmanager
async def foreign_server() -> AsyncIterator[int]:
    """Run a server that speaks neither protocol, and yield its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def error_line(check: Awaitable[object]) -> str:
    """Await a check that fails, and return its message: one line without the password."""
    with pytest.raises(StoreError) as error:
        await check
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/app", "Postgres at 127.0.0.1:1 (database app) cannot be reached"),
        ("postgresql://me:hunter2@nowhere.invalid/app", "Postgres at nowhere.invalid:5432 (database app) cannot"),
        ("postgresql://me@/app?host=/nowhere", "Postgres at /nowhere (database app) cannot be reached (No such file"),
        ("postgresql://me:hunter2@host:hunter2/app", "TREADLE_DATABASE_URL is not a valid address"),
        ("postgresql:hunter2", "TREADLE_DATABASE_URL is not a valid address"),
    ],
)
async def test_an_unreachable_postgres_is_reported_with_its_location(url: str, start: str) -> None:
    line = await error_line(postgres_version(url))
    assert line.startswith(start)
    assert "TREADLE_DATABASE_URL" in line


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("redis://:hunter2@127.0.0.1:1/0", "Redis at 127.0.0.1:1 cannot be reached (Connection refused)"),
        ("redis://:hunter2@nowhere.invalid", "Redis at nowhere.invalid:6379 cannot be reached"),
        ("unix:///nowhere?password=hunter2", "Redis at /nowhere cannot be reached (No such file or directory)"),
        ("redis://:hunter2@host:hunter2/0", "TREADLE_REDIS_URL is not a valid address"),
    ],
)
async def test_an_unreachable_redis_is_reported_with_its_location(url: str, start: str) -> None:
    line = await error_line(redis_version(url))
    assert line.startswith(start)
    assert "TREADLE_REDIS_URL" in line


async def test_a_server_of_another_protocol_is_reported() -> None:
    async with foreign_server() as port:
        assert "cannot be reached" in await error_line(
            asyncio.ensure_future(postgres_version(f"postgresql://127.0.0.1:{port}/x"))
        )
        assert "Protocol error" in await error_line(redis_version(f"redis://127.0.0.1:{port}/0"))


async def test_a_missing_database_is_reported(embedded: tuple[str, str]) -> None:
    url = embedded[0].replace("/treadle?", "/nobody_made_it?")
    assert 'database "nobody_made_it" does not exist' in await error_line(postgres_version(url))


async def test_a_redis_that_requires_a_password_is_reported(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.acl_setuser("guarded", enabled=True, passwords=["+right"])
        path = redis_url.removeprefix("unix://").split("?")[0]
        line = await error_line(redis_version(f"unix://guarded:hunter2@{path}?db=0"))
        await redis.acl_deluser("guarded")
    assert re.match(r"Redis at /\S+ refuses the connection: .*password", line)


async def test_an_empty_database_is_reported_and_passes_after_a_migration(empty_url: str, redis_url: str) -> None:
    settings = Settings(database_url=empty_url, redis_url=redis_url)
    assert "run `treadle migrate` first" in await error_line(check_stores(settings))
    await migrate_database(empty_url)
    await check_stores(settings)


async def test_an_unavailable_redis_is_logged_and_does_not_prevent_a_start(database_url: str) -> None:
    with capture_logs() as logs:
        await check_stores(Settings(database_url=database_url, redis_url="redis://127.0.0.1:1/0"))
    (line,) = [entry["error"] for entry in logs if entry["event"] == "start.without_redis"]
    assert line.startswith("Redis at 127.0.0.1:1 cannot be reached (Connection refused)")


async def test_a_wrong_redis_address_prevents_a_start(database_url: str) -> None:
    async with foreign_server() as port:
        for url in (f"redis://127.0.0.1:{port}/0", "redis://nowhere.invalid"):
            settings = Settings(database_url=database_url, redis_url=url)
            assert "TREADLE_REDIS_URL" in await error_line(check_stores(settings))


async def test_a_database_of_a_newer_treadle_is_used_and_not_migrated(database_url: str, redis_url: str) -> None:
    """A release migrates first; processes of the previous release must be able to restart."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    await check_stores(Settings(database_url=database_url, redis_url=redis_url))
    line = await error_line(migrate_database(database_url))
    assert line.endswith(
        f"cannot be migrated: a newer Treadle has migrated it, to 9999, and this one knows {NEWEST} at most: use that "
        "release, or restore the backup that was made before the upgrade"
    )


async def test_missing_permission_to_create_tables_is_reported(empty_url: str) -> None:
    admin = await asyncpg.connect(empty_url)
    await admin.execute("CREATE ROLE onlooker LOGIN")
    line = await error_line(migrate_database(empty_url.replace("postgres@", "onlooker@")))
    await admin.execute("DROP ROLE onlooker")
    await admin.close()
    assert "cannot be migrated: permission denied for schema public" in line


async def test_an_address_may_contain_the_parameters_of_managed_databases(database_url: str) -> None:
    await postgres_version(f"{database_url}&sslmode=prefer")
    await migrate_database(f"{database_url}&sslmode=prefer")
    assert await revision(f"{database_url}&sslmode=prefer") == NEWEST


async def test_a_migration_that_is_killed_leaves_the_database_as_it_was(empty_url: str, treadle: Treadle) -> None:
    # An observer of its own: a transaction sees the activities of its begin.
    holder, observer = await asyncpg.connect(dsn(empty_url)), await asyncpg.connect(dsn(empty_url))
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    try:
        async with holder.transaction():
            # The migration has made tables by the time it makes its first trigger.
            await holder.execute("LOCK TABLE pg_trigger IN EXCLUSIVE MODE")
            process = treadle("migrate", TREADLE_DATABASE_URL=empty_url)
            await until(observer, f"{others} AND wait_event_type = 'Lock'", 1)
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.communicate)
        await until(observer, others, 1)
    finally:
        await holder.close()
        await observer.close()
    assert await revision(empty_url) is None
    await migrate_database(empty_url)
    assert await revision(empty_url) == NEWEST


async def until(connection: asyncpg.Connection, query: str, count: int) -> None:
    async def holds() -> bool:
        return bool(await connection.fetchval(query) == count)

    await eventually(holds, timeout_s=120)
