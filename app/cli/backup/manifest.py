"""The manifest of a backup: what the dump beside it contains, and what it needs.

A backup is a folder with `database.dump` (the custom format of pg_dump) and `manifest.json`. The folder
gets its name when both are complete and on disk.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import StoreError

FORMAT = 1
DUMP, MANIFEST = "database.dump", "manifest.json"


@dataclass(frozen=True, slots=True)
class TableSum:
    """The number of rows of a table, and a sum of their hashes that does not depend on their order."""

    rows: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup contains. Keys of secrets are named, and never included."""

    treadle: str
    """The release that made the backup."""
    revision: str
    """The last migration of the database."""
    created_at: str
    postgres: int
    """The major version of the server."""
    pg_dump: int
    """The major version of pg_dump. An older pg_restore cannot read the dump."""
    sha256: str
    """Of the dump."""
    tables: dict[str, TableSum]
    secrets: int
    keys: list[str]
    """The ids of the keys that the secrets need."""
    key_source: str
    """Where the keys were on the host that made the backup."""
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a backup. Raises StoreError."""
    path = folder / MANIFEST
    try:
        values: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if values["format"] > FORMAT:
            raise StoreError(
                f"{folder} was made by Treadle {values['treadle']}, which is newer than this one: restore it with that release"
            )
        if not all(isinstance(values[name], str) for name in ("revision", "sha256", "created_at", "key_source")):
            raise ValueError("a value is no text")
        tables = {name: TableSum(**one) for name, one in values.pop("tables").items()}
        return Manifest(**values, tables=tables)
    except OSError as error:
        raise StoreError(f"{folder} is no backup: {path.name} cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}): use another backup") from error


def digest(path: Path) -> str:
    """Return the SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
