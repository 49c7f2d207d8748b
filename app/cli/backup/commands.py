"""The commands `treadle backup` and `treadle restore`, on the configured or the embedded database."""

import asyncio
import json as json_module
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the embedded servers' data. Default: TREADLE_DATA_DIR, or .treadle.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the manifest as JSON, for programs.")]


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder for the backup.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Back the database up, while Treadle runs or not. The keys of secrets are named, not included."""
    from app.cli.backup.backup import back_up
    from app.settings import load_settings

    with _errors():
        settings = load_settings(data_dir=data_dir)
        with _database(settings.data_dir, settings.database_url, may_run=True) as url:
            manifest = asyncio.run(back_up(url, folder, settings))
    rows = sum(table.rows for table in manifest.tables.values())
    if json:
        print(json_module.dumps(asdict(manifest), indent=2))
        return
    print(f"backed up {rows} rows of {len(manifest.tables)} tables to {folder}")
    if manifest.secrets:
        print(
            f"{manifest.secrets} secrets need the keys {', '.join(manifest.keys)} of {manifest.key_source}, which are not in "
            "the backup: keep them separately"
        )


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="The folder of the backup.")],
    verify: Annotated[bool, typer.Option("--verify", help="Only compare the database with the backup.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Restore a backup into an empty database, and verify it."""
    from app.cli.backup import restore as restores
    from app.cli.operations.output import print_line
    from app.settings import load_settings
    from persistence.db.migrate import NEWEST

    with _errors():
        settings = load_settings(data_dir=data_dir)
        restores.check_backup(folder)
        with _database(settings.data_dir, settings.database_url, may_run=verify) as url:
            act = restores.verify if verify else restores.restore
            manifest = asyncio.run(act(url, folder))
        missing = restores.missing_keys(manifest, settings)
    if json:
        print(json_module.dumps(asdict(manifest), indent=2))
        return
    print_line(
        f"{'verified' if verify else 'restored and verified'}: {len(manifest.tables)} tables, as of {manifest.created_at}"
    )
    if manifest.revision < NEWEST:
        print("the backup is of an older release: run `treadle migrate` before you start servers and workers")
    if missing:
        print_line(
            f"{manifest.secrets} secrets need keys that this host does not have ({', '.join(missing)}): put them into "
            f"TREADLE_SECRET_KEY or {settings.data_dir / 'secret.key'}. They were in {manifest.key_source}"
        )


@contextmanager
def _database(data_dir: Path, configured: str | None, *, may_run: bool) -> Iterator[str]:
    """Yield the URL of the configured database, else of the embedded one, which is started if necessary."""
    from app.embedded.servers import in_use, postgres
    from app.errors import StoreError

    if configured is not None:
        yield configured
    elif (urls := in_use(data_dir)) is not None:
        if not may_run:
            raise StoreError(f"`treadle up` runs on {data_dir.absolute()}, so its database is not empty: stop it, and restore "
                             "into a new folder with --data-dir")  # fmt: skip
        yield urls[0]
    else:
        with postgres(data_dir) as store:
            yield store.url


@contextmanager
def _errors() -> Iterator[None]:
    """End the command with one line for an error that a user can correct."""
    from app.errors import CannotStartError, StoreError
    from app.terminal_text import escape_controls
    from persistence.db.transient import DATABASE_ERRORS
    from persistence.secrets.keyring import KeyProblem

    try:
        yield
    except (CannotStartError, StoreError, KeyProblem) as error:
        sys.exit(escape_controls(f"treadle: {error}"))
    except DATABASE_ERRORS as error:
        sys.exit(escape_controls(f"treadle: the database cannot be read ({error}): repeat the command"))
