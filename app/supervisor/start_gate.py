"""Holds processes back that were started early: they import what they need while what they need is still being made.

A pipe through which nothing goes. Whoever waits at its one end goes on when the other end is closed, be it because the gate
was opened or because its owner has died; so nobody waits for ever, and one that comes late does not wait at all.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class StartGate:
    descriptor: int
    """To be lent to those who are to wait."""
    _held: int | None

    @property
    def is_open(self) -> bool:
        return self._held is None

    def open(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None


@contextmanager
def gate() -> Iterator[StartGate]:
    """Closed at first."""
    made = StartGate(*os.pipe())
    try:
        yield made
    finally:
        made.open()
        os.close(made.descriptor)


def wait_at(descriptor: int) -> None:
    """Until the gate is open."""
    os.read(descriptor, 1)
    os.close(descriptor)
