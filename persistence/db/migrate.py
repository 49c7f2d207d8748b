"""Brings a database to the newest schema. Safe to call from several processes at once: the first takes an advisory lock."""

from pathlib import Path

import asyncpg
from sqlalchemy import Connection, text

from persistence.db.database import dsn, engine_of

_LOCK = 7_233_150_418
"""Any number that nobody else uses in this database."""
_FOLDER = Path(__file__).parents[1] / "migrations"
NEWEST = max(file.name.split("_")[0] for file in (_FOLDER / "versions").glob("[0-9]*.py"))
"""The newest revision that this code knows. They are numbered, and the number opens the file's name."""


class NewerError(Exception):
    """The database has been migrated by a newer Treadle."""


async def migrate(url: str) -> None:
    """Applies every migration that `url` lacks. Raises NewerError where it has one that this code does not know."""
    found = await revision(url) or ""
    if found > NEWEST:
        raise NewerError(f"a newer Treadle has migrated it, to {found}; this one knows {NEWEST} at most")
    if found == NEWEST:
        return
    engine = engine_of(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


async def revision(url: str) -> str | None:
    """The last migration that `url` has seen; it may be one of a newer Treadle, which this code does not know."""
    connection = await asyncpg.connect(dsn(url), timeout=60)
    try:
        found: str | None = await connection.fetchval("SELECT max(version_num) FROM alembic_version")
        return found
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close(timeout=60)


async def missing(url: str) -> bool:
    """Whether the database at `url` lacks a migration that this code knows."""
    return (await revision(url) or "") < NEWEST


def _upgrade(connection: Connection) -> None:
    # Imported here: servers and workers only ask what is missing, and start the sooner.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
