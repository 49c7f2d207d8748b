"""`treadle up` with real processes: start, restarts, stop, output and errors."""

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
from app.supervisor.supervisor import bind_error_text
from tests.app.commands import Treadle
from tests.open_folders import open_folder
from tests.paths import ROOT


@dataclass
class RunningUp:
    """A running `treadle up` that is ready."""

    process: "subprocess.Popen[str]"
    url: str
    data: Path

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 0

    def children(self) -> dict[str, int]:
        """Return the process ids of the children by program."""
        numbers = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        commands = {int(number): Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ") for number in numbers}
        names = ("app.cli server", "app.cli worker", "bin/postgres", "bin/redis-server")
        return {name: number for number, command in commands.items() for name in names if name in command}


def ready_url(process: "subprocess.Popen[str]") -> str:
    """Wait until the process is ready, and return its URL."""
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if match := re.match(r"ready (http://127\.0\.0\.1:\d+)/graphql$", line):
            return match[1]
    raise AssertionError(f"the process was never ready:\n{output}")


def start_up(folder: Path, treadle: Treadle) -> RunningUp:
    process = treadle("up", "--port", 0, "--data-dir", folder / "data")
    return RunningUp(process, ready_url(process), folder / "data")


@pytest.fixture
def own_up(open_folder: Path, treadle: Treadle) -> RunningUp:
    """For a test that ends it."""
    return start_up(open_folder, treadle)


@pytest.fixture(scope="module")
def up(treadle_of_module: Treadle) -> Iterator[RunningUp]:
    """For all tests after which it still runs, with processes that it may have restarted."""
    with open_folder() as folder:
        up = start_up(folder, treadle_of_module)
        yield up
        # A stop would wait for the endless code that another worker has taken over.
        pids = descendants(up.process.pid)
        up.process.kill()
        up.process.communicate(timeout=60)
        assert all_end(pids)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def all_end(pids: list[int]) -> bool:
    """Wait until all processes have ended; False if one still runs after 30 s."""
    deadline = time.monotonic() + 30
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        os.sched_yield()
    return not any(is_alive(pid) for pid in pids)


def test_up_becomes_ready_runs_an_example_and_stops_cleanly(own_up: RunningUp, treadle: Treadle) -> None:
    assert httpx.get(f"{own_up.url}/health").status_code == 200
    assert set(own_up.children()) == {"app.cli server", "app.cli worker", "bin/postgres", "bin/redis-server"}
    run = treadle("run", ROOT / "examples" / "support_triage.json", "--watch", "--port", own_up.port)
    output, _ = run.communicate(timeout=180)
    assert run.returncode == 0, output
    assert "COMPLETED" in output
    assert '"category": "billing"' in output
    report, _ = treadle("doctor", "--port", own_up.port, "--data-dir", own_up.data).communicate(timeout=180)
    assert "migrated" in report
    assert "in use by a running `treadle up`" in report
    pids = list(own_up.children().values())
    own_up.process.send_signal(signal.SIGINT)
    assert own_up.process.wait(60) == 0
    assert not any(is_alive(pid) for pid in pids)
    assert in_use(own_up.data) is None


CODE_NODE = """mutation { testNode(input: {type: "code", config: {code: "def process(): return 1"}}) {
  errors { code detail } } }"""


def sockets_of(pid: int) -> set[str]:
    """Return the sockets that a process has open, as `socket:[number]`."""
    links = (str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink())
    return {link for link in links if link.startswith("socket:")}


def test_only_the_server_and_its_parent_hold_the_listening_socket(up: RunningUp) -> None:
    response = httpx.post(f"{up.url}/graphql", json={"query": CODE_NODE}, timeout=60)
    assert response.json() == {"data": {"testNode": {"errors": []}}}
    server = up.children()["app.cli server"]
    assert descendants(server), "the server runs code nodes in a process of its own"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    [inode] = [row[9] for row in rows if row[1].endswith(f":{up.port:04X}") and row[3] == "0A"]
    holders = {pid for pid in descendants(up.process.pid) if f"socket:[{inode}]" in sockets_of(pid)}
    assert holders == {server}


def test_other_users_may_read_no_file_in_the_data_folder(up: RunningUp) -> None:
    files = [
        path
        for path in up.data.rglob("*")
        if path.is_file() and not path.relative_to(up.data).parts[0].startswith("programs")
    ]
    assert {"postgres.log", "redis.log"} <= {path.name for path in files}
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_a_server_that_dies_is_restarted_on_the_same_port(up: RunningUp) -> None:
    first = up.children()["app.cli server"]
    os.kill(first, signal.SIGKILL)
    assert all_end([first])
    # The port stays bound, so this request waits for the next server instead of being refused.
    assert httpx.get(f"{up.url}/health", timeout=60).status_code == 200
    assert up.children()["app.cli server"] != first
    assert "server" in lines_until(up.process, "up.died")[-1]


def lines_until(process: "subprocess.Popen[str]", text: str) -> list[str]:
    """Return the lines of output up to the first one that contains `text`."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"the process never printed {text!r}:\n{''.join(lines)}")


@pytest.mark.parametrize(("name", "program"), [("Postgres", "bin/postgres"), ("Redis", "bin/redis-server")])
def test_a_store_that_dies_is_restarted_and_the_restart_is_logged(
    up: RunningUp, treadle: Treadle, name: str, program: str
) -> None:
    first = up.children()[program]
    os.kill(first, signal.SIGKILL)
    lines = lines_until(up.process, "up.back")
    assert [name in line for line in lines if "up.died" in line] == [True]
    assert not any("Traceback" in line for line in lines)
    assert up.children()[program] != first
    run = treadle("run", ROOT / "examples" / "support_triage.json", "--port", up.port)
    output, _ = run.communicate(timeout=180)
    assert run.returncode == 0, output


ENDLESS = "def process():\n    while True:\n        pass\n"
START = """mutation ($spec: JSON!) { runAdhoc(input: {spec: $spec}) { run { id } } }"""


def start_endless_code(up: RunningUp) -> None:
    """Start a run of code that never ends, and return when the code runs."""
    config = {"language": "python", "code": ENDLESS, "timeoutS": 300}
    spec = {"nodes": [{"id": "c", "type": "code", "config": config}], "edges": []}
    answer = httpx.post(f"{up.url}/graphql", json={"query": START, "variables": {"spec": spec}}).json()
    run_id = answer["data"]["runAdhoc"]["run"]["id"]
    query = f'subscription {{ nodeStates(runId: "{run_id}") {{ nodeState {{ status }} }} }}'
    accept = {"Accept": "text/event-stream"}
    with httpx.stream("POST", f"{up.url}/graphql", json={"query": query}, headers=accept, timeout=60) as stream:
        assert any('"RUNNING"' in line for line in stream.iter_lines())


def descendants(pid: int) -> list[int]:
    """Return the ids of all descendant processes, also of those in other sessions."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, rest = stat.read_text().split(" ", 1)
            parents[int(number)] = int(rest.rsplit(")", 1)[1].split()[1])
    pids = [pid]
    for one in pids:
        pids += [child for child, parent in parents.items() if parent == one]
    return pids[1:]


def test_a_killed_worker_leaves_no_code_running(up: RunningUp) -> None:
    start_endless_code(up)
    worker = up.children()["app.cli worker"]
    pids = descendants(worker)
    assert pids
    os.kill(worker, signal.SIGKILL)
    assert all_end([worker, *pids])


def test_a_kill_of_up_ends_all_processes_and_running_code(own_up: RunningUp) -> None:
    start_endless_code(own_up)
    pids = descendants(own_up.process.pid)
    assert len(pids) > len(own_up.children())
    own_up.process.kill()
    own_up.process.wait()
    assert all_end(pids)
    assert in_use(own_up.data) is None


def test_the_output_until_ready_is_short_and_names_the_next_steps(treadle: Treadle, open_folder: Path) -> None:
    process = treadle("up", "--port", 0, "--data-dir", open_folder / "data", "--workers", 0)
    lines = lines_until(process, "Ctrl-C stops everything")
    output = "".join(lines)
    assert lines[0] == f"starting Postgres, Redis, the server and no workers; the data is in {open_folder / 'data'}\n"
    assert len(lines) <= 10, output
    assert "WARN" not in output.upper(), output
    assert re.search(r"run \S*examples/support_triage\.json --watch --port \d+\n", output)
    # Without a worker, runs would wait. The printed command starts one.
    (command,) = [line.strip() for line in lines if line.endswith(" worker\n")]
    settings = dict(part.split("=", 1) for part in shlex.split(command)[:2])
    worker = treadle("worker", **settings)
    lines_until(worker, "worker.ready")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=180)
    # The server may have missed the worker for a moment.
    assert any(line.startswith("stopping: ") for line in output.splitlines()), output


