"""The suite's own record of what was executed, in files outside the database: re-execution is seen and not assumed.

Every worker process appends to a file of its own, one line an event, each with one write and before the node goes on. What
is written survives a SIGKILL of the process: the kernel has it.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engine.sdk.node import NodeContext

FOLDER = "TREADLE_CHAOS_RECORDS"
"""The variable that tells a worker where to record."""


@dataclass(frozen=True, slots=True)
class Record:
    """One attempt of one visit of a node, by one process. `ended_at` is None where the process died in the middle."""

    run_id: str
    lineage: int
    node_id: str
    visit: int
    attempt: int
    pid: int
    started_at: float
    ended_at: float | None = None


@contextmanager
def recorded(ctx: NodeContext) -> Iterator[None]:
    """Notes the start before the block and the end after it, however it ends."""
    attempt = f"{ctx.idempotency_key}/{ctx.attempt}"
    _append("start", attempt)
    try:
        yield
    finally:
        _append("end", attempt)


def _append(what: str, attempt: str) -> None:
    line = json.dumps([what, attempt, time.time()])
    os.write(_file(), f"{line}\n".encode())


@cache
def _file() -> int:
    path = Path(os.environ[FOLDER]) / f"{os.getpid()}-{time.time_ns()}.jsonl"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)


def read(folder: Path) -> list[Record]:
    """All that was started, in order of time."""
    records = [record for path in folder.glob("*.jsonl") for record in _read_one(path)]
    return sorted(records, key=lambda record: record.started_at)


def _read_one(path: Path) -> Iterator[Record]:
    pid = int(path.name.partition("-")[0])
    open_: dict[str, list[float]] = {}
    for line in path.read_text().splitlines():
        what, attempt, at = json.loads(line)
        if what == "start":
            open_.setdefault(attempt, []).append(at)
        else:
            yield _record(attempt, pid, open_[attempt].pop(0), at)
    for attempt, starts in open_.items():
        yield from (_record(attempt, pid, started_at, None) for started_at in starts)


def _record(attempt: str, pid: int, started_at: float, ended_at: float | None) -> Record:
    run_id, lineage, node_id, visit, number = attempt.split("/")
    return Record(run_id, int(lineage), node_id, int(visit), int(number), pid, started_at, ended_at)
