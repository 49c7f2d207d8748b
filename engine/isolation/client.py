"""Run potentially unbounded work in a child process with limits on CPU time and memory.

Templates, JSON Schemas and regex tools contain text of authors, which may compute without end. Each
process of Treadle has up to PROCESSES child processes, which start when they are needed; a child
keeps no data between two tasks. The tasks of projects and of their callers take turns. A task that
exceeds a limit ends the child and fails with ResourceLimitExceeded, and the next task starts a new
child. The child ends when the socket to its parent closes, so no child survives its parent.
"""

import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from time import monotonic
from typing import Any

import orjson

from engine.interpreter import isolated_command
from engine.isolation import suspension
from engine.isolation.threads import FairThreads
from engine.isolation.turns import QueueFull
from engine.types import JSON

PROCESSES = min(os.cpu_count() or 1, 4) + 1
"""Child processes of one process. One project uses all but one of them at most."""
SECONDS = 0.5
"""CPU time that a task may use, in seconds."""
MEMORY_MB = 512
"""Memory that a task may use in addition to what the idle child process uses, in MiB."""
RESPONSE_TIMEOUT_S = 20.0
"""Seconds until a response must arrive, the start of the child process included. Only a busy
machine takes that long, because CPU time is limited.
"""
HEADER = struct.Struct(">Q")
"""The length of a message in bytes, sent before the message."""
_KILLED_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)
_INHERITED_VARIABLES = ("PATH", "LD_LIBRARY_PATH")


class ResourceLimitExceeded(Exception):
    """The task exceeded a limit. The message continues a sentence such as "the template …"."""


class TemporarilyUnavailable(ResourceLimitExceeded):
    """The task was not run to its end for a reason outside of it. A later attempt may succeed."""


class _Process:
    """The child process and the socket to it."""

    def __init__(self) -> None:
        parent_end, child_end = socket.socketpair()
        with child_end:
            self._process = subprocess.Popen(
                isolated_command("engine.isolation.server", str(child_end.fileno())),
                pass_fds=[child_end.fileno()],
                stdin=subprocess.DEVNULL,
                # Ctrl-C must not reach the child, which ends when its socket closes.
                start_new_session=True,
                env={name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ},
            )
        parent_end.settimeout(RESPONSE_TIMEOUT_S)
        self._socket = parent_end

    def request(self, request: bytes) -> bytes:
        """Send a request and wait for its response.

        Raises:
            OSError: The child process is gone, or (TimeoutError) it did not respond in time.
            EOFError: The child process ended before its response.
        """
        send(self._socket, request)
        return receive(self._socket)

    def end(self) -> int:
        """End the child process.

        Returns:
            Its exit code; below 0 the number of the signal that killed it.
        """
        self._socket.close()
        try:
            return self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


_remaining_s: ContextVar[float] = ContextVar("remaining_s", default=inf)
_idle: list["_Helper"] = []
"""The helpers that run no task. Each thread of `_threads` uses one of them at a time."""
_threads = FairThreads("isolation", PROCESSES, PROCESSES - 1)


@contextmanager
def shared_time_limit(seconds: float) -> Iterator[None]:
    """Limit the total time of all tasks that run within this context.

    Without it, each of a thousand tasks could use nearly its whole own limit.
    """
    token = _remaining_s.set(seconds)
    try:
        yield
    finally:
        _remaining_s.reset(token)


