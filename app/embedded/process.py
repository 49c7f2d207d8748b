"""One embedded server's process: it is ready when it answers, and it can be started again in the same place.

It is always started by our main thread: the kernel tells a child of the end of the thread that made it.
"""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.child_process import Program, start, stop
from app.errors import EmbeddedError

START_S = 30.0
PAUSE_S = 0.2
"""Between a start that came to nothing and the next one."""


@dataclass(slots=True)
class StoreProcess:
    """A server at `url`. `is_ready` asks it, and takes no longer than a moment."""

    program: Program
    url: str
    log: Path
    is_ready: Callable[[], bool]
    prepare: Callable[[], None] = lambda: None
    """Called once it is ready, after a launch."""
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def code(self) -> int | None:
        """With which it ended, below 0 the signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def launch(self) -> None:
        with self.log.open("ab") as output:
            self._process = start(self.program, output)

    def wait(self) -> None:
        """Until it is ready and prepared. Raises EmbeddedError with the end of its log."""
        deadline = time.monotonic() + START_S
        while not self.is_ready():
            if self.code is not None or time.monotonic() > deadline:
                raise self._not_ready()
            time.sleep(0.01)
        self.prepare()

    async def relaunch(self) -> None:
        """As often as it takes: what a killed Postgres left behind may be in its way for a moment. Raises EmbeddedError."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.launch()
            except OSError as error:
                raise EmbeddedError(f"{self.name} died and cannot be started again: {error}") from error
            if await self._answers(deadline):
                return
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(PAUSE_S)
        raise EmbeddedError(
            f"{self.name} died and did not come back within {START_S:g} s; the end of {self.log}:\n{self.tail}"
        )

    async def ready(self) -> None:
        """Until it answers, for who has other things to do meanwhile. Raises EmbeddedError."""
        if not await self._answers(time.monotonic() + START_S):
            raise self._not_ready()

    def _not_ready(self) -> EmbeddedError:
        what = "ended at once" if self.code is not None else f"was not ready within {START_S:g} s"
        return EmbeddedError(f"{self.name} {what}; the end of {self.log}:\n{self.tail}")

    async def _answers(self, deadline: float) -> bool:
        """Asked until then: it tells nobody. False where it ends before."""
        while self.code is None and time.monotonic() < deadline:
            if await asyncio.to_thread(self.is_ready):
                return True
            await asyncio.sleep(0.02)
        return False

    def stop(self) -> None:
        if self._process is not None:
            stop(self.program, self._process)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])


@contextmanager
def launched(store: StoreProcess) -> Iterator[StoreProcess]:
    """Runs it for as long as the block lasts; it may not be ready yet."""
    try:
        store.launch()
        yield store
    finally:
        store.stop()


@contextmanager
def running(store: StoreProcess) -> Iterator[StoreProcess]:
    """The same, and it is ready."""
    with launched(store):
        store.wait()
        yield store
