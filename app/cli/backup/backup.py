"""`treadle backup`: dumps the database into a folder, with a manifest by which a restore is verified.

The dump, the counts and the checksums see one snapshot, so runs may continue. The folder has a name
that ends in `.partial` until everything is on disk; a crash leaves that one only.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from app.cli.backup.contents import table_sums
from app.cli.backup.manifest import DUMP, Manifest, digest
from app.cli.backup.postgres_programs import folder_for, run_program
from app.errors import StoreError
from app.preflight import describe_postgres, postgres_version
from app.settings import Settings
from engine.release import VERSION
from persistence.db.database import dsn
from persistence.db.migrate import NEWEST, revision
from persistence.secrets.key_source import KeySource


async def back_up(url: str, target: Path, settings: Settings) -> Manifest:
    """Write a backup of the database at `url` to a new folder.

    Raises:
        StoreError: The database cannot be dumped, or the folder cannot be written.
        KeyProblem: A key of secrets is invalid.
    """
    if target.exists():  # noqa: ASYNC240 - a command has no other work
        raise StoreError(f"{target} exists already: choose a new folder for each backup")
    version = await postgres_version(url)
    current = await revision(url)
    if current is None:
        raise StoreError(f"{describe_postgres(url)} has no tables of Treadle: nothing to back up")
    if current > NEWEST:
        raise StoreError(
            f"{describe_postgres(url)} was migrated by a newer Treadle (to {current}; this one knows {NEWEST}): "
            "back it up with that release"
        )
    partial = target.with_name(f"{target.name}.partial")
    try:
        _make_private(partial)
        manifest = await _write(url, partial, major_version(version), current, settings)
        _sync(partial)
        partial.rename(target)
        _sync_folder(target.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StoreError(
            f"{target} cannot be written ({error.strerror}): choose another folder, or free space"
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def _make_private(folder: Path) -> None:
    """Create the folder, without what an interrupted backup has left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)


async def _write(url: str, folder: Path, server: int, current: str, settings: Settings) -> Manifest:
    programs, version = folder_for(server)
    keys = KeySource.of(settings)
    async with _snapshot(url) as (connection, snapshot):
        dump: list[str | Path] = [
            programs / "pg_dump",
            "--format=custom",
            "--no-owner",
            "--no-privileges",
            f"--snapshot={snapshot}",
        ]
        await run_program([*dump, f"--file={folder / DUMP}"], url)
        sums = await table_sums(connection)
        needed = await connection.fetch("SELECT key_id, count(*) FROM secrets GROUP BY key_id ORDER BY key_id")
    manifest = Manifest(
        treadle=VERSION,
        revision=current,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        postgres=server,
        pg_dump=version,
        sha256=digest(folder / DUMP),
        tables=sums,
        secrets=sum(row["count"] for row in needed),
        keys=[row["key_id"] for row in needed],
        key_source=keys.description,
    )
    manifest.write(folder)
    return manifest


@asynccontextmanager
async def _snapshot(url: str) -> AsyncIterator[tuple[asyncpg.Connection, str]]:
    """Open a transaction whose snapshot pg_dump shares."""
    connection = await asyncpg.connect(dsn(url))
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection, await connection.fetchval("SELECT pg_export_snapshot()")
    finally:
        await connection.close()


def major_version(version: str) -> int:
    return int(version.split(".")[0].split()[0])


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o600)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
