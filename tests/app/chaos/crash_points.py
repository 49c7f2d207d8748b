"""Crash points: a real worker or server process that sends itself a SIGKILL at one exact point.

Usage: `python -m tests.app.chaos.crash_points <crash point> worker`. Up to that point the real code
runs. Nothing after it is executed, as with any SIGKILL.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import persistence.feed.feed
import worker.deliveries
import worker.main
import worker.runner
from app.chaos import execution_log
from engine.events import NodeChange
from engine.runtime.ports import Entry
from engine.states import NodeStatus
from persistence.journal.journal import PostgresJournal

NODE = "work"
"""The node whose start and end the crash points refer to."""


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _replace(owner: object, name: str, replacement: object) -> None:
    """Replace an attribute that must exist: a crash point must not be unreachable."""
    getattr(owner, name)
    setattr(owner, name, replacement)


def _sets_status(entry: Entry, status: NodeStatus) -> bool:
    changes = [what for _, what in entry.events_to_write if isinstance(what, NodeChange)]
    return any(change.state.node_id == NODE and change.state.status is status for change in changes)


def _ends_run(entry: Entry) -> bool:
    return entry.change is not None and entry.change.status.is_terminal


OF_DELIVERIES = ("delivery claimed", "delivery sent")
"""Crash points of a message to an endpoint: between commit and delivery, and between delivery and its record."""
COMMITS: dict[str, tuple[Callable[[Entry], bool], bool]] = {
    "node announced": (lambda entry: _sets_status(entry, NodeStatus.RUNNING), True),
    "before node end is committed": (lambda entry: _sets_status(entry, NodeStatus.COMPLETED), False),
    "node end committed": (lambda entry: _sets_status(entry, NodeStatus.COMPLETED), True),
    "before checkpoint": (lambda entry: entry.checkpoint is not None and entry.checkpoint.step >= 1, False),
    "checkpoint": (lambda entry: entry.checkpoint is not None and entry.checkpoint.step >= 1, True),
    "before terminal": (_ends_run, False),
    "terminal": (_ends_run, True),
}
"""Crash points at a commit: which commit, and whether the crash is after or before it."""


def _at_commit(crash_point: str) -> None:
    matches, is_after = COMMITS[crash_point]

    class ProcessKillingJournal(PostgresJournal):
        def commit(self, entry: Entry) -> "asyncio.Future[int]":
            if matches(entry) and not is_after:
                die()
            committed = super().commit(entry)
            if matches(entry):
                committed.add_done_callback(die)
            return committed

    _replace(worker.main, "PostgresJournal", ProcessKillingJournal)


def _after_claim(_: str) -> None:
    claim: Any = worker.runner.__dict__["claim_next"]

    async def claim_and_die(*args: Any, **options: Any) -> Any:
        batch = await claim(*args, **options)
        if batch.runs:
            die()
        return batch

    _replace(worker.runner, "claim_next", claim_and_die)


def _in_node(crash_point: str) -> None:
    append = execution_log._append

    def append_and_die(event: str, attempt: str) -> None:
        append(event, attempt)
        if f"node {event}" == crash_point and f"/{NODE}/" in attempt:
            die()

    _replace(execution_log, "_append", append_and_die)


def _after_accept(_: str) -> None:
    async def die_instead(*_: object) -> None:
        die()

    _replace(persistence.feed.feed.Feed, "publish", die_instead)


def _at_delivery(crash_point: str) -> None:
    send: Any = worker.deliveries.__dict__["send"]

    async def send_and_die(*args: Any) -> None:
        if crash_point == "delivery sent":
            await send(*args)
        die()

    _replace(worker.deliveries, "send", send_and_die)


CRASH_POINTS: dict[str, Callable[[str], None]] = {
    "accept": _after_accept,
    "claim": _after_claim,
    "node start": _in_node,
    "node end": _in_node,
    **dict.fromkeys(COMMITS, _at_commit),
    **dict.fromkeys(OF_DELIVERIES, _at_delivery),
}


def main(crash_point: str, *command: str) -> None:
    from app.cli.main import app

    CRASH_POINTS[crash_point](crash_point)
    app(list(command))


if __name__ == "__main__":
    main(*sys.argv[1:])
