"""Execution log: records every node execution in files, to detect repeated executions.

Each worker process appends to its own file, one JSON line per event. A line is written by one
`write` call before the node continues. It survives a SIGKILL of the process, because it is in the
kernel's page cache then. Times are of the right clock, also in a worker whose clock is wrong.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.chaos.wrong_clock import real_time
from engine.sdk.node import NodeContext

FOLDER = "TREADLE_CHAOS_RECORDS"
"""The environment variable with the folder of the files."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt of one visit of a node in one process.

    `ended_at` is None if the process died in it. `item` is empty, or the rest of the idempotency
    key in an item of the map `node_id`: its index, and in a spec also the node and its visit.
    """

    run_id: str
    lineage: int
    node_id: str
    visit: int
    attempt: int
    pid: int
    started_at: float
    ended_at: float | None = None
    item: str = ""

    @property
    def index(self) -> int | None:
        """The index of the item; None outside of a map."""
        return int(self.item.partition("/")[0]) if self.item else None


@contextmanager
def recorded(ctx: NodeContext) -> Iterator[None]:
    """Record the start of an execution before the block, and its end after it, also if it fails."""
    attempt = f"{ctx.idempotency_key}/{ctx.attempt}"
    _append("start", attempt)
    try:
        yield
    finally:
        _append("end", attempt)


def _append(event: str, attempt: str) -> None:
    line = json.dumps([event, attempt, real_time()])
    os.write(_file(), f"{line}\n".encode())


@cache
def _file() -> int:
    path = Path(os.environ[FOLDER]) / f"{os.getpid()}-{time.time_ns()}.jsonl"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)


def read(folder: Path) -> list[Execution]:
    """Read all executions from the files in `folder`, in order of their start."""
    executions = [one for path in folder.glob("*.jsonl") for one in _read_file(path)]
    return sorted(executions, key=lambda one: one.started_at)


def _read_file(path: Path) -> Iterator[Execution]:
    pid = int(path.name.partition("-")[0])
    unfinished: dict[str, list[float]] = {}
    for line in path.read_text().splitlines():
        event, attempt, at = json.loads(line)
        if event == "start":
            unfinished.setdefault(attempt, []).append(at)
        else:
            yield _execution(attempt, pid, unfinished[attempt].pop(0), at)
    for attempt, starts in unfinished.items():
        yield from (_execution(attempt, pid, started_at, None) for started_at in starts)


def _execution(attempt: str, pid: int, started_at: float, ended_at: float | None) -> Execution:
    run_id, lineage, node_id, visit, *item, number = attempt.split("/")
    at = (started_at, ended_at)
    return Execution(run_id, int(lineage), node_id, int(visit), int(number), pid, *at, "/".join(item))