def run_isolated(task: str, *arguments: JSON) -> Any:
    """Run a task in a child process, when it is the turn of its owner (turns.py).

    In a suspendable coroutine only its task waits, elsewhere the thread waits (suspension.py).

    Args:
        task: The dotted path of a function, one of TASKS in engine/isolation/server.py.
        arguments: The arguments of the function, as JSON.

    Returns:
        The result of the function, as JSON.

    Raises:
        ResourceLimitExceeded: The task exceeded its CPU time or its memory.
        TemporarilyUnavailable: The shared time limit is used up, the machine is too busy, too many
            tasks of the caller wait, or another process ended the child twice.
    """
    remaining_s = _remaining_s.get()
    if remaining_s <= 0:
        raise TemporarilyUnavailable("and those before it together exceed their time limit")
    try:
        future = _threads.submit(_perform, task, arguments)
    except QueueFull as full:
        raise TemporarilyUnavailable(f"was not started, because {full}: try again later") from None
    result, seconds = suspension.result_of(future)
    _remaining_s.set(remaining_s - seconds)
    if isinstance(result, ResourceLimitExceeded):
        raise result
    return result


def _perform(task: str, arguments: Sequence[JSON]) -> tuple[Any, float]:
    """Run a task in an idle helper, in a thread of `_threads`.

    Returns:
        The result, or the error that says which limit was exceeded, and the seconds that it took.
    """
    helper = _take_helper()
    started_at = monotonic()  # The wait for the turn is not counted.
    try:
        result = helper.run(orjson.dumps([task, *arguments], default=dict))
    except ResourceLimitExceeded as error:
        return error, monotonic() - started_at
    finally:
        _idle.append(helper)
    return result, monotonic() - started_at


def _take_helper() -> "_Helper":
    """Take an idle helper, or make one. Another thread may take the last one at any moment."""
    try:
        return _idle.pop()
    except IndexError:
        return _Helper()


class _Helper:
    """A place for a child process, which starts with its first task and after each that ended it."""

    def __init__(self) -> None:
        self.process: _Process | None = None

    def run(self, request: bytes) -> Any:
        """Run one task. Raises ResourceLimitExceeded."""
        try:
            return orjson.loads(self._running_process().request(request))
        except (OSError, EOFError) as error:
            exit_code = self._end_process()
            if exit_code not in _KILLED_FROM_OUTSIDE:
                raise _limit_error(error, exit_code) from None
        # Another process killed the child, perhaps long ago. The task is not the cause, so try it
        # again.
        try:
            return orjson.loads(self._running_process().request(request))
        except (OSError, EOFError) as error:
            raise _limit_error(error, self._end_process()) from None

    def _running_process(self) -> _Process:
        if self.process is None:
            self.process = _Process()
        return self.process

    def _end_process(self) -> int:
        """End the child process. Returns its exit code."""
        assert self.process is not None
        exit_code, self.process = self.process.end(), None
        return exit_code


def _limit_error(error: OSError | EOFError, exit_code: int) -> ResourceLimitExceeded:
    """Tell by the error and the exit code which limit a task exceeded."""
    if exit_code == -signal.SIGPROF:
        return ResourceLimitExceeded(f"takes more than {SECONDS:g} s of CPU time")
    if isinstance(error, TimeoutError):
        return TemporarilyUnavailable(f"takes more than {RESPONSE_TIMEOUT_S:g} s, because this machine is too busy")
    if exit_code in _KILLED_FROM_OUTSIDE:
        return TemporarilyUnavailable("was stopped twice, because another process ended the isolation process")
    return ResourceLimitExceeded(f"takes more than {MEMORY_MB} MB of memory")


# After a fork the child processes belong to the parent.
os.register_at_fork(after_in_child=_idle.clear)


def send(connection: socket.socket, message: bytes) -> None:
    """Send one message: its length in 8 bytes, then its bytes."""
    connection.sendall(HEADER.pack(len(message)))
    connection.sendall(message)


def receive(connection: socket.socket) -> bytes:
    """Receive one message.

    Raises:
        EOFError: The other end is closed.
    """
    (size,) = HEADER.unpack(_receive_exactly(connection, HEADER.size))
    return _receive_exactly(connection, size)


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view, received = memoryview(data), 0
    while received < size:
        count = connection.recv_into(view[received:])
        if count == 0:
            raise EOFError
        received += count
    return bytes(data)
