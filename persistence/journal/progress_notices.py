"""`ProgressNotices`: tells the readers of a project which of its runs have new progress.

A notice carries run ids only, at most one a second for each project and worker, so its cost does
not grow with the speed of the runs. It is a hint: a lost one delays readers until the next. The
journal is the only caller, after each commit.
"""

import asyncio

from redis.asyncio import Redis

from persistence.events.publisher import PROGRESS_INTERVAL_S, publish_progress
from persistence.journal.group_commit import Batch


class ProgressNotices:
    """Call `open` before use; the journal cancels `task` when it closes."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._last: dict[str, float] = {}
        """The progress of each run that this process writes."""
        self._waiting: dict[str, set[str]] = {}
        """The runs to tell of, by project."""
        self._has_runs = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self.task = asyncio.create_task(self._send(), name="journal-progress")

    def note(self, batch: Batch, project_id: str, *, has_transition: bool) -> None:
        """Note the progress of a run that was committed.

        Args:
            batch: The committed entries of the run.
            project_id: Its project.
            has_transition: Whether they change the status of the run, so that readers read it
                anyway.
        """
        run_id = batch.run_id
        progress = next((entry.progress for entry in reversed(batch.entries) if entry.progress is not None), None)
        if progress is None or progress == self._last.get(run_id, 0.0):
            return
        self._last[run_id] = progress
        if not has_transition:
            self._waiting.setdefault(project_id, set()).add(run_id)
            self._has_runs.set()

    def forget(self, run_id: str) -> None:
        """Drop the state of a run whose execution has ended in this process."""
        self._last.pop(run_id, None)

    async def _send(self) -> None:
        while True:
            await self._has_runs.wait()
            self._has_runs.clear()
            waiting, self._waiting = self._waiting, {}
            await publish_progress(self._redis, waiting)
            await asyncio.sleep(PROGRESS_INTERVAL_S)
