"""What is started early waits until what it needs is there, and nobody waits for a gate that has no owner any more."""

import os
import subprocess
import sys
import threading

from app.supervisor.start_gate import gate, wait_at
from tests.paths import ROOT

WAITS = """
import sys
from app.supervisor.start_gate import wait_at
print("there", flush=True)
wait_at(int(sys.argv[1]))
print("through")
"""
OWNS = f"""
import subprocess, sys
from app.supervisor.start_gate import gate
with gate() as closed:
    subprocess.Popen([sys.executable, "-c", {WAITS!r}, str(closed.descriptor)], pass_fds=[closed.descriptor])
    input()
"""


def waiting(descriptor: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WAITS, str(descriptor)]
    return subprocess.Popen(command, cwd=ROOT, pass_fds=[descriptor], stdout=subprocess.PIPE, text=True)


def test_processes_wait_until_the_gate_is_opened() -> None:
    with gate() as closed:
        processes = [waiting(closed.descriptor) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            assert process.poll() is None
        closed.open()
        assert [process.communicate(timeout=20)[0] for process in processes] == ["through\n"] * 2


def test_who_comes_when_it_is_open_does_not_wait() -> None:
    with gate() as opened:
        opened.open()
        opened.open()
        late = threading.Thread(target=wait_at, args=[os.dup(opened.descriptor)])
        late.start()
        late.join(20)
        assert not late.is_alive()


def test_who_waits_goes_on_when_the_owner_has_died() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "there\n"
    owner.kill()
    owner.wait()
    assert owner.stdout.read() == "through\n"
