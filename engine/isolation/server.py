"""The program of the child process that runs isolated tasks.

engine/isolation/client.py starts it as `python -m engine.isolation.server FD`. A task is a function
of TASKS, named by its dotted path; it takes and returns JSON. The kernel enforces the limits: a
task that exceeds its CPU time or its memory ends the process, and the client reports which limit it
was.
"""

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import orjson

from engine.isolation.client import MEMORY_MB, SECONDS, receive, send
from engine.types import JSON

TASKS = (
    "engine.expressions.environment.evaluate_isolated",
    "engine.expressions.environment.render_isolated",
    "engine.tools.isolated.run",
    "engine.triggers.feed.feed_entries",
    "engine.values.json_schema.schema_violations",
    "engine.values.json_schema.value_violations",
)
"""The functions that a client may name. They are imported before the memory limit is set."""

NICENESS = 5
"""The priority of tasks below that of the process that sends them: about a third of its weight on Linux."""
AUTOGROUP = Path("/proc/self/autogroup")
"""The priority of the session of this process; only some Linux systems have it."""


def load_tasks() -> dict[str, Callable[..., JSON]]:
    """Import every task. Returns the functions by dotted path."""
    paths = [(path, *path.rsplit(".", 1)) for path in TASKS]
    return {path: getattr(import_module(module), name) for path, module, name in paths}


def main(descriptor: int) -> None:
    """Answer requests from the socket `descriptor` until its other end closes."""
    # Heavy tasks take the cores that the event loops leave: these serve everybody.
    os.nice(NICENESS)
    is_group_lowered = _lower_group()
    connection, tasks = socket.socket(fileno=descriptor), load_tasks()
    _limit_memory()
    _discard_stderr()
    while True:
        try:
            task, *arguments = orjson.loads(receive(connection))
        except EOFError:
            return
        is_group_lowered = is_group_lowered or _lower_group()
        # The default action of SIGPROF ends the process, so no code of the task can delay it.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        result = tasks[task](*arguments)
        signal.setitimer(signal.ITIMER_PROF, 0)
        send(connection, orjson.dumps(result))


def _lower_group() -> bool:
    """Lower the priority of this session. Returns False if the kernel refuses it at this moment.

    This process has a session of its own. Linux may share the cores equally between sessions, and then
    compares the priorities of processes only inside each session (autogroups, sched(7)). It accepts one such
    change of unprivileged processes in 0.1 s.
    """
    if not AUTOGROUP.exists():
        return True
    try:
        AUTOGROUP.write_text(str(NICENESS))
    except OSError:
        return False
    return True


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():  # only Linux has it; other systems have the time limit only
        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_MB * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _discard_stderr() -> None:
    """Discard the allocator's messages about a failed allocation: the client reports the limit."""
    with Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), sys.stderr.fileno())


if __name__ == "__main__":
    main(int(sys.argv[1]))
