"""Keeps this process from becoming a zombie: stops runs before their leases run out, and the process where a node clings.

It asks nobody, so nothing that hangs can hold it up; after the process itself was stopped for a while it looks first thing.
"""

import asyncio
import os
import signal

import structlog

from engine.runtime.run_info import StopReason
from worker.runner import Held, Runner

log = structlog.get_logger(__name__)

LOOK_S = 0.25


class Watchdog:
    """`cancelling_s`: how long a node may take to stop once it is told to."""

    def __init__(self, runner: Runner, *, cancelling_s: float) -> None:
        self._runner, self._cancelling_s = runner, cancelling_s

    async def watch_forever(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        for run_id, held in list(self._runner.held.items()):
            if self._runner.is_late(held):
                self._runner.request(run_id, StopReason.LEASE_LOST)
            if self._clings(held):
                self.die(run_id)

    def _clings(self, held: Held) -> bool:
        since = None if held.executor is None else held.executor.unresponsive_since
        return since is not None and asyncio.get_running_loop().time() - since > self._cancelling_s

    def die(self, run_id: str) -> None:
        """A node that does not let go takes the process along: what else it holds goes on elsewhere."""
        log.critical("run.not_stopping", run_id=run_id, after_s=self._cancelling_s)
        os.kill(os.getpid(), signal.SIGKILL)
