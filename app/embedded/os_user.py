"""The user that Postgres runs as. It refuses root, so root lends it an unprivileged one, and opens no folder."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import EmbeddedError

_UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Owner:
    """Ourselves (`name` is None), or somebody unprivileged where we are root."""

    name: str | None
    uid: int
    gid: int

    @classmethod
    def choose(cls) -> "Owner":
        if os.geteuid() != 0:
            return cls(None, os.geteuid(), os.getegid())
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        for name in _UNPRIVILEGED:
            if name in known:
                return cls(name, known[name].pw_uid, known[name].pw_gid)
        raise EmbeddedError(
            "Postgres does not run as root, and there is neither a user `postgres` nor `nobody` to run it as: "
            "create one (`useradd --system postgres`), or run Treadle as a normal user"
        )

    @property
    def options(self) -> dict[str, Any]:
        """For Popen. Without the caller's PG* variables, which would send Postgres's programs elsewhere, and our keys."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "TREADLE_"))}
        lent = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.name else {}
        return {"cwd": "/", "env": env, **lent}

    def run(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(part) for part in command], text=True, capture_output=True, check=False, **self.options
        )

    def folder(self, path: Path) -> Path:
        """Makes a folder that is this user's alone. The folders above it are left as they are."""
        path.mkdir(exist_ok=True)
        if self.name:
            os.chown(path, self.uid, self.gid)
        path.chmod(0o700)
        return path

    def reaches(self, path: Path) -> bool:
        return self.run("/bin/sh", "-c", 'test -r "$0" && test -x "$0"', path).returncode == 0
