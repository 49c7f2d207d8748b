"""Child processes that end when this process ends.

A clean stop sends each child its stop signal. If this process crashes, the Linux kernel sends the
signal (`prctl(PR_SET_PDEATHSIG)`). The supervisor, the embedded stores and the chaos suite start
their children here.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
ORPHANED = signal.SIGUSR1
"""The signal sent to a child when this process dies and the embedded stores die with it.

The child cannot release its runs then, because there is no database left to write to.
"""


@dataclass(frozen=True, slots=True)
class Program:
    """A command to start, and how to stop it. `options` are passed to `subprocess.Popen`."""

    name: str
    command: Sequence[str | Path]
    stop: signal.Signals = signal.SIGTERM
    stop_s: float = 20.0
    """Seconds after the stop signal until the process is killed."""
    options: dict[str, Any] = field(default_factory=dict)


def start(program: Program, output: IO[bytes] | None = None) -> "subprocess.Popen[bytes]":
    """Start the program in its own session.

    Ctrl-C in the terminal therefore reaches only this process, which then stops its children in
    order.
    """
    return subprocess.Popen(
        [str(part) for part in program.command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=end_with_parent(program.stop),
        **program.options,
    )


def stop(program: Program, child: "subprocess.Popen[bytes]") -> None:
    """Send the stop signal, and kill the process if it does not end within `program.stop_s`."""
    if child.poll() is None:
        child.send_signal(program.stop)
    try:
        child.wait(program.stop_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def kill_group(leader: int) -> None:
    """Kill the process group of a session leader.

    After the leader has died, this ends the processes that it left behind, such as a sandbox that
    runs code.
    """
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def kill_group_when_orphaned() -> None:
    """Make this process kill its own process group when it receives `ORPHANED`.

    Without this call, or if the process leads no group, `ORPHANED` ends only the process itself.
    """
    if os.getpgrp() == os.getpid():
        signal.signal(ORPHANED, lambda *_: kill_group(os.getpid()))


def end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Create a `preexec_fn` by which the kernel sends `number` to the child when this process dies.

    Returns:
        None on systems other than Linux. There a crash of this process leaves the child running.
    """
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:
            os._exit(1)  # The parent died before the prctl call, so no signal would come.

    return prepare
