"""Starts a module of this installation in another Python process, never one of the working folder.

`python -m` searches the working folder first. A folder with its own `app` or `worker` would
therefore replace our code. With `-P` (safe path) Python does not search it. Every Python process
that our code starts gets its command and environment here.
"""

import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
"""The folder of our packages: `site-packages`, or a checkout."""


_BOOT = "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop(1)); name = sys.argv.pop(1); \
runpy.run_module(name, run_name='__main__', alter_sys=True)"


def isolated_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with the search path of this process, and nothing else of it.

    With `-I` Python reads no variable of the environment, such as PYTHONPATH, whose folders may have a
    `sitecustomize`, and no packages of the user.
    """
    paths = [path for path in sys.path if path]
    return [sys.executable, "-I", "-c", _BOOT, json.dumps(paths), module, *arguments]


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this installation."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with the search path on which the child finds the packages of this process.

    Without it, a checkout that is not installed would start the code of an installed Treadle.
    """
    if Path(sysconfig.get_path("purelib")).resolve() == _ROOT:
        return dict(base)
    paths = [path for path in base.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(_ROOT)]
    return {**base, "PYTHONPATH": os.pathsep.join([*paths, str(_ROOT)])}
