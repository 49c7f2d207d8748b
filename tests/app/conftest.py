"""Folders for embedded servers, which Postgres's own user must be able to reach, and the `treadle` command."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="treadle-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def treadle() -> Iterator[Command]:
    """Starts `treadle …` without this machine's settings; what still runs at the end is stopped."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **settings: str) -> "subprocess.Popen[str]":
        bare = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
        child = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *map(str, arguments)],
            env={**bare, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.terminate()
        child.communicate(timeout=60)
