"""Build the TypeScript client into `clients/typescript/dist`: generated types and operations, and JavaScript.

The types of specs are generated from the JSON Schema of a spec with the built-in node types.

Unchanged inputs are not built again. Processes that build at the same time wait for the first of them.
"""

import fcntl
import hashlib
import shutil
import sys
from pathlib import Path

import orjson

from engine.nodes.registry import BUILT_IN
from engine.sdk.node_types import NodeTypes
from engine.validation.spec_schema import spec_schema
from web.build import BuildError, NodeJs, machine_node, run, wheel_node

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clients" / "typescript"
INPUTS = ("package.json", "package-lock.json", "tsconfig.json", "*.mjs", "src/*.ts")
SHARED = ("schema/schema.graphql", "treadle/client/operations.graphql")
SPEC_SCHEMA = PACKAGE / "src" / "generated" / "spec.schema.json"
LOG = "build.log"


def main() -> None:
    try:
        sys.stdout.write("clients: built\n" if build()[1] else "clients: up to date\n")
    except BuildError as error:
        sys.exit(f"clients: {error}")


def build() -> tuple[NodeJs, bool]:
    """Build the package if its inputs have changed.

    Returns:
        The Node.js that was used, and whether the package was built.

    Raises:
        BuildError: Node.js is missing, or a step failed.
    """
    node = machine_node() or wheel_node()
    with (PACKAGE / "package-lock.json").open() as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        stamp, built = stamp_of_inputs(), PACKAGE / "dist" / "stamp"
        if built.is_file() and built.read_text() == stamp:
            return node, False
        (PACKAGE / LOG).write_bytes(b"")
        install(node, lock_file.read())
        shutil.rmtree(PACKAGE / "dist", ignore_errors=True)
        SPEC_SCHEMA.parent.mkdir(exist_ok=True)
        SPEC_SCHEMA.write_bytes(schema_of_specs())
        run(PACKAGE, node, "building the TypeScript client", [*node.npm, "run", "--silent", "build"])
        built.write_text(stamp)
        return node, True


def install(node: NodeJs, lock: str) -> None:
    """Install the packages of the lock file, unless that is done."""
    installed = PACKAGE / "node_modules" / ".installed.json"
    if not installed.is_file() or installed.read_text() != lock:
        command = [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        run(PACKAGE, node, "installing the npm packages of the TypeScript client", command)
        installed.write_text(lock)


def schema_of_specs() -> bytes:
    """Return the JSON Schema of a spec with the built-in node types, as JSON."""
    return orjson.dumps(spec_schema(NodeTypes(kind() for kind in BUILT_IN)), option=orjson.OPT_INDENT_2)


def stamp_of_inputs() -> str:
    """Return one SHA-256 hash of the schema of specs, and of the names and contents of all input files."""
    digest = hashlib.sha256(schema_of_specs())
    files = [file for pattern in INPUTS for file in sorted(PACKAGE.glob(pattern))]
    for file in [*files, *(ROOT / path for path in SHARED)]:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
