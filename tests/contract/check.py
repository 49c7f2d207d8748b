"""Lint the schema, and compare it with that of the last release: `make check` runs it.

It installs the npm packages of `package-lock.json` once for each change of that file. The linter is
graphql-eslint, and the comparison is graphql-inspector's. A breaking change must be in the changelog.
"""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

from tests.contract.changelog import BreakingChange, unlisted
from web.build import BuildError, NodeJs, machine_node, run, wheel_node

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
LOCK_FILE = FOLDER / "package-lock.json"
INSTALLED = FOLDER / "node_modules" / ".installed.json"


def main() -> None:
    try:
        problems = check(node_with_packages())
    except BuildError as error:
        sys.exit(f"contract: {error}")
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    sys.exit(1 if problems else 0)


def check(node: NodeJs) -> list[str]:
    """Return the problems of the schema, one line each. Raises BuildError if a tool failed."""
    command = [str(node.program), "check.mjs"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"the linter of the schema failed: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    changes = [BreakingChange(**change) for change in report["breaking"]]
    missing = unlisted(changes, (ROOT / "CHANGELOG.md").read_text("utf-8"))
    return [*report["problems"], *map(_sentence, missing)]


def _sentence(change: BreakingChange) -> str:
    return (
        f"breaking change of {change.path}: {change.message}. Keep it and deprecate it (docs/stability.md), or list "
        f"`{change.path}` in CHANGELOG.md below Changed or Removed."
    )


def node_with_packages() -> NodeJs:
    """Return the Node.js that runs the tools, after installing their packages if necessary."""
    node = machine_node() or wheel_node()
    with LOCK_FILE.open() as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        if not INSTALLED.is_file() or INSTALLED.read_text() != lock_file.read():
            command = [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            run(FOLDER, node, "installing the npm packages of the linter of the schema", command, log_name="npm.log")
            INSTALLED.write_text(LOCK_FILE.read_text())
    return node


if __name__ == "__main__":
    main()
