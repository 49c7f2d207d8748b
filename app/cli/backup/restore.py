"""`treadle restore`: restores a backup into an empty database, and verifies counts and checksums.

The restore is one transaction, so a crash leaves the database empty, or complete without having been
verified; `--verify` repeats the verification.
"""

import tempfile
from pathlib import Path

import asyncpg

from app.cli.backup.backup import major_version
from app.cli.backup.contents import differences, table_names, table_sums
from app.cli.backup.manifest import DUMP, Manifest, digest, read_manifest
from app.cli.backup.postgres_programs import folder_for, run_program
from app.errors import StoreError
from app.preflight import describe_postgres, postgres_version
from app.settings import Settings
from persistence.db import barrier
from persistence.db.database import dsn
from persistence.db.migrate import NEWEST
from persistence.secrets.key_source import KeySource

HEAD = 8192
"""Bytes at the begin of a script of pg_restore that contain its parameters."""
MAX_DIFFERENCES = 5
"""Tables that one message names."""


def check_backup(folder: Path) -> Manifest:
    """Check that this release can restore a backup, and that it is complete. Raises StoreError."""
    manifest = read_manifest(folder)
    if manifest.revision > NEWEST:
        raise StoreError(
            f"{folder} was made by Treadle {manifest.treadle}, whose database is newer (migration {manifest.revision}; this "
            f"one knows {NEWEST}): restore it with that release"
        )
    try:
        found = digest(folder / DUMP)
    except OSError as error:
        raise StoreError(f"{folder / DUMP} cannot be read ({error.strerror}): use another backup") from error
    if found != manifest.sha256:
        raise StoreError(f"{folder / DUMP} is damaged: its SHA-256 is not that of the manifest. Use another backup")
    return manifest


async def restore(url: str, folder: Path) -> Manifest:
    """Restore a backup into the empty database at `url`, and verify it. Raises StoreError."""
    manifest = check_backup(folder)
    server = major_version(await postgres_version(url))
    if server < manifest.postgres:
        raise StoreError(
            f"the backup is from Postgres {manifest.postgres}, and {describe_postgres(url)} is {server}: restore it into a "
            "server that is at least as new"
        )
    if tables := await _tables(url):
        raise StoreError(
            f"{describe_postgres(url)} is not empty ({len(tables)} tables, such as {tables[0]}): restore into a new database "
            "(`createdb NAME`), and set TREADLE_DATABASE_URL to it. Nothing was changed"
        )
    programs, version = folder_for(server, oldest=manifest.pg_dump)
    options = ["--no-owner", "--no-privileges", "--exit-on-error"]
    if version >= 17 > server:
        await _restore_as_text(programs, options, url, folder / DUMP)
    else:
        await run_program([programs / "pg_restore", "--single-transaction", *options, folder / DUMP], url)
    await verify(url, folder)
    await barrier.install(dsn(url))
    return manifest


async def _restore_as_text(programs: Path, options: list[str], url: str, dump: Path) -> None:
    """Restore with a pg_restore that sets a parameter which the server does not know (before 17).

    The script is complete before psql begins, so that the transaction is committed only with all of it.
    """
    with tempfile.TemporaryDirectory(prefix="treadle-restore-") as temporary:
        script = Path(temporary) / "script.sql"
        await run_program([programs / "pg_restore", *options, f"--file={script}", dump])
        with script.open("r+b") as file:
            head = file.read(HEAD)
            file.seek(0)
            # Of the same length, so the rest of the file stays where it is.
            file.write(head.replace(b"SET transaction_timeout = 0;", b"--  transaction_timeout = 0;"))
        quiet = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
        await run_program([programs / "psql", *quiet, f"--file={script}"], url)


async def verify(url: str, folder: Path) -> Manifest:
    """Compare the database at `url` with a backup. Raises StoreError if they differ."""
    manifest = check_backup(folder)
    connection = await asyncpg.connect(dsn(url))
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found = differences(manifest.tables, await table_sums(connection))
    finally:
        await connection.close()
    if found:
        rest = f", and {len(found) - MAX_DIFFERENCES} more" if len(found) > MAX_DIFFERENCES else ""
        raise StoreError(
            f"{describe_postgres(url)} differs from the backup: {'; '.join(found[:MAX_DIFFERENCES])}{rest}. If no Treadle has "
            "used it since the restore, drop it and restore again"
        )
    return manifest


def missing_keys(manifest: Manifest, settings: Settings) -> list[str]:
    """Return the ids of the keys that the secrets need and this host does not have. Raises KeyProblem."""
    own = KeySource.of(settings).keyring().ids
    return [key for key in manifest.keys if key not in own]


async def _tables(url: str) -> list[str]:
    connection = await asyncpg.connect(dsn(url))
    try:
        return await table_names(connection)
    finally:
        await connection.close()
