"""Folders that Postgres's user can enter, which pytest's `tmp_path` does not allow."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="treadle-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder
