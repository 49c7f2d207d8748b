"""`treadle up` as a person has it: real processes, from nothing to ready and back."""

import contextlib
import errno
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.embedded.servers import in_use
from app.settings import Settings
from app.supervisor.supervisor import unbound
from tests.app.commands import Treadle
from tests.paths import ROOT


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
def up(open_folder: Path, treadle: Treadle) -> Iterator[Up]:
    process = treadle("up", "--port", 0, "--data-dir", open_folder / "data")
    yield Up(process, ready_line(process), open_folder / "data")


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def ended(pids: list[int]) -> bool:
    deadline = time.monotonic() + 30
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        os.sched_yield()
    return not any(is_alive(pid) for pid in pids)


def test_it_gets_ready_runs_an_example_and_stops_cleanly(up: Up, treadle: Treadle) -> None:
    assert httpx.get(f"{up.url}/health").status_code == 200
    assert set(up.children()) == {"app.cli server", "app.cli worker", "bin/postgres", "bin/redis-server"}
    ran = treadle("run", ROOT / "examples" / "support_triage.json", "--watch", "--port", up.port)
    told, _ = ran.communicate(timeout=60)
    assert ran.returncode == 0, told
    assert "COMPLETED" in told
    assert '"category": "billing"' in told
    examined, _ = treadle("doctor", "--port", up.port, "--data-dir", up.data).communicate(timeout=60)
    assert "migrated" in examined
    assert "in use by a running `treadle up`" in examined
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


def lines_until(process: "subprocess.Popen[str]", wanted: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError(f"it never said {wanted!r}:\n{''.join(lines)}")


@pytest.mark.parametrize(("name", "program"), [("Postgres", "bin/postgres"), ("Redis", "bin/redis-server")])
def test_a_store_that_dies_is_started_again_and_said_so(up: Up, treadle: Treadle, name: str, program: str) -> None:
    first = up.children()[program]
    os.kill(first, signal.SIGKILL)
    said = lines_until(up.process, "up.back")
    assert [name in line for line in said if "up.died" in line] == [True]
    assert not any("Traceback" in line for line in said)
    assert up.children()[program] != first
    ran = treadle("run", ROOT / "examples" / "support_triage.json", "--port", up.port)
    told, _ = ran.communicate(timeout=60)
    assert ran.returncode == 0, told


ENDLESS = "def process():\n    while True:\n        pass\n"
START = """mutation ($spec: JSON!) { runAdhoc(input: {spec: $spec}) { run { id } } }"""


def start_endless_code(up: Up) -> None:
    """Returns when the code runs."""
    config = {"language": "python", "code": ENDLESS, "timeoutS": 300}
    spec = {"nodes": [{"id": "c", "type": "code", "config": config}], "edges": []}
    answer = httpx.post(f"{up.url}/graphql", json={"query": START, "variables": {"spec": spec}}).json()
    run_id = answer["data"]["runAdhoc"]["run"]["id"]
    query = f'subscription {{ nodeStates(runId: "{run_id}") {{ nodeState {{ status }} }} }}'
    accept = {"Accept": "text/event-stream"}
    with httpx.stream("POST", f"{up.url}/graphql", json={"query": query}, headers=accept, timeout=60) as stream:
        assert any('"RUNNING"' in line for line in stream.iter_lines())


def descendants(pid: int) -> list[int]:
    """Those in sessions of their own as well."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, rest = stat.read_text().split(" ", 1)
            parents[int(number)] = int(rest.rsplit(")", 1)[1].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def test_a_worker_that_is_killed_leaves_no_code_running(up: Up) -> None:
    start_endless_code(up)
    worker = up.children()["app.cli worker"]
    pids = descendants(worker)
    assert pids
    os.kill(worker, signal.SIGKILL)
    assert ended([worker, *pids])


def test_nothing_is_left_behind_by_a_kill_not_even_running_code(up: Up) -> None:
    start_endless_code(up)
    pids = descendants(up.process.pid)
    assert len(pids) > len(up.children())
    up.process.kill()
    up.process.wait()
    assert ended(pids)
    assert in_use(up.data) is None


def test_what_it_says_until_it_is_ready_is_short_and_useful(treadle: Treadle, open_folder: Path) -> None:
    process = treadle("up", "--port", 0, "--data-dir", open_folder / "data", "--workers", 0)
    said = lines_until(process, "Ctrl-C stops everything")
    shown = "".join(said)
    assert said[0] == f"starting Postgres, Redis, the server and no workers; the data is in {open_folder / 'data'}\n"
    assert len(said) <= 10, shown
    assert "WARN" not in shown.upper(), shown
    assert re.search(r"run \S*examples/support_triage\.json --watch --port \d+\n", shown)
    # Without a worker runs would wait: the command that starts one is there to be pasted, and it works.
    (command,) = [line.strip() for line in said if line.endswith(" worker\n")]
    settings = dict(part.split("=", 1) for part in shlex.split(command)[:2])
    worker = treadle("worker", **settings)
    lines_until(worker, "worker.ready")
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert told.startswith("stopping: ")


def test_it_is_not_ready_while_the_redis_it_was_given_is_away(treadle: Treadle, open_folder: Path) -> None:
    process = treadle("up", "--port", 0, "--data-dir", open_folder, TREADLE_REDIS_URL="redis://:hunter2@127.0.0.1:1/0")
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ready" not in told
    assert told.endswith(
        "treadle: Redis at 127.0.0.1:1 cannot be reached (Connection refused): is it running, "
        "and is TREADLE_REDIS_URL right?\n"
    )


def test_a_taken_port_is_one_clear_line(treadle: Treadle, open_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told, _ = treadle("up", "--port", port, "--data-dir", open_folder).communicate(timeout=60)
    assert told.startswith(f"treadle: port {port} of 127.0.0.1 cannot be bound (Address already in use): ")
    assert "--port or TREADLE_PORT" in told
    assert told.count("\n") == 1


def test_a_port_that_is_the_superusers_is_told_with_the_way_out() -> None:
    told = unbound(Settings(port=80), PermissionError(errno.EACCES, "Permission denied"))
    assert told.startswith("port 80 of 127.0.0.1 cannot be bound (Permission denied): ports below 1024 are")
    assert told.endswith("Choose another one by --port or TREADLE_PORT")


@pytest.mark.parametrize("command", ["server", "worker", "migrate"])
def test_a_process_alone_says_which_addresses_it_needs(treadle: Treadle, command: str) -> None:
    process = treadle(command)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "TREADLE_DATABASE_URL" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("command", ["server", "worker", "migrate"])
def test_a_process_alone_says_in_a_line_that_its_database_is_away(treadle: Treadle, command: str) -> None:
    url = "postgresql://me:hunter2@127.0.0.1:1/app"
    process = treadle(command, TREADLE_DATABASE_URL=url, TREADLE_REDIS_URL="redis://127.0.0.1:1/0")
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told == (
        "treadle: Postgres at 127.0.0.1:1 (database app) cannot be reached (Connection refused): "
        "is it running, and is TREADLE_DATABASE_URL right?\n"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "no valid JSON"), (json.dumps({"nodes": []}), "nothing answers at")],
)
def test_a_run_that_cannot_start_says_why(treadle: Treadle, tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "spec.json"
    file.write_text(content)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        process = treadle("run", file, "--port", unused.getsockname()[1])
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told in output
    assert "Traceback" not in output
