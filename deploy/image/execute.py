"""Executes the Dockerfile without Docker, and runs an example in the result; `make image` runs it.

Each instruction is executed in a root file system, by `chroot` in a mount namespace of its own. The
image of Python cannot be fetched where the project is checked, so FROM takes a Debian 12 that
`mmdebstrap` makes, with the Python of Debian (3.11). Then `treadle up` and an example run in the result
with a read-only root, as the user of the image, without capabilities.

With `--checkout` (the short form, for the tests) the base is this machine, and `/opt/treadle` runs the
code of the checkout instead of the wheel. Only the last stage is executed then.

It does not prove that the image works with the Python of `FROM`, that Docker reads the Dockerfile as
this program does, and anything about layers, networks and registries. Needs root.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from string import Template

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = Path(__file__).with_name("Dockerfile")
EXAMPLE = ROOT / "examples" / "support_triage.json"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMPILERS = ("cc", "gcc", "g++", "clang", "make", "rustc", "cargo", "node", "npm", "pip")
REGISTRY_VARIABLES = ("PIP_", "NPM_CONFIG_", "SSL_CERT_", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY")
"""Variables by which this machine reaches its registries. Only RUN sees them, as a build secret."""
REGISTRY_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/npmrc", "/root/.npmrc", "/root/.config/pip")
START_S = 120.0
INSIDE = "OWN_MOUNT_NAMESPACE"


@dataclass(slots=True)
class Stage:
    """The root file system of one stage, and what its instructions have set."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    folder: str = "/"
    user: str = "0"
    volumes: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """Return where a path of the image is on this machine."""
        return self.root / str(PurePosixPath(self.folder) / path).lstrip("/")


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield (instruction, arguments) of a Dockerfile, with continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        name, _, arguments = line.strip().partition(" ")
        yield name.upper(), arguments.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Executes deploy/image/Dockerfile, and runs an example in it.")
    parser.add_argument("--checkout", action="store_true", help="the last stage only, on the base of this machine")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("image: run it as root, which mounts and `chroot` need")
    if INSIDE not in os.environ:
        # All mounts end with this program.
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, __file__, *sys.argv[1:]]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})
    with tempfile.TemporaryDirectory(prefix="treadle-image-", dir="/var/tmp") as folder:
        home = Path(folder)
        home.chmod(0o711)
        with _mounts_removed(home):
            stage = _checkout_stage(home) if options.checkout else _built_stage(home)
            _check_example(stage)
            if not options.checkout:
                _check_content(stage)


@contextmanager
def _mounts_removed(home: Path) -> Iterator[None]:
    """Unmount everything below a folder after the block, so that it can be deleted."""
    try:
        yield
    finally:
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{home}/")]):
            _run("umount", "--lazy", mount)


