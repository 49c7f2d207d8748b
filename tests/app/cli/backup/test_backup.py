"""`treadle backup` and `treadle restore`: nothing is lost, a kill leaves nothing half done, refusals are one line."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.cli.backup.backup import back_up
from app.cli.backup.contents import table_names
from app.cli.backup.restore import missing_keys, restore, verify
from app.errors import StoreError
from app.settings import Settings
from engine.states import NodeStatus
from persistence.caller import Caller
from persistence.db.database import Database, dsn
from persistence.db.migrate import NEWEST
from persistence.secrets import key_file
from tests.app.commands import Treadle
from tests.executor_worker import eventually
from tests.journal_worker import JournalWorker, accept_run
from tests.programs import installed


@pytest.fixture
async def used_url(database: Database, database_url: str, caller: Caller, project: str, worker: JournalWorker) -> str:
    """The URL of a database with a QUEUED and a RUNNING run, and bytes of a checkpoint."""
    held = await worker.claim((await accept_run(database, caller, project)).run)
    await held.node("a", NodeStatus.COMPLETED, output={"text": "é \u2028"})
    await held.checkpoint("cp_1", step=1, next_nodes=["b"])
    await accept_run(database, caller, project)
    await database.pool.execute(
        "INSERT INTO secrets (id, project_id, name, value, key_id, updated_by) VALUES ('sec_1', $1, 'TOKEN', 'x', 'k1', 'me')",
        project,
    )
    return database_url


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


async def test_a_restored_database_is_equal_and_names_the_keys_of_its_secrets(
    used_url: str, empty_url: str, tmp_path: Path, settings: Settings
) -> None:
    manifest = await back_up(used_url, tmp_path / "backup", settings)
    assert manifest.tables["public.runs"].rows == 2
    assert (manifest.secrets, manifest.keys) == (1, ["k1"])
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "backup").iterdir()} == {
        "database.dump": 0o600,
        "manifest.json": 0o600,
    }
    assert await restore(empty_url, tmp_path / "backup") == manifest
    assert missing_keys(manifest, settings) == ["k1"]
    connection = await asyncpg.connect(dsn(empty_url))
    await connection.execute("UPDATE runs SET created_by = 'other'; DELETE FROM secrets")
    await connection.close()
    with pytest.raises(StoreError, match=r"public\.runs has other content; public\.secrets has 0 rows instead of 1"):
        await verify(empty_url, tmp_path / "backup")


async def test_only_an_empty_database_is_restored_into(used_url: str, tmp_path: Path, settings: Settings) -> None:
    await back_up(used_url, tmp_path / "backup", settings)
    with pytest.raises(StoreError, match=r"is not empty .* Nothing was changed"):
        await restore(used_url, tmp_path / "backup")
    with pytest.raises(StoreError, match="exists already"):
        await back_up(used_url, tmp_path / "backup", settings)


def change(**values: Any) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return act


def damage(folder: Path) -> None:
    with (folder / "database.dump").open("r+b") as file:
        file.seek(200)
        file.write(b"damage")


BAD_BACKUPS: list[tuple[Callable[[Path], Any], str]] = [
    (damage, "is damaged: its SHA-256"),
    (lambda folder: (folder / "database.dump").unlink(), r"database.dump cannot be read \(No such file"),
    (lambda folder: (folder / "manifest.json").unlink(), r"is no backup: manifest.json cannot be read"),
    (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is damaged"),
    (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json is damaged"),
    (change(revision=9999), "manifest.json is damaged"),
    (change(sha256=None), "manifest.json is damaged"),
    (change(format=2), "newer than this one: restore it with that release"),
    (change(revision="9999"), f"migration 9999; this one knows {NEWEST}"),
    (change(postgres=99), "restore it into a server that is at least as new"),
    (change(pg_dump=99), "pg_dump of Postgres 99 or newer is needed"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_BACKUPS)
async def test_a_bad_backup_is_refused_in_one_line_and_changes_nothing(
    database_url: str, empty_url: str, tmp_path: Path, settings: Settings, spoil: Callable[[Path], Any], message: str
) -> None:
    await back_up(database_url, tmp_path / "backup", settings)
    spoil(tmp_path / "backup")
    with pytest.raises(StoreError, match=message) as error:
        await restore(empty_url, tmp_path / "backup")
    assert "\n" not in str(error.value)
    assert await tables_of(empty_url) == []


async def test_a_database_of_a_newer_release_or_without_tables_is_not_backed_up(
    database_url: str, empty_url: str, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(StoreError, match="nothing to back up"):
        await back_up(empty_url, tmp_path / "backup", settings)
    connection = await asyncpg.connect(dsn(database_url))
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    with pytest.raises(StoreError, match=rf"to 9999; this one knows {NEWEST}.*back it up with that release"):
        await back_up(database_url, tmp_path / "backup", settings)
    assert names(tmp_path) == []


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def tables_of(url: str) -> list[str]:
    connection = await asyncpg.connect(dsn(url))
    try:
        return await table_names(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def blocked(url: str, lock: str, waiter: str) -> AsyncIterator[Callable[[], Any]]:
    """Hold a lock, and yield a function that waits until a statement of that program waits for it."""
    holder, observer = await asyncpg.connect(dsn(url)), await asyncpg.connect(dsn(url))

    async def counts(condition: str, *, some: bool) -> bool:
        query = f"SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = $1 {condition}"
        return await observer.fetchval(query, waiter) is some

    async def waiting() -> None:
        await eventually(lambda: counts("AND wait_event_type = 'Lock'", some=True), timeout_s=120)

    try:
        async with holder.transaction():
            await holder.execute(lock)
            yield waiting
        await eventually(lambda: counts("", some=False), timeout_s=120)
    finally:
        await holder.close()
        await observer.close()


async def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)


async def test_a_backup_that_is_killed_leaves_no_backup_and_no_process(
    used_url: str, tmp_path: Path, settings: Settings, treadle: Treadle
) -> None:
    folder = tmp_path / "backup"
    async with blocked(used_url, "LOCK TABLE runs IN ACCESS EXCLUSIVE MODE", "pg_dump") as waiting:
        process = treadle("backup", folder, TREADLE_DATABASE_URL=used_url, TREADLE_DATA_DIR=str(settings.data_dir))
        await waiting()
        await kill(process)
        assert names(tmp_path) == ["backup.partial"]
    await back_up(used_url, folder, settings)
    assert names(tmp_path) == ["backup"]


async def test_a_restore_that_is_killed_leaves_the_database_empty(
    used_url: str, empty_url: str, tmp_path: Path, settings: Settings, treadle: Treadle
) -> None:
    folder = tmp_path / "backup"
    await back_up(used_url, folder, settings)
    # The tables have their rows by then, and triggers come last.
    async with blocked(empty_url, "LOCK TABLE pg_trigger IN EXCLUSIVE MODE", "pg_restore") as waiting:
        process = treadle("restore", folder, TREADLE_DATABASE_URL=empty_url, TREADLE_DATA_DIR=str(settings.data_dir))
        await waiting()
        await kill(process)
    assert await tables_of(empty_url) == []
    await restore(empty_url, folder)


async def test_the_commands_use_the_embedded_database_and_say_what_to_do(
    open_folder: Path, database_url: str, settings: Settings, treadle: Treadle
) -> None:
    folder = open_folder / "backup"
    (open_folder / "data").mkdir(mode=0o711)
    await back_up(database_url, folder, settings)
    process = treadle("restore", folder, "--data-dir", open_folder / "data")
    output, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, output
    assert "restored and verified: " in output
    assert not (open_folder / "data" / key_file.NAME).exists()


FULL = """
mkdir -p {folder}/full
mount -t tmpfs -o size={size},mode=0711 tmpfs {folder}/full
exec {python} -m app.cli {command}
"""
ON_FULL_DISKS = [
    ("20k", "backup {folder}/full/backup", "No space left on device: free space on the disk, and repeat the command"),
    (
        "64k",
        "up --port 0 --data-dir {folder}/full/data",
        "is full, so Postgres cannot create its data: free space, or choose",
    ),
]


@pytest.mark.parametrize(
    ("size", "command", "message"), [case for case in ON_FULL_DISKS if installed("unshare")], ids=lambda text: text[:6]
)
async def test_a_full_disk_is_one_line_that_says_what_to_do(
    used_url: str, open_folder: Path, size: str, command: str, message: str
) -> None:
    script = FULL.format(
        folder=open_folder, size=size, python=sys.executable, command=command.format(folder=open_folder)
    )
    environment = {**os.environ, "TREADLE_DATA_DIR": str(open_folder)}
    if command.startswith("backup"):
        environment["TREADLE_DATABASE_URL"] = used_url
    shell = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script]
    result = await asyncio.to_thread(
        subprocess.run, shell, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert message in line
