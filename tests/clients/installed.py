"""The npm packages of the client tests, installed once for each change of the lock file."""

import fcntl
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from web.build import NodeJs, machine_node, run, wheel_node

FOLDER = Path(__file__).parent
PACKAGES = FOLDER / "node_modules"
LOCK_FILE = FOLDER / "package-lock.json"
INSTALLED = PACKAGES / ".installed.json"


@cache
def node_with_packages() -> NodeJs:
    """Return the Node.js that runs the clients, after installing their packages if necessary.

    Test processes that run at the same time wait for the first of them.
    """
    node = machine_node() or wheel_node()
    with LOCK_FILE.open() as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        if not INSTALLED.is_file() or INSTALLED.read_text() != lock_file.read():
            shutil.rmtree(PACKAGES, ignore_errors=True)
            command = [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            run(FOLDER, node, "installing the npm packages of the client tests", command, log_name="npm.log")
            INSTALLED.write_text(LOCK_FILE.read_text())
    return node


def run_script(name: str, *arguments: str, timeout: float = 60) -> Any:
    """Run a script of this folder, and return the JSON document that it writes to stdout."""
    command = [str(node_with_packages().program), str(FOLDER / name), *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{name} failed:\n{done.stdout.decode()}\n{done.stderr.decode()}"
    return orjson.loads(done.stdout)
