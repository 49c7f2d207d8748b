"""Checks that Postgres and Redis can be used, made once before a process starts.

A failed check raises a StoreError whose message is one line and never contains a password. After
the start either store may become unavailable: servers and workers then wait for it and continue.
The CLI calls these checks before a server or a worker, `treadle up` during its start, and `treadle
doctor`.
"""

import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import asyncpg
import structlog
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from app.errors import StoreError, UnavailableError
from app.settings import Settings
from persistence.db import barrier, migrate
from persistence.db.database import create_pool, dsn
from persistence.maintenance.presence import count_live

log = structlog.get_logger(__name__)

OLDEST_POSTGRES, NEWEST_POSTGRES, OLDEST_REDIS = 14, 18, 7
"""Major versions: the oldest ones that Treadle supports, and the newest Postgres that it is tested with."""
CERTIFICATE_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Parameters of the addresses of Postgres and Redis that name files."""
RESPONSE_S = 5.0
"""Seconds that a store has to respond."""
REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
TRANSIENT = (ConnectionError, FileNotFoundError, TimeoutError, BusyLoadingError, RedisTimeoutError)
"""Errors that a Redis causes while it starts: connection refused or reset, no socket, no response.

An unknown host name is not one of them, because waiting does not make it valid.
"""


async def check_stores(settings: Settings) -> None:
    """Check that a server or a worker can start: Postgres is migrated, the Redis address is right.

    An unavailable Redis causes only a warning. Without Redis, runs start later; without a server,
    clients could not create any run.

    Raises:
        StoreError: Postgres cannot be used or lacks migrations, or the address of Redis is wrong.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise StoreError(
            "set TREADLE_DATABASE_URL and TREADLE_REDIS_URL, or use `treadle up`, which starts embedded stores"
        )
    version = await postgres_version(settings.database_url)
    if problem := postgres_problem(version):
        log.warning("start.old_store", store="Postgres", version=version, problem=problem)
    location = describe_postgres(settings.database_url)
    with _store_errors(location):
        is_outdated = await migrate.is_outdated(settings.database_url)
    if is_outdated:
        raise StoreError(f"{location} lacks migrations: run `treadle migrate` first")
    try:
        version = await redis_version(settings.redis_url)
        if problem := redis_problem(version):
            log.warning("start.old_store", store="Redis", version=version, problem=problem)
    except UnavailableError as error:
        log.warning("start.without_redis", error=str(error))


async def migrate_database(url: str) -> None:
    """Upgrade the database at `url` to the newest schema. Raises StoreError."""
    await postgres_version(url)
    try:
        await migrate.migrate(url)
    except (migrate.DatabaseTooNew, DBAPIError, OSError, asyncpg.PostgresError) as error:
        reason = _reason(error.orig or error) if isinstance(error, DBAPIError) else _reason(error)
        raise StoreError(f"{describe_postgres(url)} cannot be migrated: {reason}") from error


async def postgres_version(url: str) -> str:
    """Connect to the Postgres at `url` and return its version. Raises StoreError."""
    location = describe_postgres(url)
    _check_files(location, urlsplit(url).query, "TREADLE_DATABASE_URL")
    with _store_errors(location):
        connection = await asyncpg.connect(dsn(url), timeout=RESPONSE_S)
        try:
            return str(await connection.fetchval("SHOW server_version"))
        finally:
            await connection.close(timeout=RESPONSE_S)


def postgres_problem(version: str) -> str | None:
    """Return what is wrong with a version of Postgres, and what to do; None if it is supported."""
    if _major(version) >= OLDEST_POSTGRES:
        return None
    return (
        f"is too old: Treadle needs Postgres {OLDEST_POSTGRES} or newer, and is tested up to {NEWEST_POSTGRES}. Upgrade it "
        "(`pg_upgrade`, or `pg_dump` into a new server)"
    )


def redis_problem(version: str) -> str | None:
    """Return what is wrong with a version of Redis, and what to do; None if it is supported or unknown."""
    if not version[:1].isdigit() or _major(version) >= OLDEST_REDIS:
        return None
    return f"is too old: Treadle needs Redis {OLDEST_REDIS} or newer, or Valkey. Upgrade it; it holds nothing to keep"


def _major(version: str) -> int:
    return int(re.split(r"\D", version, maxsplit=1)[0])


async def clock_difference_s(url: str) -> float:
    """Return by how many seconds the clock of the database is ahead of this host's. Raises StoreError."""
    with _store_errors(describe_postgres(url)):
        connection = await asyncpg.connect(dsn(url), timeout=RESPONSE_S)
        try:
            before = time.time()
            there = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            # The answer was made between the two moments.
            return float(there) - (before + time.time()) / 2
        finally:
            await connection.close(timeout=RESPONSE_S)


async def row_security_problem(url: str) -> str | None:
    """Return why callers of the database at `url` are not behind row-level security, and what to do. Raises StoreError."""
    with _store_errors(describe_postgres(url)):
        async with create_pool(url, size=1) as pool:
            found = await barrier.inspect(pool)
    return None if found.problem is None else f"{found.problem}: {found.remedy}"


