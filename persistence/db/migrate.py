"""Migrates a database to the newest schema.

Several processes may do it at once: an advisory lock admits one at a time.

All missing migrations run in one transaction, so a crash leaves the database as it was. A deadlock with a
process that works, which locks tables in another order, rolls it back, and it begins again.
"""

from pathlib import Path

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from persistence.db import barrier
from persistence.db.advisory_locks import AdvisoryLock
from persistence.db.database import create_engine, dsn
from persistence.db.online_steps import prepare, undo
from persistence.db.transient import retry_transient

_FOLDER = Path(__file__).parents[1] / "migrations"
NEWEST = max(file.name.split("_")[0] for file in (_FOLDER / "versions").glob("[0-9]*.py"))
"""The newest revision that this code knows.

A revision is a number, and the name of its file begins with it.
"""

_REVISION = "SELECT max(version_num) FROM alembic_version"


class DatabaseTooNew(Exception):
    """A newer version of Treadle has migrated the database."""


async def migrate(url: str) -> None:
    """Apply every migration that the database lacks.

    Raises:
        DatabaseTooNew: The database has a migration that this code does not know.
    """
    current = await revision(url) or ""
    if current > NEWEST:
        raise DatabaseTooNew(
            f"a newer Treadle has migrated it, to {current}, and this one knows {NEWEST} at most: use that release, or restore "
            "the backup that was made before the upgrade"
        )
    if current == NEWEST:
        await barrier.install(dsn(url))
        return
    try:
        await prepare(url, AdvisoryLock.MIGRATIONS)
        await retry_transient(lambda: _apply(url), "migration", is_final=lambda error: not _is_deadlock(error))
    except BaseException:
        await undo(url)
        raise
    await barrier.install(dsn(url))


async def _apply(url: str) -> None:
    engine = create_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": int(AdvisoryLock.MIGRATIONS)})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _is_deadlock(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and isinstance(error.driver_exception, asyncpg.DeadlockDetectedError)


async def revision(url: str) -> str | None:
    """Return the last migration of the database, or None for an empty one.

    It may be newer than NEWEST.
    """
    connection = await asyncpg.connect(dsn(url), timeout=60)
    try:
        newest: str | None = await connection.fetchval(_REVISION)
        return newest
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close(timeout=60)


async def has_newest(pool: asyncpg.Pool) -> bool:
    """Whether the database of `pool` has every migration that this code knows."""
    return (await pool.fetchval(_REVISION) or "") >= NEWEST


async def is_outdated(url: str) -> bool:
    """Whether the database lacks a migration that this code knows."""
    return (await revision(url) or "") < NEWEST


def _upgrade(connection: Connection) -> None:
    # Imported here, because servers and workers only call `is_outdated` and start faster without
    # alembic.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
