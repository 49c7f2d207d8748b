"""What `treadle up` keeps running: its server, its workers and its embedded stores. One that dies is started again.

At once if it had lived for a while, else after a pause that doubles. What never starts well, or does not come back, ends `up`.
"""

import asyncio
import math
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from app.child_process import end_group, ends_with_us
from app.embedded.process import StoreProcess
from app.errors import CannotStartError

log = structlog.get_logger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
HEALTHY_S = 10.0
"""A child that has lived this long has started well: its next death is answered at once."""
DEATHS_AT_START = 3
"""A child that ends so often by itself and has never lived long will not get better by another start."""


@dataclass(slots=True)
class Pause:
    """How long to wait after each death."""

    _last_s: float = FIRST_PAUSE_S

    def after(self, lived_s: float) -> float:
        self._last_s = FIRST_PAUSE_S if lived_s > HEALTHY_S else min(self._last_s * 2, LONGEST_PAUSE_S)
        return self._last_s


@dataclass(slots=True)
class Child:
    """One process that is to be there. `arguments` are those of the `treadle` command."""

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    orphaned: signal.Signals = signal.SIGTERM
    """What the kernel sends it when we die."""
    descriptors: tuple[int, ...] = ()
    process: asyncio.subprocess.Process | None = None
    _is_stopping: bool = False
    _let_in_at: float = math.inf
    """What it has done before it was let in is no life."""

    async def keep(self) -> None:
        """Runs the process until it is told to stop. Raises CannotStartError if it never starts well."""
        failures, pause, has_lived = 0, Pause(), False
        while not self._is_stopping:
            began = time.monotonic()
            code = await self._run()
            if self._is_stopping:
                return
            lived_s = time.monotonic() - max(began, self._let_in_at)
            has_lived |= lived_s > HEALTHY_S
            failures += code > 0  # Below 0 it was a signal: somebody or something from outside.
            if not has_lived and failures >= DEATHS_AT_START:
                raise CannotStartError(f"the {self.name} failed {failures} times (code {code}); its log above says why")
            await _pause(self.name, code, pause.after(lived_s))

    def let_in(self) -> None:
        """What it waited for is there."""
        self._let_in_at = time.monotonic()

    async def _run(self) -> int:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.cli", *self.arguments),
            env=dict(self.environment),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=self.descriptors,
            preexec_fn=ends_with_us(self.orphaned),
        )
        if self._is_stopping:  # We were told so while it was being made.
            self._send(signal.SIGTERM)
        try:
            return await self.process.wait()
        finally:
            if self.process.returncode is not None:
                end_group(self.process.pid)

    async def stop(self, hurry: asyncio.Event, limit_s: float) -> None:
        """Asks the process to stop, and kills it when the time is up or somebody is in a hurry."""
        self._is_stopping = True
        if self.process is None:
            return
        self._send(signal.SIGTERM)
        ended, hurried = asyncio.create_task(self.process.wait()), asyncio.create_task(hurry.wait())
        await asyncio.wait([ended, hurried], timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            if not hurry.is_set():
                log.warning("up.killed", process=self.name, after_s=limit_s)
            self._send(signal.SIGKILL)
        await ended

    def _send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


async def keep_store(store: StoreProcess, deaths: asyncio.Event) -> None:
    """Starts the store again whenever it dies; `deaths` is set when any child of ours has ended.

    Raises EmbeddedError when it does not come back.
    """
    pause = Pause()
    while True:
        began = time.monotonic()
        code = await _ended(store, deaths)
        died = time.monotonic()
        await _pause(store.name, code, pause.after(died - began))
        await store.relaunch()
        log.warning("up.back", process=store.name, after_s=round(time.monotonic() - died, 1))


async def _ended(store: StoreProcess, deaths: asyncio.Event) -> int:
    while (code := store.code) is None:
        deaths.clear()
        if store.code is None:
            await deaths.wait()
    return code


async def _pause(name: str, code: int, pause_s: float) -> None:
    log.warning("up.died", process=name, code=code, again_in_s=round(pause_s, 1))
    await asyncio.sleep(pause_s)
