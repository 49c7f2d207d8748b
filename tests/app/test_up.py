"""`treadle up` as a person has it: real processes, from nothing to ready and back."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.embedded import in_use

ROOT = Path(__file__).parents[2]


@dataclass
class Up:
    process: "subprocess.Popen[str]"
    url: str
    data: Path

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 0

    def children(self) -> dict[str, int]:
        """Process number by what it is."""
        numbers = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        commands = {int(number): Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ") for number in numbers}
        names = ("app.cli server", "app.cli worker", "bin/postgres", "bin/redis-server")
        return {name: number for number, command in commands.items() for name in names if name in command}


def ready_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if found := re.match(r"ready (http://127\.0\.0\.1:\d+)/graphql$", line):
            return found[1]
    raise AssertionError(f"it never got ready:\n{seen}")


@pytest.fixture
def up(open_folder: Path, treadle) -> Iterator[Up]:  # type: ignore[no-untyped-def]
    process = treadle("up", "--port", 0, "--data-dir", open_folder / "data")
    yield Up(process, ready_line(process), open_folder / "data")


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def ended(pids: list[int]) -> bool:
    deadline = time.monotonic() + 30
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        os.sched_yield()
    return not any(is_alive(pid) for pid in pids)


def test_it_gets_ready_runs_an_example_and_stops_cleanly(up: Up, treadle) -> None:  # type: ignore[no-untyped-def]
    assert httpx.get(f"{up.url}/health").status_code == 200
    assert set(up.children()) == {"app.cli server", "app.cli worker", "bin/postgres", "bin/redis-server"}
    ran = treadle("run", ROOT / "examples" / "support_triage.json", "--watch", "--port", up.port)
    told, _ = ran.communicate(timeout=60)
    assert ran.returncode == 0, told
    assert "COMPLETED" in told
    assert '"category": "billing"' in told
    examined, _ = treadle("doctor", "--port", up.port, "--data-dir", up.data).communicate(timeout=60)
    assert "migrated" in examined
    pids = list(up.children().values())
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert not any(is_alive(pid) for pid in pids)
    assert in_use(up.data) is None


def test_a_server_that_dies_is_started_again_on_the_same_port(up: Up) -> None:
    first = up.children()["app.cli server"]
    os.kill(first, signal.SIGKILL)
    assert ended([first])
    # The port stays bound in between: this request waits for the next server instead of being refused.
    assert httpx.get(f"{up.url}/health", timeout=60).status_code == 200
    assert up.children()["app.cli server"] != first


def test_nothing_is_left_behind_by_a_kill(up: Up) -> None:
    pids = list(up.children().values())
    up.process.kill()
    up.process.wait()
    assert ended(pids)


def test_a_taken_port_is_one_clear_line(treadle, open_folder: Path) -> None:  # type: ignore[no-untyped-def]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told, _ = treadle("up", "--port", port, "--data-dir", open_folder).communicate(timeout=60)
    assert told.startswith(f"treadle: port {port} of 127.0.0.1 cannot be bound")
    assert told.count("\n") == 1


@pytest.mark.parametrize("command", ["server", "worker", "migrate"])
def test_a_process_alone_says_which_addresses_it_needs(treadle, command: str) -> None:  # type: ignore[no-untyped-def]
    process = treadle(command)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "TREADLE_DATABASE_URL" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "no valid JSON"), (json.dumps({"nodes": []}), "nothing answers at")],
)
def test_a_run_that_cannot_start_says_why(treadle, tmp_path: Path, content: str, told: str) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "spec.json"
    file.write_text(content)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        process = treadle("run", file, "--port", unused.getsockname()[1])
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told in output
    assert "Traceback" not in output
