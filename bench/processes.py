"""A whole Treadle to be measured: embedded stores, one server and some workers, and the CPU that each of them uses."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded import servers

ROOT = Path(__file__).parent.parent
START_S = 60.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Deployment:
    """Everything is on, as a user would have it: durable Postgres, events, the real settings' defaults."""

    database_url: str
    redis_url: str
    port: int
    server: "subprocess.Popen[bytes]"
    workers: list["subprocess.Popen[bytes]"]
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/graphql"

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU used so far, by part."""
        ours = _children(os.getpid())
        known = {self.server.pid: "server", **{worker.pid: "worker" for worker in self.workers}}
        used = {"server": 0.0, "worker": 0.0, "postgres": 0.0, "redis": 0.0}
        for pid in ours:
            part = known.get(pid) or _store(pid)
            if part is not None:
                used[part] += _cpu_of(pid)
        return used


def _store(pid: int) -> str | None:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return None
    return "postgres" if "postgres" in command else "redis" if "redis-server" in command else None


def _children(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, work = [], [pid]
    while work:
        children = parents.get(work.pop(), [])
        found += children
        work += children
    return found


def _cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_S


def memory_of(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def deployed(workers: int = 1, **settings: str) -> Iterator[Deployment]:
    """Ends what it started, by pid."""
    # As root, Postgres runs as another user, who must be able to reach its data.
    with tempfile.TemporaryDirectory(prefix="treadle-bench-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        with servers.servers(Path(folder) / "data") as (database_url, redis_url):
            environment = {
                **os.environ,
                "TREADLE_DATABASE_URL": database_url,
                "TREADLE_REDIS_URL": redis_url,
                "TREADLE_DATA_DIR": str(Path(folder) / "kept"),
                "TREADLE_PORT": str(free_port()),
                "TREADLE_LOG_LEVEL": "warning",
                **{f"TREADLE_{name.upper()}": value for name, value in settings.items()},
            }
            _start(environment, "migrate").wait(START_S)
            server, *others = [_start(environment, name) for name in ("server", *["worker"] * workers)]
            port = int(environment["TREADLE_PORT"])
            deployment = Deployment(database_url, redis_url, port, server, others, environment)
            try:
                _until_healthy(deployment.port)
                yield deployment
            finally:
                _end([server, *others])


@contextmanager
def another_server(deployment: Deployment) -> Iterator[int]:
    """The port of a second server on the same stores."""
    port = free_port()
    server = _start({**deployment.environment, "TREADLE_PORT": str(port)}, "server")
    try:
        _until_healthy(port)
        yield port
    finally:
        _end([server])


def _start(environment: dict[str, str], command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "app.cli", command], env=environment, cwd=ROOT)


def _end(processes: list["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_healthy(port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("the server did not become healthy")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
