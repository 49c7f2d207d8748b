"""Restarts the processes of `treadle up` when they die: server, workers and embedded stores.

A process that ran for at least 10 s is restarted after 0.1 s, any other after a pause that doubles
up to 10 s. `treadle up` ends if a process fails three times without ever having run for 10 s, or if
a store does not become ready again.
"""

import asyncio
import math
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from app.child_process import end_with_parent, kill_group
from app.embedded.process import StoreProcess
from app.errors import CannotStartError
from engine.interpreter import module_command, module_environment

log = structlog.get_logger(__name__)

MIN_PAUSE_S, MAX_PAUSE_S = 0.1, 10.0
"""Shortest and longest pause before a restart, in seconds."""
HEALTHY_S = 10.0
"""Seconds after which a process counts as healthy.

The pause after its next death is the shortest one.
"""
MAX_FAILED_STARTS = 3
"""Failures of a process that was never healthy. After them, further restarts would fail as well."""


@dataclass(slots=True)
class Backoff:
    """Computes the pause before each restart of one process."""

    _pause_s: float = MIN_PAUSE_S

    def pause_after(self, uptime_s: float) -> float:
        """Return the pause in seconds after a death, for a process that ran for `uptime_s`."""
        self._pause_s = MIN_PAUSE_S if uptime_s > HEALTHY_S else min(self._pause_s * 2, MAX_PAUSE_S)
        return self._pause_s


@dataclass(slots=True)
class Child:
    """A server or worker process that is restarted when it dies.

    Attributes:
        arguments: The arguments of the `treadle` command.
        orphaned: The signal that the kernel sends to the process when the supervisor dies.
        descriptors: The file descriptors that the process inherits.
    """

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    orphaned: signal.Signals = signal.SIGTERM
    descriptors: tuple[int, ...] = ()
    process: asyncio.subprocess.Process | None = None
    _is_stopping: bool = False
    _gate_opened_at: float = math.inf
    """Time spent waiting at the start gate does not count as uptime."""

    async def run_until_stopped(self) -> None:
        """Run the process, and restart it until `stop` is called.

        Raises:
            CannotStartError: The process has failed repeatedly and was never healthy.
        """
        failures, backoff, was_healthy = 0, Backoff(), False
        while not self._is_stopping:
            started_at = time.monotonic()
            code = await self._run()
            if self._is_stopping:
                return
            uptime_s = time.monotonic() - max(started_at, self._gate_opened_at)
            was_healthy |= uptime_s > HEALTHY_S
            # A negative code is a signal from outside, and no failure of the process itself.
            failures += code > 0
            if not was_healthy and failures >= MAX_FAILED_STARTS:
                raise CannotStartError(
                    f"the {self.name} failed {failures} times (code {code}); see its log lines above"
                )
            await _pause(self.name, code, backoff.pause_after(uptime_s))

    def gate_opened(self) -> None:
        """Record that the process may use the stores from now on."""
        self._gate_opened_at = time.monotonic()

    async def _run(self) -> int:
        self.process = await asyncio.create_subprocess_exec(
            *module_command("app.cli", *self.arguments),
            env=module_environment(self.environment),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=self.descriptors,
            preexec_fn=end_with_parent(self.orphaned),
        )
        if self._is_stopping:  # `stop` was called while the process was being created.
            self._send(signal.SIGTERM)
        try:
            return await self.process.wait()
        finally:
            if self.process.returncode is not None:
                kill_group(self.process.pid)

    async def stop(self, force: asyncio.Event, timeout_s: float) -> None:
        """Stop the process with SIGTERM; kill it after `timeout_s` or when `force` is set."""
        self._is_stopping = True
        if self.process is None:
            return
        self._send(signal.SIGTERM)
        ended, forced = asyncio.create_task(self.process.wait()), asyncio.create_task(force.wait())
        await asyncio.wait([ended, forced], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if not ended.done():
            if not force.is_set():
                log.warning("up.killed", process=self.name, after_s=timeout_s)
            self._send(signal.SIGKILL)
        await ended

    def _send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


async def restart_store(store: StoreProcess, child_ended: asyncio.Event) -> None:
    """Restart a store whenever it dies, until cancelled.

    Args:
        child_ended: Set by the caller whenever any child process has ended (SIGCHLD).

    Raises:
        EmbeddedError: The store does not become ready again.
    """
    backoff = Backoff()
    while True:
        started_at = time.monotonic()
        code = await _exit_code(store, child_ended)
        died_at = time.monotonic()
        await _pause(store.name, code, backoff.pause_after(died_at - started_at))
        await store.relaunch()
        log.warning("up.back", process=store.name, after_s=round(time.monotonic() - died_at, 1))


async def _exit_code(store: StoreProcess, child_ended: asyncio.Event) -> int:
    """Wait until the store ends, and return its exit code."""
    while (code := store.code) is None:
        child_ended.clear()
        if store.code is None:  # It may have ended between the first test and `clear`.
            await child_ended.wait()
    return code


async def _pause(name: str, code: int, pause_s: float) -> None:
    log.warning("up.died", process=name, code=code, again_in_s=round(pause_s, 1))
    await asyncio.sleep(pause_s)
