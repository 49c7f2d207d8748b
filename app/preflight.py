"""Whether Postgres and Redis are there and fit, asked once before a process starts; what is wrong is told in one line.

Later either may go away and come back: then servers and workers go on by themselves.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import structlog
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from app.errors import StoreError, UnavailableError
from app.settings import Settings
from persistence.db import migrate
from persistence.db.database import dsn

log = structlog.get_logger(__name__)

ANSWER_S = 5.0
REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
MOMENTARY = (ConnectionError, FileNotFoundError, TimeoutError, BusyLoadingError, RedisTimeoutError)
"""Refused, cut off, no socket, no answer: as from a Redis that is just being started. An unknown name is none of these."""


async def need_stores(settings: Settings) -> None:
    """What a server or a worker needs to start. Raises StoreError.

    A Redis that is away is no hindrance: without it runs are slower, and without a server nobody could start one.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise StoreError(
            "set TREADLE_DATABASE_URL and TREADLE_REDIS_URL, or use `treadle up`, which starts stores of its own"
        )
    await need_postgres(settings.database_url)
    place = postgres_at(settings.database_url)
    with _reaching(place):
        lacks_some = await migrate.missing(settings.database_url)
    if lacks_some:
        raise StoreError(f"{place} lacks migrations: run `treadle migrate` first")
    try:
        await need_redis(settings.redis_url)
    except UnavailableError as away:
        log.warning("start.without_redis", error=str(away))


async def migrated(url: str) -> None:
    """Brings the database at `url` to the newest schema. Raises StoreError."""
    await need_postgres(url)
    try:
        await migrate.migrate(url)
    except (migrate.NewerError, DBAPIError, OSError, asyncpg.PostgresError) as wrong:
        why = _reason(wrong.orig or wrong) if isinstance(wrong, DBAPIError) else _reason(wrong)
        raise StoreError(f"{postgres_at(url)} cannot be migrated: {why}") from wrong


async def need_postgres(url: str) -> str:
    """Its version. Raises StoreError."""
    with _reaching(postgres_at(url)):
        connection = await asyncpg.connect(dsn(url), timeout=ANSWER_S)
        try:
            return str(await connection.fetchval("SHOW server_version"))
        finally:
            await connection.close(timeout=ANSWER_S)


@contextmanager
def _reaching(place: str) -> Iterator[None]:
    """Turns what a Postgres says that does not let us in, or is not there, into a StoreError."""
    try:
        yield
    except REFUSALS as refused:
        raise StoreError(f"{place} refuses: {refused.message}; check TREADLE_DATABASE_URL") from refused
    except (OSError, OverflowError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as wrong:
        raise StoreError(
            f"{place} cannot be reached ({_reason(wrong)}): is it running, and is TREADLE_DATABASE_URL right?"
        ) from wrong


async def need_redis(url: str) -> str:
    """Its version, where we may ask for it. Raises StoreError."""
    place = redis_at(url)
    try:
        async with Redis.from_url(url, socket_connect_timeout=ANSWER_S, socket_timeout=ANSWER_S) as redis:
            await redis.ping()
            try:
                return str((await redis.info("server"))["redis_version"])
            except NoPermissionError:
                return "unknown"
    except (OSError, ValueError, RedisError) as wrong:
        if isinstance(_beneath(wrong), AuthenticationError | NoPermissionError):
            raise StoreError(f"{place} refuses: {_reason(wrong)}; check TREADLE_REDIS_URL") from wrong
        kind = UnavailableError if isinstance(_beneath(wrong), MOMENTARY) else StoreError
        raise kind(
            f"{place} cannot be reached ({_reason(wrong)}): is it running, and is TREADLE_REDIS_URL right?"
        ) from wrong


def postgres_at(url: str) -> str:
    """For people: which database, and where. Raises StoreError for what is no address."""
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        # The library's own message may repeat half of a password.
        raise StoreError(
            "TREADLE_DATABASE_URL cannot be read: it goes postgresql://user:password@host:port/database, "
            "with special characters of the password as %xx"
        ) from None
    host = parts.query.get("host") or parts.host or "localhost"
    where = host if isinstance(host, str) else ",".join(host)
    if not where.startswith("/"):
        where = f"{where}:{parts.port or 5432}"
    return f"Postgres at {where} (database {parts.database or parts.username})"


def redis_at(url: str) -> str:
    """For people. Raises StoreError for what is no address."""
    try:
        parts = urlsplit(url)
        where = str(Path(parts.path)) if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:
        raise StoreError(
            "TREADLE_REDIS_URL cannot be read: it goes redis://user:password@host:port/0, "
            "with special characters of the password as %xx"
        ) from None
    return f"Redis at {where}"


def _beneath(wrong: BaseException) -> BaseException:
    """Redis's client wraps what it met into an error of its own."""
    beneath = wrong.__cause__ or wrong.__context__
    return beneath if isinstance(wrong, RedisError) and isinstance(beneath, OSError | RedisError) else wrong


def _reason(error: BaseException) -> str:
    wrong = _beneath(error)
    if isinstance(wrong, TimeoutError):
        return f"no answer within {ANSWER_S:g} s"
    if isinstance(wrong, OSError) and wrong.errno and not wrong.filename:
        return os.strerror(wrong.errno) if wrong.errno > 0 else str(wrong.strerror)
    return (str(wrong) or type(wrong).__name__).splitlines()[0].rstrip(".")
