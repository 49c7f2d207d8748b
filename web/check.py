"""Check the studio: the types of its sources, and how much a browser loads before the canvas shows.

`make check` runs it, after `make setup` has built the pages.
"""

import gzip
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from web.build import WEB, BuildError, NodeJs, install, machine_node, run, wheel_node

MAX_FIRST_LOAD = 400 * 1024
"""Bytes of compressed script that a browser loads before the canvas shows."""
CANVAS = ("index.html", "src/builder/builder.tsx")
"""The chunks of the first page, and of the view with the canvas."""
LOG = "check.log"


def main() -> None:
    try:
        check_types(WEB)
        size = first_load(WEB / "dist")
    except BuildError as error:
        sys.exit(f"web: {error}")
    if size > MAX_FIRST_LOAD:
        sys.exit(
            f"web: {size:,} bytes of compressed script are loaded before the canvas shows, and {MAX_FIRST_LOAD:,} are "
            "allowed: import large packages where they are needed, by lazy() or import()"
        )
    sys.stdout.write(f"web: types are right; {size:,} bytes of compressed script before the canvas\n")


def check_types(web: Path) -> None:
    """Check the types of the sources.

    Raises:
        BuildError: With the first error of the compiler.
    """
    node = machine_node() or wheel_node()
    (web / LOG).write_bytes(b"")
    install(web, node, LOG)
    run(web, node, "generating the types of the API", [str(node.program), "generate.mjs"], LOG)
    run(web, node, "checking the types", [*_tool(node, web, "typescript", "tsc"), "--noEmit"], LOG)


def _tool(node: NodeJs, web: Path, package: str, name: str) -> list[str]:
    """Return the command of a program of an npm package."""
    binaries = json.loads((web / "node_modules" / package / "package.json").read_text())["bin"]
    return [str(node.program), f"node_modules/{package}/{binaries[name]}"]


def first_load(dist: Path) -> int:
    """Return the bytes of compressed script that are loaded before the canvas shows."""
    manifest: dict[str, Any] = json.loads((dist / "manifest.json").read_text())
    scripts = {manifest[chunk]["file"] for chunk in _with_imports(manifest, CANVAS)}
    return sum(len(gzip.compress((dist / script).read_bytes(), mtime=0)) for script in scripts)


def _with_imports(manifest: dict[str, Any], chunks: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(chunks)
    while waiting:
        chunk = waiting.pop()
        if chunk not in found:
            found.add(chunk)
            waiting.extend(manifest[chunk].get("imports", ()))
    return found


if __name__ == "__main__":
    main()
