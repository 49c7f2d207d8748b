"""Status changes of the runs of a project, read once for all watchers of this process.

There is no history: changes before the first watcher, or while Redis is away, are missed. While
Postgres is away, changes that have arrived wait for it. Used by the subscription `runChanged`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import asyncpg
import structlog

from persistence.db.transient import retry_transient
from persistence.events.publisher import runs_channel
from persistence.events.run_transition import RunTransition
from persistence.feed.mailbox import Mailbox
from persistence.feed.pubsub import ChannelReader
from persistence.runs.run import Run, run_of

log = structlog.get_logger(__name__)

MAX_WAITING = 256
"""Changes that wait for one slow watcher. One more, and it misses the oldest."""
_READ = "SELECT * FROM runs WHERE id = $1 AND project_id = $2"


class Watcher:
    """One watcher: which transitions it wants, and the runs that were read for it."""

    def __init__(self, wants: Callable[[RunTransition], bool]) -> None:
        self.wants = wants
        self._mailbox = Mailbox[Run | Exception](MAX_WAITING)

    def put(self, run: Run | Exception) -> None:
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
        """Read the runs of some projects whose status changes. The caller may see these projects.

        Args:
            wants: Whether a transition is worth a read for this watcher.
            project_ids: The projects to watch.

        Yields:
            Each run as it is right after its transition.
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
            async with aclosing(self._channels.listen(runs_channel(project_id))) as messages:
                async for message in messages:
                    if message is not None and (transition := self._decoded(message)) is not None:
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
        if interested and (run := await self._read(transition)) is not None:
            for watcher in interested:
                watcher.put(run)

    async def _read(self, transition: RunTransition) -> Run | None:
        row = await retry_transient(
            lambda: self._pool.fetchrow(_READ, transition.run_id, transition.project_id), "feed.waiting"
        )
        return None if row is None else run_of(dict(row))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
