"""A worker, or a server, that kills itself at one boundary: the real process, with a death at exactly that line.

`python -m tests.app.chaos.crash_points <boundary> worker`. What it does until then is done by the real code; what it
would have done
next never happens, as with any SIGKILL.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import persistence.feed.feed
import worker.main
import worker.runner
from app.chaos import execution_log
from engine.events import NodeChange
from engine.runtime.ports import Entry
from engine.states import NodeStatus
from persistence.journal.journal import PostgresJournal

NODE = "work"
"""The node around which the boundaries lie."""


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _replace(place: object, name: str, mortal: object) -> None:
    """Fails where the name is gone: a boundary that nothing passes would prove nothing."""
    getattr(place, name)
    setattr(place, name, mortal)


def _says(entry: Entry, status: NodeStatus) -> bool:
    changes = [what for _, what in entry.events_to_write if isinstance(what, NodeChange)]
    return any(change.state.node_id == NODE and change.state.status is status for change in changes)


def _ends(entry: Entry) -> bool:
    return entry.change is not None and entry.change.status.is_terminal


COMMITS: dict[str, tuple[Callable[[Entry], bool], bool]] = {
    "node announced": (lambda entry: _says(entry, NodeStatus.RUNNING), True),
    "before node end is committed": (lambda entry: _says(entry, NodeStatus.COMPLETED), False),
    "node end committed": (lambda entry: _says(entry, NodeStatus.COMPLETED), True),
    "before checkpoint": (lambda entry: entry.checkpoint is not None and entry.checkpoint.step >= 1, False),
    "checkpoint": (lambda entry: entry.checkpoint is not None and entry.checkpoint.step >= 1, True),
    "before terminal": (_ends, False),
    "terminal": (_ends, True),
}
"""Boundaries at a commit: which one, and whether death comes once it has landed or before it is sent."""


def _at_commit(boundary: str) -> None:
    is_the_one, has_landed = COMMITS[boundary]

    class Mortal(PostgresJournal):
        def commit(self, entry: Entry) -> "asyncio.Future[int]":
            if is_the_one(entry) and not has_landed:
                die()
            landed = super().commit(entry)
            if is_the_one(entry):
                landed.add_done_callback(die)
            return landed

    _replace(worker.main, "PostgresJournal", Mortal)


def _after_claim(_: str) -> None:
    claim: Any = worker.runner.__dict__["claim_next"]

    async def mortal(*args: Any, **options: Any) -> Any:
        batch = await claim(*args, **options)
        if batch.runs:
            die()
        return batch

    _replace(worker.runner, "claim_next", mortal)


def _in_node(boundary: str) -> None:
    append = execution_log._append

    def mortal(what: str, attempt: str) -> None:
        append(what, attempt)
        if f"node {what}" == boundary and f"/{NODE}/" in attempt:
            die()

    _replace(execution_log, "_append", mortal)


def _after_accept(_: str) -> None:
    async def mortal(*_: object) -> None:
        die()

    _replace(persistence.feed.feed.Feed, "tell", mortal)


BOUNDARIES: dict[str, Callable[[str], None]] = {
    "accept": _after_accept,
    "claim": _after_claim,
    "node start": _in_node,
    "node end": _in_node,
    **dict.fromkeys(COMMITS, _at_commit),
}


def main(boundary: str, *command: str) -> None:
    from app.cli.main import app

    BOUNDARIES[boundary](boundary)
    app(list(command))


if __name__ == "__main__":
    main(*sys.argv[1:])
