"""A store that is not there or not fit is told in one line before a process starts: what, where, and what to do."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app.errors import StoreError
from app.preflight import migrated, need_postgres, need_redis, need_stores
from app.settings import Settings
from persistence.db.migrate import NEWEST, revision


@asynccontextmanager
async def something_else() -> AsyncIterator[int]:
    """The port of a server that speaks neither protocol."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def told(asking: "asyncio.Future[object]") -> str:
    with pytest.raises(StoreError) as refused:
        await asking
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/app", "Postgres at 127.0.0.1:1 (database app) cannot be reached"),
        ("postgresql://me:hunter2@nowhere.invalid/app", "Postgres at nowhere.invalid:5432 (database app) cannot"),
        ("postgresql://me@/app?host=/nowhere", "Postgres at /nowhere (database app) cannot be reached (No such file"),
        ("postgresql://me:hunter2@host:hunter2/app", "TREADLE_DATABASE_URL cannot be read"),
        ("postgresql:hunter2", "TREADLE_DATABASE_URL cannot be read"),
    ],
)
async def test_a_postgres_that_is_not_there_is_told_with_its_place(url: str, said: str) -> None:
    line = await told(asyncio.ensure_future(need_postgres(url)))
    assert line.startswith(said)
    assert "TREADLE_DATABASE_URL" in line


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hunter2@127.0.0.1:1/0", "Redis at 127.0.0.1:1 cannot be reached (Connection refused)"),
        ("redis://:hunter2@nowhere.invalid", "Redis at nowhere.invalid:6379 cannot be reached"),
        ("unix:///nowhere?password=hunter2", "Redis at /nowhere cannot be reached (No such file or directory)"),
        ("redis://:hunter2@host:hunter2/0", "TREADLE_REDIS_URL cannot be read"),
    ],
)
async def test_a_redis_that_is_not_there_is_told_with_its_place(url: str, said: str) -> None:
    line = await told(asyncio.ensure_future(need_redis(url)))
    assert line.startswith(said)
    assert "TREADLE_REDIS_URL" in line


async def test_what_is_no_postgres_and_no_redis_is_told() -> None:
    async with something_else() as port:
        assert "cannot be reached" in await told(
            asyncio.ensure_future(need_postgres(f"postgresql://127.0.0.1:{port}/x"))
        )
        assert "Protocol error" in await told(asyncio.ensure_future(need_redis(f"redis://127.0.0.1:{port}/0")))


async def test_a_database_that_does_not_exist_is_told(embedded: tuple[str, str]) -> None:
    url = embedded[0].replace("/treadle?", "/nobody_made_it?")
    assert 'database "nobody_made_it" does not exist' in await told(asyncio.ensure_future(need_postgres(url)))


async def test_a_redis_that_wants_a_password_is_told(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.acl_setuser("guarded", enabled=True, passwords=["+right"])
        place = redis_url.removeprefix("unix://").split("?")[0]
        line = await told(asyncio.ensure_future(need_redis(f"unix://guarded:hunter2@{place}?db=0")))
        await redis.acl_deluser("guarded")
    assert re.match(r"Redis at /\S+ refuses: .*password", line)


@pytest.fixture
async def empty_url(embedded: tuple[str, str]) -> AsyncIterator[str]:
    admin = await asyncpg.connect(embedded[0].replace("/treadle?", "/postgres?"))
    await admin.execute("CREATE DATABASE empty TEMPLATE template0")
    yield embedded[0].replace("/treadle?", "/empty?")
    await admin.execute("DROP DATABASE empty WITH (FORCE)")
    await admin.close()


async def test_a_database_without_tables_is_told_to_be_migrated_and_then_is_fit(empty_url: str, redis_url: str) -> None:
    settings = Settings(database_url=empty_url, redis_url=redis_url)
    assert "run `treadle migrate` first" in await told(asyncio.ensure_future(need_stores(settings)))
    await migrated(empty_url)
    await need_stores(settings)


async def test_a_redis_that_is_away_keeps_nothing_from_starting_and_is_told(database_url: str) -> None:
    with capture_logs() as logs:
        await need_stores(Settings(database_url=database_url, redis_url="redis://127.0.0.1:1/0"))
    (line,) = [entry["error"] for entry in logs if entry["event"] == "start.without_redis"]
    assert line.startswith("Redis at 127.0.0.1:1 cannot be reached (Connection refused)")


async def test_a_redis_that_is_wrong_keeps_a_process_from_starting(database_url: str) -> None:
    async with something_else() as port:
        for url in (f"redis://127.0.0.1:{port}/0", "redis://nowhere.invalid"):
            settings = Settings(database_url=database_url, redis_url=url)
            assert "TREADLE_REDIS_URL" in await told(asyncio.ensure_future(need_stores(settings)))


async def test_a_database_of_a_newer_treadle_is_served_and_not_migrated(database_url: str, redis_url: str) -> None:
    """A release migrates before it starts; what still runs of the last one must be able to start again."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    await need_stores(Settings(database_url=database_url, redis_url=redis_url))
    line = await told(asyncio.ensure_future(migrated(database_url)))
    assert line.endswith(
        f"cannot be migrated: a newer Treadle has migrated it, to 9999; this one knows {NEWEST} at most"
    )


async def test_who_may_not_make_tables_is_told(empty_url: str) -> None:
    admin = await asyncpg.connect(empty_url)
    await admin.execute("CREATE ROLE onlooker LOGIN")
    line = await told(asyncio.ensure_future(migrated(empty_url.replace("postgres@", "onlooker@"))))
    await admin.execute("DROP ROLE onlooker")
    await admin.close()
    assert "cannot be migrated: permission denied for schema public" in line


async def test_an_address_may_say_how_to_encrypt(database_url: str) -> None:
    """As those of managed databases do."""
    await need_postgres(f"{database_url}&sslmode=prefer")
    await migrated(f"{database_url}&sslmode=prefer")
    assert await revision(f"{database_url}&sslmode=prefer") == NEWEST
