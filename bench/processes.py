"""Starts the measured deployment (embedded stores, one server, workers) and reads its CPU time."""

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
    """A running deployment with default settings: durable Postgres, and events to Redis."""

    database_url: str
    redis_url: str
    port: int
    server: "subprocess.Popen[bytes]"
    workers: list["subprocess.Popen[bytes]"]
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/graphql"

    @contextmanager
    def suspended_workers(self) -> Iterator[None]:
        """Suspend all workers for the duration of the block, which must be shorter than their leases."""
        for worker in self.workers:
            worker.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for worker in self.workers:
                worker.send_signal(signal.SIGCONT)

    def cpu(self) -> dict[str, float]:
        """Return the CPU time used so far in seconds, by part."""
        pids = _descendants(os.getpid())
        known = {self.server.pid: "server", **{worker.pid: "worker" for worker in self.workers}}
        used = {"server": 0.0, "worker": 0.0, "postgres": 0.0, "redis": 0.0}
        for pid in pids:
            part = known.get(pid) or _store_name(pid)
            if part is not None:
                used[part] += _cpu_of(pid)
        return used


def _store_name(pid: int) -> str | None:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return None
    return "postgres" if "postgres" in command else "redis" if "redis-server" in command else None


def _descendants(pid: int) -> list[int]:
    children_of: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children_of.setdefault(parent, []).append(int(entry.name))
    pids, pending = [], [pid]
    while pending:
        children = children_of.get(pending.pop(), [])
        pids += children
        pending += children
    return pids


def _cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_S


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def deployed(workers: int = 1, **settings: str) -> Iterator[Deployment]:
    """Run a deployment for the duration of the block.

    Args:
        workers: Number of workers.
        settings: Settings by field name.
    """
    # If this is root, Postgres runs as another user, who must be able to enter the folder.
    with tempfile.TemporaryDirectory(prefix="treadle-bench-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        with servers.servers(Path(folder) / "data") as (database_url, redis_url):
            environment = {
                **os.environ,
                "TREADLE_DATABASE_URL": database_url,
                "TREADLE_REDIS_URL": redis_url,
                "TREADLE_DATA_DIR": str(Path(folder) / "state"),
                "TREADLE_PORT": str(free_port()),
                "TREADLE_LOG_LEVEL": "warning",
                **{f"TREADLE_{name.upper()}": value for name, value in settings.items()},
            }
            _start(environment, "migrate").wait(START_S)
            server, *worker_processes = [_start(environment, name) for name in ("server", *["worker"] * workers)]
            port = int(environment["TREADLE_PORT"])
            deployment = Deployment(database_url, redis_url, port, server, worker_processes, environment)
            try:
                _wait_until_healthy(deployment.port)
                yield deployment
            finally:
                _end([server, *worker_processes])


@contextmanager
def second_server(deployment: Deployment) -> Iterator[int]:
    """Run a second server on the same stores, and yield its port."""
    port = free_port()
    server = _start({**deployment.environment, "TREADLE_PORT": str(port)}, "server")
    try:
        _wait_until_healthy(port)
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


def _wait_until_healthy(port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("the server did not become healthy")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
