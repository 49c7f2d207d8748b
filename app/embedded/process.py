"""The process of one embedded store: starts it, waits until it responds, restarts and stops it.

A restart uses the same folder and socket, so the store's address stays the same. Processes must be
started by the main thread, because the kernel ends a child when the thread that started it ends.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.child_process import Program, start, stop
from app.errors import EmbeddedError

START_S = 30.0
"""Seconds that a store may take to start, including repeated attempts after a crash."""
DISK_FULL = "No space left on device"
PAUSE_S = 0.2
"""Seconds between a failed start and the next attempt."""


@dataclass(slots=True)
class StoreProcess:
    """A store that is reached at `url`. `is_ready` probes it and returns within about a second."""

    program: Program
    url: str
    log: Path
    is_ready: Callable[[], bool]
    prepare: Callable[[], None] = lambda: None
    """Called once after the first start, when the store is ready."""
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def code(self) -> int | None:
        """The exit code, or minus the signal number; None while the process runs."""
        return None if self._process is None else self._process.poll()

    def launch(self) -> None:
        """Start the process without waiting for it."""
        with open(self.log, "ab", opener=_open_private) as output:
            self._process = start(self.program, output)

    def wait(self) -> None:
        """Wait until the store is ready, then prepare it.

        Raises EmbeddedError with the end of its log.
        """
        deadline = time.monotonic() + START_S
        while not self.is_ready():
            if self.code is not None or time.monotonic() > deadline:
                raise self._not_ready()
            time.sleep(0.01)
        self.prepare()

    async def relaunch(self) -> None:
        """Start the process again after its death, and wait until it is ready.

        Starts are repeated, because remains of a killed Postgres may make the first ones fail.

        Raises:
            EmbeddedError: The store is not ready within `START_S`.
        """
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.launch()
            except OSError as error:
                raise EmbeddedError(f"{self.name} died and cannot be started again: {error}") from error
            if await self._becomes_ready(deadline):
                return
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(PAUSE_S)
        raise EmbeddedError(
            f"{self.name} died and did not become ready again within {START_S:g} s. The end of {self.log}:\n{self.tail}"
        )

    async def ready(self) -> None:
        """Wait until the store is ready, without blocking the event loop. Raises EmbeddedError."""
        if not await self._becomes_ready(time.monotonic() + START_S):
            raise self._not_ready()

    def _not_ready(self) -> EmbeddedError:
        if DISK_FULL in self.tail:
            return EmbeddedError(
                f"{self.name} cannot start, because the disk of {self.log.parent} is full: free space on it"
            )
        problem = "ended immediately" if self.code is not None else f"was not ready within {START_S:g} s"
        return EmbeddedError(f"{self.name} {problem}. The end of {self.log}:\n{self.tail}")

    async def _becomes_ready(self, deadline: float) -> bool:
        """Probe the store, which does not report that it is ready.

        False if it ends or the time is over.
        """
        while self.code is None and time.monotonic() < deadline:
            if await asyncio.to_thread(self.is_ready):
                return True
            await asyncio.sleep(0.02)
        return False

    def stop(self) -> None:
        """Stop the process as `program` defines it, and wait for its end."""
        if self._process is not None:
            stop(self.program, self._process)

    def kill(self) -> None:
        """Kill the process with SIGKILL, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def tail(self) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])


@contextmanager
def launched(store: StoreProcess) -> Iterator[StoreProcess]:
    """Run the store for the duration of the block, without waiting until it is ready."""
    try:
        store.launch()
        yield store
    finally:
        store.stop()


@contextmanager
def running(store: StoreProcess) -> Iterator[StoreProcess]:
    """Run the store for the duration of the block. It is ready when the block begins."""
    with launched(store):
        store.wait()
        yield store


def _open_private(path: str, flags: int) -> int:
    """Open a file that only this user may read, also if an older release has created it."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