def _built_stage(home: Path) -> Stage:
    """Execute the whole Dockerfile on a base that is made for it."""
    base = home / "base"
    print(f"image: making a Debian in {base}", flush=True)
    packages = "--include=ca-certificates,python3,python3-venv"
    _run("mmdebstrap", "--variant=minbase", packages, "bookworm", str(base), *_apt_sources())
    for name in ("python", "python3"):
        (base / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
    numbers = iter(range(10))

    def copy_of_base(_: str) -> Path:
        root = home / f"stage{next(numbers)}"
        _run("cp", "--archive", "--reflink=auto", str(base), str(root))
        return root

    return _executed(copy_of_base, {})


def _apt_sources() -> list[str]:
    """Return the files with the sources of packages of this machine."""
    return [str(path) for path in sorted(Path("/etc/apt/sources.list.d").glob("debian*.sources"))]


def _checkout_stage(home: Path) -> Stage:
    """Execute the last stage on this machine's files, with a `/opt/treadle` that runs the checkout."""
    layers = home / "layers"
    layers.mkdir()
    _run("mount", "-t", "tmpfs", "tmpfs", str(layers))
    for name in ("upper", "work", "root"):
        (layers / name).mkdir()
    root = layers / "root"
    options = f"lowerdir=/,upperdir={layers / 'upper'},workdir={layers / 'work'}"
    _run("mount", "-t", "overlay", "overlay", "-o", options, str(root))
    shutil.rmtree(root / "opt/treadle", ignore_errors=True)
    # Not below /tmp, over which a container mounts its own.
    _reach(root, ROOT, "/opt/checkout")
    _reach(root, Path(sys.prefix).resolve(), "/opt/environment")
    _reach(root, Path(sys.base_prefix).resolve(), str(Path(sys.base_prefix).resolve()))
    built = home / "built"
    for name, command in {"treadle": "-P -m app.cli", "python": ""}.items():
        program = built / "opt/treadle/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\nPYTHONPATH=/opt/checkout exec /opt/environment/bin/python {command} "$@"\n')
        program.chmod(0o755)
    return _executed(lambda _: root, {"build": Stage(built)}, last_only=True)


def _reach(root: Path, path: Path, place: str) -> None:
    """Make a folder of this machine readable for every user, at a place in the root."""
    target = root / place.lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    for parent in target.parents:
        if parent.is_relative_to(root):
            parent.chmod(parent.stat().st_mode | 0o011)
    _run("mount", "--bind", str(path), str(target))
    _run("mount", "-o", "remount,bind,ro", str(target))


def _executed(make_root: "object", stages: dict[str, Stage], *, last_only: bool = False) -> Stage:
    """Execute the instructions, and return the last stage."""
    steps = list(instructions(DOCKERFILE.read_text()))
    if last_only:
        steps = steps[max(number for number, step in enumerate(steps) if step[0] == "FROM") :]
    stage = Stage(Path())
    for name, arguments in steps:
        print(f"image: {name} {arguments}"[:150], flush=True)
        if name == "FROM":
            image, _, alias = arguments.partition(" AS ")
            stage = Stage(make_root(image))  # type: ignore[operator]
            stages[alias or "last"] = stage
            _mount_kernel(stage.root)
        else:
            _execute(stage, name, arguments, stages)
    return stage


def _execute(stage: Stage, name: str, arguments: str, stages: dict[str, Stage]) -> None:
    match name:
        case "RUN":
            _build(stage, arguments)
        case "COPY":
            _copy(stage, arguments, stages)
        case "ENV":
            for pair in shlex.split(arguments):
                key, _, value = pair.partition("=")
                stage.environment[key] = Template(value).safe_substitute(stage.environment)
        case "WORKDIR":
            stage.folder = str(PurePosixPath(stage.folder) / arguments)
            stage.inside(".").mkdir(parents=True, exist_ok=True)
        case "USER":
            stage.user = arguments
        case "VOLUME":
            stage.volumes.append(arguments)
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(arguments)
        case "CMD":
            stage.command = json.loads(arguments)
        case "HEALTHCHECK":
            stage.health = json.loads(arguments.partition(" CMD ")[2])
        case "STOPSIGNAL" if arguments == "SIGTERM":
            pass  # It is what `_check_example` sends.
        case "EXPOSE":
            pass  # It changes nothing in the image.
        case _:
            sys.exit(f"image: this program cannot execute {name}: add it to {__file__}")


def _mount_kernel(root: Path) -> None:
    for name in ("proc", "dev", "tmp"):
        (root / name).mkdir(exist_ok=True)
    _run("mount", "-t", "proc", "proc", str(root / "proc"))
    _run("mount", "--rbind", "/dev", str(root / "dev"))


def _build(stage: Stage, command: str) -> None:
    """Execute a RUN, with the settings of this machine's registries."""
    registry = {name: value for name, value in os.environ.items() if name.startswith(REGISTRY_VARIABLES)}
    values = [value for value in registry.values() if value.startswith("/")]
    lines = ["set -e"]
    for path in (Path(one) for one in (*REGISTRY_FILES, *values) if Path(one).exists()):
        target = stage.root / str(path).lstrip("/")
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        lines.append(f"mount --bind {shlex.quote(str(path))} {shlex.quote(str(target))}")
    environment = {**stage.environment, **registry, "HOME": "/root"}
    lines.append(_chroot(stage, environment, ["/bin/sh", "-c", command]))
    _run("unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines))


def _copy(stage: Stage, arguments: str, stages: dict[str, Stage]) -> None:
    parts = shlex.split(arguments)
    source_root = ROOT
    if parts[0].startswith("--from="):
        source_root = stages[parts.pop(0).removeprefix("--from=")].root
    *sources, target = parts
    for source in sources:
        origin, destination = source_root / source.lstrip("/"), stage.inside(target)
        if origin.is_dir():
            ignore = _ignored if source_root == ROOT else None
            shutil.copytree(origin, destination, symlinks=True, dirs_exist_ok=True, ignore=ignore)
        else:
            destination = destination / origin.name if target.endswith("/") else destination
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, destination)


def _ignored(folder: str, names: list[str]) -> set[str]:
    """Return what .dockerignore leaves out of a folder of the checkout."""
    patterns = (ROOT / ".dockerignore").read_text().split()
    inside = Path(folder).relative_to(ROOT)
    return {
        name
        for name in names
        for pattern in patterns
        if fnmatch(str(inside / name), pattern) or (pattern.startswith("**/") and fnmatch(name, pattern[3:]))
    }


def _chroot(stage: Stage, environment: dict[str, str], command: list[str], user: str = "0") -> str:
    """Return the line of a shell that becomes the command in the root file system."""
    group = user if user == "0" else _group_of(stage, user)
    drop = [] if user == "0" else ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *drop]
    variables = [f"{name}={value}" for name, value in environment.items()]
    parts = ["chroot", str(stage.root), *become, "env", "-i", "-C", stage.folder, *variables, *command]
    return f"exec {shlex.join(parts)}"


