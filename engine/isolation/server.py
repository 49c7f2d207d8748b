"""The process in which heavy tasks are done, started by engine/isolation/client.py as `python -m engine.isolation.server FD`.

The kernel holds the limits: a task that computes too long or takes too much memory ends the process, and with it the task.
"""

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from engine.errors import NotStorable
from engine.expressions import environment
from engine.isolation.client import MEMORY_MB, SECONDS, receive, send
from engine.tools import isolated
from engine.types import JSON
from engine.values import json_schema
from engine.values.storable import check_storable


def _template(evaluate: Callable[[Any, dict[str, JSON]], JSON]) -> Callable[..., JSON]:
    def task(what: JSON, scope: dict[str, JSON]) -> JSON:
        try:
            value = evaluate(what, scope)
            check_storable(value)  # many texts may give the same large value: it is not sent to be refused there
        except environment.ExpressionError as wrong:
            return {"wrong": [wrong.message, wrong.line, wrong.column]}
        except NotStorable as wrong:
            return {"wrong": [f"the templates give too much: {wrong}", None, None]}
        return {"value": value}

    return task


TASKS: dict[str, Callable[..., JSON]] = {
    "evaluate": _template(environment.evaluate),
    "render": _template(environment.render),
    "schema_faults": json_schema.schema_faults,
    "faults": json_schema.faults,
    "tool": isolated.run,
}


def main(descriptor: int) -> None:
    line = socket.socket(fileno=descriptor)
    _limit_memory()
    _silence()
    while True:
        try:
            task, *arguments = orjson.loads(receive(line))
        except EOFError:
            return
        # Ended by the signal itself: nothing in the task can hold that up.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        answer = TASKS[task](*arguments)
        signal.setitimer(signal.ITIMER_PROF, 0)
        send(line, orjson.dumps(answer))


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():  # elsewhere than on Linux the limit on time has to do
        most = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_MB * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _silence() -> None:
    """What the allocator says when it gives up is said by us."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())


if __name__ == "__main__":
    main(int(sys.argv[1]))
