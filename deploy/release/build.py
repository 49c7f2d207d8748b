"""Builds a release into `dist/`: sdist, wheel, SBOM and checksums; `make release` runs it.

Every file is built twice, from two clean copies, and both results must be equal. The wheel is then
installed into an empty environment, where an example runs on embedded stores.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
EXAMPLE = ROOT / "examples" / "support_triage.json"
READY = re.compile(r"ready (http://\S+:(\d+))/graphql$")


def main() -> None:
    epoch = _output("git", "log", "-1", "--format=%ct")
    if _output("git", "status", "--porcelain"):
        sys.exit("release: commit your changes first: a release is built from a commit")
    with tempfile.TemporaryDirectory(prefix="treadle-release-", dir="/var/tmp") as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # The user of the embedded Postgres must be able to enter it.
        first, second = (_built(folder / name, epoch) for name in ("first", "second"))
        if first != second:
            sys.exit(f"release: two builds of one commit differ: {first} and {second}")
        _publish(folder / "first" / "dist")
        wheel = next(DIST.glob("*.whl"))
        programs = _installed(folder / "environment", wheel)
        _write_sbom(programs / "python", wheel, epoch)
        _run_example(programs / "treadle", folder)
    _write_checksums()
    print(f"release: {', '.join(sorted(path.name for path in DIST.iterdir()))} in {DIST}")


def _built(copy: Path, epoch: str) -> dict[str, str]:
    """Build sdist and wheel from a clean copy of the commit, and return their SHA-256 by name."""
    copy.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", copy], input=archive, check=True)
    shutil.copytree(ROOT / "web" / "dist", copy / "web" / "dist")
    command = [sys.executable, "-P", "-m", "hatchling", "build", "-d", "dist"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    subprocess.run(command, cwd=copy, env=environment, check=True, stdout=subprocess.DEVNULL)
    return {path.name: _digest(path) for path in sorted((copy / "dist").iterdir())}


def _publish(built: Path) -> None:
    shutil.rmtree(DIST, ignore_errors=True)
    shutil.copytree(built, DIST)


def _installed(environment: Path, wheel: Path) -> Path:
    """Install the wheel into an empty environment, and return the folder of its programs."""
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    programs = environment / "bin"
    subprocess.run([programs / "pip", "install", "-qq", "--disable-pip-version-check", wheel], check=True)
    subprocess.run([programs / "pip", "check"], check=True, stdout=subprocess.DEVNULL)
    return programs


def _write_sbom(python: Path, wheel: Path, epoch: str) -> None:
    """Write a CycloneDX list of all packages in the environment of the wheel."""
    target = DIST / f"{wheel.name.split('-py3')[0]}.cdx.json"
    command = [sys.executable, "-m", "cyclonedx_py", "environment", str(python), "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--output-format", "JSON", "--output-file", str(target)]
    subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": epoch}, stderr=subprocess.DEVNULL)
    sbom = json.loads(target.read_text())
    if not any(part["name"] == "langgraph" for part in sbom["components"]):
        sys.exit(f"release: {target} does not list the dependencies")
    sbom["metadata"]["component"]["version"] = wheel.name.split("-")[1]
    for part in sbom["components"]:  # The path of the wheel on this machine says nothing to others.
        links = [link for link in part.pop("externalReferences", []) if not link["url"].startswith("file:")]
        part.update({"externalReferences": links} if links else {})
    target.write_text(json.dumps(sbom, indent=2) + "\n")


def _run_example(treadle: Path, folder: Path) -> None:
    """Start everything from the installed wheel, in a folder without our code, and run an example."""
    work = folder / "work"
    work.mkdir(mode=0o711)
    version = _output(str(treadle), "--version")
    with _up(treadle, work) as (url, port):
        subprocess.run([treadle, "run", EXAMPLE, "--port", port], cwd=work, check=True)
        page = urllib.request.Request(f"{url}/graphql", headers={"Accept": "text/html"})
        with urllib.request.urlopen(page) as response, urllib.request.urlopen(f"{url}/health") as health:
            if b"assets/" not in response.read():
                sys.exit("release: the wheel lacks the built page")
            if version != f"treadle {json.load(health)['version']}":
                sys.exit(f"release: the command and the server have different versions ({version})")


@contextmanager
def _up(treadle: Path, work: Path) -> Iterator[tuple[str, str]]:
    """Run `treadle up` and yield the URL and the port of its server."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
    process = subprocess.Popen(
        [treadle, "up", "--port", "0"], cwd=work, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        ready = next((match for line in process.stdout or () if (match := READY.match(line))), None)
        if ready is None:
            sys.exit("release: `treadle up` of the wheel ended before it was ready; see its lines above")
        yield ready[1], ready[2]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _write_checksums() -> None:
    lines = [f"{_digest(path)}  {path.name}\n" for path in sorted(DIST.iterdir())]
    (DIST / "SHA256SUMS").write_text("".join(lines))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
