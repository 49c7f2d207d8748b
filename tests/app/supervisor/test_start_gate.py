"""Start gate: processes wait until it is opened or its owner has died."""

import os
import subprocess
import sys
import threading

from app.supervisor.start_gate import start_gate, wait_until_open
from tests.paths import ROOT

WAITS = """
import sys
from app.supervisor.start_gate import wait_until_open
print("waiting", flush=True)
wait_until_open(int(sys.argv[1]))
print("open")
"""
OWNS = f"""
import subprocess, sys
from app.supervisor.start_gate import start_gate
with start_gate() as gate:
    subprocess.Popen([sys.executable, "-c", {WAITS!r}, str(gate.descriptor)], pass_fds=[gate.descriptor])
    input()
"""


def waiting_process(descriptor: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WAITS, str(descriptor)]
    return subprocess.Popen(command, cwd=ROOT, pass_fds=[descriptor], stdout=subprocess.PIPE, text=True)


def test_processes_wait_until_the_gate_is_opened() -> None:
    with start_gate() as gate:
        processes = [waiting_process(gate.descriptor) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            assert process.poll() is None
        gate.open()
        assert [process.communicate(timeout=20)[0] for process in processes] == ["open\n"] * 2


def test_a_process_that_comes_after_the_opening_does_not_wait() -> None:
    with start_gate() as gate:
        gate.open()
        gate.open()
        late = threading.Thread(target=wait_until_open, args=[os.dup(gate.descriptor)])
        late.start()
        late.join(20)
        assert not late.is_alive()


def test_a_waiting_process_continues_when_the_owner_has_died() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "waiting\n"
    owner.kill()
    owner.wait()
    assert owner.stdout.read() == "open\n"