def _group_of(stage: Stage, user: str) -> str:
    rows = [line.split(":") for line in (stage.root / "etc/passwd").read_text().splitlines()]
    return next(row[3] for row in rows if row[2] == user)


def _container(
    stage: Stage, command: list[str], *, user: str | None = None, **settings: str
) -> "subprocess.Popen[str]":
    """Start a command as Docker does with `--read-only`, and tmpfs for `/tmp` and the volumes."""
    root = shlex.quote(str(stage.root))
    owner = stage.user if user is None else user
    lines = ["set -e", f"mount --rbind {root} {root}", f"mount -o remount,bind,ro {root}"]
    lines.append(f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp")
    for volume in stage.volumes:
        status = (stage.root / volume.lstrip("/")).stat()
        options = f"mode={status.st_mode & 0o777:o},uid={status.st_uid},gid={status.st_gid}"
        lines.append(f"mount -t tmpfs -o {options} tmpfs {root}{volume}")
    lines.append(f"cp {shlex.quote(str(EXAMPLE))} {root}/tmp/example.json")
    lines.append(_chroot(stage, {**stage.environment, **settings}, command, owner))
    # The shell becomes the command, so the process id is that of the command.
    line = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _check_example(stage: Stage) -> None:
    """Start `treadle up` in the image, run an example there, and stop it."""
    _check_read_only(stage)
    port = _free_port()
    up = _container(stage, [*stage.entrypoint, "up"], TREADLE_PORT=str(port), TREADLE_LOG_FORMAT="console")
    limit = threading.Timer(START_S, up.kill)
    limit.start()
    try:
        output = _until_ready(up)
        _check_process(up.pid, stage.user)
        _finished(_container(stage, stage.health, TREADLE_PORT=str(port)), "the health check")
        run = _container(stage, [*stage.entrypoint, "run", "/tmp/example.json", "--port", str(port)])
        result = _finished(run, "the example")
        if "COMPLETED in" not in result:
            sys.exit(f"image: the example did not complete:\n{result}")
    finally:
        limit.cancel()
        up.send_signal(signal.SIGTERM)
        rest = up.communicate()[0]
    if up.returncode != 0:
        sys.exit(f"image: `treadle up` ended with {up.returncode}:\n{output}{rest}")
    print(f"image: the example completed as user {stage.user} with a read-only root file system")


def _until_ready(up: "subprocess.Popen[str]") -> str:
    output = ""
    assert up.stdout is not None
    for line in up.stdout:
        output += line
        if re.search(r"ready http://\S+/graphql$", line):
            return output
    sys.exit(f"image: `treadle up` did not start:\n{output}")


def _check_read_only(stage: Stage) -> None:
    """Check that not even root can write to the root file system."""
    folders = ("/", "/etc", "/usr/local", "/opt/treadle", "/opt/treadle/bin")
    script = "; ".join(f"touch {folder}/new && echo written {folder}" for folder in folders)
    output = _container(stage, ["/bin/sh", "-c", script], user="0").communicate()[0]
    if output.count("Read-only file system") != len(folders) or "written" in output:
        sys.exit(f"image: the root file system is not read-only:\n{output}")


def _check_process(pid: int, user: str) -> None:
    status = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
    found = status["Uid"].split(), int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]
    if found != ([user] * 4, 0, 0, "1"):
        sys.exit(f"image: `treadle up` runs with other rights: {found}")


def _finished(process: "subprocess.Popen[str]", name: str) -> str:
    output = process.communicate(timeout=START_S)[0]
    if process.returncode != 0:
        sys.exit(f"image: {name} ended with {process.returncode}:\n{output}")
    return output


def _check_content(stage: Stage) -> None:
    """Print the size of the image, and fail if it has programs of its build."""
    folders = [*stage.environment["PATH"].split(":"), "/opt/treadle/bin"]
    found = sorted({name for folder in folders for name in COMPILERS if stage.inside(f"{folder}/{name}").exists()})
    if found:
        sys.exit(f"image: programs of the build are left in it: {', '.join(found)}")
    whole, own = _size(stage.root), _size(stage.root / "opt/treadle")
    print(f"image: {whole:.0f} MB, of which {own:.0f} MB are /opt/treadle")


def _size(folder: Path) -> float:
    """Return the MB of the files of a folder, without what is mounted."""
    total = 0
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not os.path.ismount(Path(path) / name)]
        total += sum((Path(path) / name).lstat().st_size for name in files)
    return total / 1e6


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _run(*command: str) -> None:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"image: {command[0]} failed with {result.returncode}:\n{result.stdout[-3000:]}")


if __name__ == "__main__":
    main()
