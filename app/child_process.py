"""Child processes that end when we do, however we end: a clean stop asks them, a crash makes the kernel ask them."""

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
"""What a process of ours gets from the kernel when we die and there is nothing that it could still hand back."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to start, and how it is asked to stop. `options` go to Popen."""

    name: str
    command: Sequence[str | Path]
    stop: signal.Signals = signal.SIGTERM
    stop_s: float = 20.0
    options: dict[str, Any] = field(default_factory=dict)


def start(program: Program, output: IO[bytes] | None = None) -> "subprocess.Popen[bytes]":
    """Starts it in a session of its own, so that a Ctrl-C reaches us alone and we stop things in order."""
    return subprocess.Popen(
        [str(part) for part in program.command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=ends_with_us(program.stop),
        **program.options,
    )


def stop(program: Program, child: "subprocess.Popen[bytes]") -> None:
    """Asks it to stop, and kills it when it does not."""
    if child.poll() is None:
        child.send_signal(program.stop)
    try:
        child.wait(program.stop_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def end_group(leader: int) -> None:
    """Kills what a process left behind that led a session of its own: a sandbox in the middle of somebody's code."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def end_group_when_orphaned() -> None:
    """For the process itself. Without this, or where it leads no group, ORPHANED ends it alone."""
    if os.getpgrp() == os.getpid():
        signal.signal(ORPHANED, lambda *_: end_group(os.getpid()))


def ends_with_us(ask: signal.Signals) -> Callable[[], None] | None:
    """For `preexec_fn`: Linux tells the child when we die. Elsewhere a crash of ours leaves it running."""
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(ask))
        if os.getppid() != parent:
            os._exit(1)  # It died before we could ask to be told.

    return prepare
