"""The operating system user that the embedded Postgres runs as.

Postgres refuses to run as root. A root process therefore starts it as an unprivileged user. The
permissions of existing folders are never changed.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import EmbeddedError

_UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class OsUser:
    """A user for child processes. `name` is None for the user of this process itself."""

    name: str | None
    uid: int
    gid: int

    @classmethod
    def choose(cls) -> "OsUser":
        """Return the user of this process or, if that is root, an unprivileged one.

        Raises EmbeddedError.
        """
        if os.geteuid() != 0:
            return cls(None, os.geteuid(), os.getegid())
        users = {entry.pw_name: entry for entry in pwd.getpwall()}
        for name in _UNPRIVILEGED:
            if name in users:
                return cls(name, users[name].pw_uid, users[name].pw_gid)
        raise EmbeddedError(
            "Postgres does not run as root, and neither a user `postgres` nor a user `nobody` exists: "
            "create one (`useradd --system postgres`), or run Treadle as a normal user"
        )

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for `subprocess.Popen` that run a process as this user.

        The environment lacks `PG*` variables, which would connect Postgres's programs to another
        server, and `TREADLE_*` variables, which may contain keys.
        """
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "TREADLE_"))}
        identity = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.name else {}
        return {"cwd": "/", "env": env, **identity}

    def run(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a command as this user, wait for its end, and capture its output."""
        return subprocess.run(
            [str(part) for part in command], text=True, capture_output=True, check=False, **self.options
        )

    def make_private(self, path: Path) -> Path:
        """Create a folder that only this user can access (mode 0700).

        Folders above it are unchanged.
        """
        path.mkdir(exist_ok=True)
        if self.name:
            os.chown(path, self.uid, self.gid)
        path.chmod(0o700)
        return path

    def can_access(self, path: Path) -> bool:
        """Return whether this user can read and enter `path`."""
        return self.run("/bin/sh", "-c", 'test -r "$0" && test -x "$0"', path).returncode == 0
