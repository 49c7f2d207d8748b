"""A start gate: makes processes that were started early wait until they may use the stores.

Server and workers import their modules while the stores still start, which saves time. The gate is
a pipe that carries no data. A waiting process reads from one end, and returns when the other end is
closed: when the gate is opened or when its owner dies. So no process waits forever, and a process
that comes after the opening does not wait.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class StartGate:
    """A gate that this process owns and can open once."""

    descriptor: int
    """The file descriptor for processes that wait; they inherit it."""
    _write_end: int | None

    @property
    def is_open(self) -> bool:
        return self._write_end is None

    def open(self) -> None:
        """Let all waiting processes continue. Opening an open gate has no effect."""
        if self._write_end is not None:
            os.close(self._write_end)
            self._write_end = None


@contextmanager
def start_gate() -> Iterator[StartGate]:
    """Create a closed gate. It is opened at the end of the block at the latest."""
    gate = StartGate(*os.pipe())
    try:
        yield gate
    finally:
        gate.open()
        os.close(gate.descriptor)


def wait_until_open(descriptor: int) -> None:
    """Block until the gate with this file descriptor is open or its owner has died."""
    os.read(descriptor, 1)
    os.close(descriptor)
