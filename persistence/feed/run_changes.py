"""Status and progress of the runs of a project, read once for all watchers of this process.

There is no history: changes before the first watcher, or while Redis is away, are missed. While
Postgres is away, changes that have arrived wait for it. Used by the subscription `runs`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

import asyncpg
import structlog

from engine.states import LEASED
from persistence.db.transient import retry_transient
from persistence.events.publisher import PROGRESS_MARK, progress_channel, runs_channel
from persistence.events.run_transition import RunTransition
from persistence.feed.mailbox import Mailbox
from persistence.feed.pubsub import ChannelReader
from persistence.runs.run import TEXT_COLUMNS, Run, run_of_record

log = structlog.get_logger(__name__)

MAX_WAITING = 256
"""Changes that wait for one slow watcher. One more, and it misses the oldest."""
_READ = f"SELECT {TEXT_COLUMNS} FROM runs WHERE id = ANY($1) AND project_id = $2"


class Watcher:
    """One watcher: which transitions it wants, and the runs that were read for it."""

    def __init__(self, wants: Callable[[RunTransition], bool]) -> None:
        self.wants = wants
        self._mailbox = Mailbox[Run | Exception](MAX_WAITING)

    def put(self, run: Run | Exception) -> None:
        self._mailbox.put(run)

    def put_progress(self, run: Run) -> None:
        """Put a run whose status has not changed. A slow watcher misses these before others."""
        if len(self._mailbox) < MAX_WAITING // 2:
            self._mailbox.put(run)

    async def next(self) -> Run:
        """Wait for the next run. Raises the exception that ended the subscription."""
        while (message := await self._mailbox.next()) is None:
            pass
        if isinstance(message, Exception):
            raise message
        return message


class RunChanges:
    """Subscribes to a project while it has a watcher; end it with `await close()`."""

    def __init__(self, pool: asyncpg.Pool, channels: ChannelReader) -> None:
        self._pool, self._channels = pool, channels
        self._watchers: dict[str, set[Watcher]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._has_warned = False

    async def watch(self, wants: Callable[[RunTransition], bool], *project_ids: str) -> AsyncGenerator[Run]:
        """Read the runs of some projects that change. The caller may see these projects.

        Args:
            wants: Whether a transition is worth a read for this watcher.
            project_ids: The projects to watch.

        Yields:
            Each run as it is right after its transition, and about once a second while its progress
            changes.
        """
        watcher = Watcher(wants)
        try:
            for project_id in project_ids:
                self._watchers.setdefault(project_id, set()).add(watcher)
                if project_id not in self._tasks:
                    self._tasks[project_id] = asyncio.create_task(
                        self._follow(project_id), name=f"run changes of {project_id}"
                    )
            while True:
                yield await watcher.next()
        finally:
            for project_id in project_ids:
                self._leave(watcher, project_id)

    def _leave(self, watcher: Watcher, project_id: str) -> None:
        watchers = self._watchers.get(project_id, set())
        watchers.discard(watcher)
        if not watchers and project_id in self._watchers:
            del self._watchers[project_id]
            self._tasks.pop(project_id).cancel()

    async def _follow(self, project_id: str) -> None:
        watchers = self._watchers[project_id]
        try:
            channels = runs_channel(project_id), progress_channel(project_id)
            async with aclosing(self._channels.listen(*channels)) as messages:
                async for message in messages:
                    if message is None:
                        continue
                    if message.startswith(PROGRESS_MARK):
                        await self._deliver_progress(project_id, message.split()[1:], watchers)
                    elif (transition := self._decoded(message)) is not None:
                        await self._deliver(transition, watchers)
        except Exception as error:
            # The next watcher must start a new task: this one has ended.
            if self._watchers.get(project_id) is watchers:
                del self._watchers[project_id], self._tasks[project_id]
            for watcher in watchers:
                watcher.put(error)

    def _decoded(self, message: str) -> RunTransition | None:
        """Decode a message. None, with one warning, for a message of another program or version."""
        try:
            return RunTransition.decode(message)
        except ValueError as error:
            if not self._has_warned:
                self._has_warned = True
                log.warning("feed.unreadable_message", message=message[:200], error=str(error))
        return None

    async def _deliver(self, transition: RunTransition, watchers: set[Watcher]) -> None:
        """Read the run for the watchers that want it.

        One that joins during the read gets nothing.
        """
        interested = [watcher for watcher in watchers if watcher.wants(transition)]
        for run in await self._read(transition.project_id, [transition.run_id]) if interested else ():
            for watcher in interested:
                watcher.put(run)

    async def _deliver_progress(self, project_id: str, run_ids: Sequence[str], watchers: Iterable[Watcher]) -> None:
        """Read the runs with new progress in one statement, for the watchers that want their status.

        A run that is idle by now is delivered with the change of its status.
        """
        stay = {status: RunTransition(project_id, "", status, status) for status in LEASED}
        wanted_by = {status: [watcher for watcher in watchers if watcher.wants(same)] for status, same in stay.items()}
        if not any(wanted_by.values()):
            return
        for run in await self._read(project_id, run_ids):
            for watcher in wanted_by.get(run.status, ()):
                watcher.put_progress(run)

    async def _read(self, project_id: str, run_ids: Sequence[str]) -> list[Run]:
        rows = await retry_transient(lambda: self._pool.fetch(_READ, run_ids, project_id), "feed.runs")
        return [run_of_record(row) for row in rows]

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