def test_up_fails_if_the_configured_redis_is_unavailable(treadle: Treadle, open_folder: Path) -> None:
    process = treadle("up", "--port", 0, "--data-dir", open_folder, TREADLE_REDIS_URL="redis://:hunter2@127.0.0.1:1/0")
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "ready" not in output
    assert output.endswith(
        "treadle: Redis at 127.0.0.1:1 cannot be reached (Connection refused): is it running, "
        "and is TREADLE_REDIS_URL right?\n"
    )


def test_a_port_in_use_is_reported_in_one_line(treadle: Treadle, open_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        output, _ = treadle("up", "--port", port, "--data-dir", open_folder).communicate(timeout=180)
    assert output.startswith(f"treadle: port {port} of 127.0.0.1 cannot be bound (Address already in use): ")
    assert "--port or TREADLE_PORT" in output
    assert output.count("\n") == 1


def test_a_privileged_port_is_reported_with_a_solution() -> None:
    output = bind_error_text(Settings(port=80), PermissionError(errno.EACCES, "Permission denied"))
    assert output.startswith("port 80 of 127.0.0.1 cannot be bound (Permission denied): ports below 1024 are")
    assert output.endswith("Choose another port with --port or TREADLE_PORT")


@pytest.mark.parametrize("command", ["server", "worker", "migrate"])
def test_a_single_process_reports_which_addresses_it_needs(treadle: Treadle, command: str) -> None:
    process = treadle(command)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "TREADLE_DATABASE_URL" in output
    assert output.count("\n") == 1


@pytest.mark.parametrize("command", ["server", "worker", "migrate"])
def test_a_single_process_reports_in_one_line_that_its_database_is_unavailable(treadle: Treadle, command: str) -> None:
    url = "postgresql://me:hunter2@127.0.0.1:1/app"
    process = treadle(command, TREADLE_DATABASE_URL=url, TREADLE_REDIS_URL="redis://127.0.0.1:1/0")
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert output == (
        "treadle: Postgres at 127.0.0.1:1 (database app) cannot be reached (Connection refused): "
        "is it running, and is TREADLE_DATABASE_URL right?\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), (json.dumps({"nodes": []}), "no server responds at")],
)
def test_a_run_that_cannot_start_reports_the_reason(
    treadle: Treadle, tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "spec.json"
    file.write_text(content)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        process = treadle("run", file, "--port", unused.getsockname()[1])
        output, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert message in output
    assert "Traceback" not in output
