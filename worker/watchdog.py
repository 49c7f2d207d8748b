"""Stops runs before their leases expire, and kills this process if a node does not stop.

It waits for nothing but its own timer, so nothing that hangs can delay it. After the process was
suspended, its check is among the first things that run.
"""

import asyncio
import os
import signal

import structlog

from engine.runtime.run_info import StopReason
from worker.run_task import RunTask
from worker.runner import Runner

log = structlog.get_logger(__name__)

CHECK_S = 0.25


class Watchdog:
    """Checks all runs of a runner.

    `cancelling_s` is how long a node may take to stop, in seconds.
    """

    def __init__(self, runner: Runner, *, cancelling_s: float) -> None:
        self._runner, self._cancelling_s = runner, cancelling_s

    async def watch_forever(self) -> None:
        while True:
            self.check()
            await asyncio.sleep(CHECK_S)

    def check(self) -> None:
        for run_id, task in list(self._runner.tasks.items()):
            if task.is_late:
                task.request(StopReason.LEASE_LOST)
            if self._is_unresponsive(task):
                self.kill_process(run_id)

    def _is_unresponsive(self, task: RunTask) -> bool:
        since = None if task.executor is None else task.executor.unresponsive_since
        return since is not None and asyncio.get_running_loop().time() - since > self._cancelling_s

    def kill_process(self, run_id: str) -> None:
        """Kill the process, the only way to end a node that does not stop. Its runs are rescued."""
        log.critical("run.not_stopping", run_id=run_id, after_s=self._cancelling_s)
        os.kill(os.getpid(), signal.SIGKILL)