async def worker_counts(url: str) -> tuple[int, int]:
    """Count the live workers and the QUEUED runs of the database at `url`. Raises StoreError."""
    with _store_errors(describe_postgres(url)):
        connection = await asyncpg.connect(dsn(url), timeout=RESPONSE_S)
        try:
            queued = await connection.fetchval("SELECT count(*) FROM runs WHERE status = 'QUEUED'")
            return await count_live(connection), int(queued)
        finally:
            await connection.close(timeout=RESPONSE_S)


@contextmanager
def _store_errors(location: str) -> Iterator[None]:
    """Convert the errors of a Postgres that refuses or does not respond to StoreError."""
    try:
        yield
    except REFUSALS as refused:
        raise StoreError(
            f"{location} refuses the connection: {refused.message}; check TREADLE_DATABASE_URL"
        ) from refused
    except asyncpg.exceptions.ClientConfigurationError as error:
        # For example, verify-full without the certificate of an authority.
        advice = "add sslrootcert=FILE to" if "root certificate" in str(error) else "correct"
        raise StoreError(f"{location}: {_reason(error)}: {advice} TREADLE_DATABASE_URL") from error
    except ssl.SSLError as error:
        raise StoreError(f"{location}: {_tls_reason(error, 'sslrootcert', 'TREADLE_DATABASE_URL')}") from error
    except (OSError, OverflowError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreError(
            f"{location} cannot be reached ({_reason(error)}): is it running, and is TREADLE_DATABASE_URL right?"
        ) from error


async def redis_version(url: str) -> str:
    """Connect to the Redis at `url` and return its version. Raises StoreError.

    Returns:
        The version, or "unknown" if this user may not execute INFO.
    """
    location = describe_redis(url)
    _check_files(location, urlsplit(url).query, "TREADLE_REDIS_URL")
    try:
        async with Redis.from_url(url, socket_connect_timeout=RESPONSE_S, socket_timeout=RESPONSE_S) as redis:
            await redis.ping()
            try:
                return str((await redis.info("server"))["redis_version"])
            except NoPermissionError:
                return "unknown"
    except (OSError, ValueError, RedisError) as error:
        if isinstance(cause := _cause(error), ssl.SSLError):
            raise StoreError(f"{location}: {_tls_reason(cause, 'ssl_ca_certs', 'TREADLE_REDIS_URL')}") from error
        if isinstance(_cause(error), AuthenticationError | NoPermissionError):
            raise StoreError(f"{location} refuses the connection: {_reason(error)}; check TREADLE_REDIS_URL") from error
        kind = UnavailableError if isinstance(_cause(error), TRANSIENT) else StoreError
        raise kind(
            f"{location} cannot be reached ({_reason(error)}): is it running, and is TREADLE_REDIS_URL right?"
        ) from error


def describe_postgres(url: str) -> str:
    """Describe a database and its location for a message. Raises StoreError if `url` is invalid."""
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        # The library's message may contain a part of the password.
        raise StoreError(
            "TREADLE_DATABASE_URL is not a valid address: write postgresql://user:password@host:port/database, "
            "with special characters of the password as %xx"
        ) from None
    host = parts.query.get("host") or parts.host or "localhost"
    where = host if isinstance(host, str) else ",".join(host)
    if not where.startswith("/"):
        where = f"{where}:{parts.port or 5432}"
    return f"Postgres at {where} (database {parts.database or parts.username})"


def describe_redis(url: str) -> str:
    """Describe the location of a Redis for a message. Raises StoreError if `url` is invalid."""
    try:
        parts = urlsplit(url)
        where = str(Path(parts.path)) if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:
        raise StoreError(
            "TREADLE_REDIS_URL is not a valid address: write redis://user:password@host:port/0, "
            "with special characters of the password as %xx"
        ) from None
    return f"Redis at {where}"


def _check_files(location: str, query: str, setting: str) -> None:
    """Check the files of certificates and keys that the parameters of an address name. Raises StoreError."""
    for name, path in parse_qsl(query):
        if name in CERTIFICATE_FILES and not os.access(path, os.R_OK):
            raise StoreError(f"{location}: the file {path} cannot be read: correct {name} in {setting}")


def _cause(error: BaseException) -> BaseException:
    """Return the error that the Redis client has wrapped in its own error, if there is one."""
    cause = error.__cause__ or error.__context__
    return cause if isinstance(error, RedisError) and isinstance(cause, OSError | RedisError) else error


def _tls_reason(error: ssl.SSLError, parameter: str, setting: str) -> str:
    """Say why TLS failed, and what to do. `parameter` of the address names the file of an authority."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message}): if it is right, add {parameter}=FILE to {setting}, with "
            "the certificate of its authority"
        )
    return f"TLS fails ({error.reason or error}): check the certificates and the parameters for TLS in {setting}"


def _reason(error: BaseException) -> str:
    cause = _cause(error)
    if isinstance(cause, TimeoutError):
        return f"no response within {RESPONSE_S:g} s"
    if isinstance(cause, OSError) and cause.errno and not cause.filename:
        return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
    return (str(cause) or type(cause).__name__).splitlines()[0].rstrip(".")
