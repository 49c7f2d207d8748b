"""What an author's text could make endless is done aside: in a process of its own, with limits on computing time and memory.

One such process for each of ours, started when it is first needed; it holds no data between two tasks. A task that goes over a
limit takes the process with it and fails with ResourceLimitExceeded; the next task starts another one. Whichever way
we end, it ends with us.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from time import monotonic
from typing import Any

import orjson

from engine.types import JSON

SECONDS = 0.5
"""Computing time that a task may take."""
MEMORY_MB = 512
"""Memory that a task may take, beside what the process has anyway."""
PATIENCE_S = 20.0
"""How long an answer may take on a machine that is busy, the start of the process included."""
HEADER = struct.Struct(">Q")
_BY_OTHERS = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)
_PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")


class ResourceLimitExceeded(Exception):
    """The task went over a limit; reads on from `the template` or the like."""


class TemporarilyUnavailable(ResourceLimitExceeded):
    """This says nothing of the task: another time it may well be done."""


class _Process:
    """The process and our end of its line."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "engine.isolation.server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Ctrl-C is for us: this one ends when its line closes.
                start_new_session=True,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            )
        ours.settimeout(PATIENCE_S)
        self._line = ours

    def request(self, request: bytes) -> bytes:
        """Raises OSError, EOFError or TimeoutError where no answer comes."""
        send(self._line, request)
        return receive(self._line)

    def end(self) -> int:
        """Its exit code: below 0 the signal that killed it."""
        self._line.close()
        try:
            return self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


_left: ContextVar[float] = ContextVar("left", default=inf)
_lock = threading.Lock()
_process: _Process | None = None


@contextmanager
def shared_time_limit(seconds: float) -> Iterator[None]:
    """All that is asked meanwhile may take that long together: each of a thousand tasks may be just within its own limit."""
    before = _left.set(seconds)
    try:
        yield
    finally:
        _left.reset(before)


def run_isolated(task: str, *arguments: JSON) -> Any:
    """What the task answers. Raises ResourceLimitExceeded."""
    left = _left.get()
    if left <= 0:
        raise TemporarilyUnavailable("and those before it take too much computing together")
    request = orjson.dumps([task, *arguments], default=dict)
    with _lock:
        began = monotonic()  # The turns of others, before ours, are not counted.
        try:
            return _asked(request)
        finally:
            _left.set(left - (monotonic() - began))


def _asked(request: bytes) -> Any:
    try:
        return orjson.loads(_ready().request(request))
    except (OSError, EOFError) as fault:
        ended = _ended()
        if ended not in _BY_OTHERS:
            raise _too_much(fault, ended) from None
    # Somebody else ended the process, perhaps long ago: that says nothing of this task.
    try:
        return orjson.loads(_ready().request(request))
    except (OSError, EOFError) as fault:
        raise _too_much(fault, _ended()) from None


def _ready() -> _Process:
    global _process
    if _process is None:
        _process = _Process()
    return _process


def _ended() -> int:
    global _process
    assert _process is not None
    ended, _process = _process.end(), None
    return ended


def _too_much(fault: OSError | EOFError, ended: int) -> ResourceLimitExceeded:
    if ended == -signal.SIGPROF:
        return ResourceLimitExceeded(f"takes more than {SECONDS:g} s of computing")
    if isinstance(fault, TimeoutError):
        return TemporarilyUnavailable(f"takes more than {PATIENCE_S:g} s on a machine that is as busy as this one")
    if ended in _BY_OTHERS:
        return TemporarilyUnavailable("was cut off twice: somebody else ended its process")
    return ResourceLimitExceeded(f"takes more than {MEMORY_MB} MB of memory")


def _forget() -> None:
    """After a fork the process belongs to the parent."""
    global _process, _lock
    _process, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def send(line: socket.socket, message: bytes) -> None:
    line.sendall(HEADER.pack(len(message)))
    line.sendall(message)


def receive(line: socket.socket) -> bytes:
    """Raises EOFError where the other end is gone."""
    (size,) = HEADER.unpack(_exactly(line, HEADER.size))
    return _exactly(line, size)


def _exactly(line: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        count = line.recv_into(view[got:])
        if count == 0:
            raise EOFError
        got += count
    return bytes(data)
