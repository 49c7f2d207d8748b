"""Runs of a project as they are created or change their status: read once for all in this process who watch the project.

No history: what happens before somebody listens, or while Redis is away, is missed. While Postgres is away, what was heard
waits for it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import asyncpg
import structlog

from persistence.db.transient import retry_transient
from persistence.events.publisher import runs_channel
from persistence.events.run_transition import RunTransition
from persistence.feed.pubsub import Channels
from persistence.runs.run import Run, run_of

log = structlog.get_logger(__name__)

MAX_WAITING = 256
"""Changes that wait for one slow watcher. One more, and it misses the oldest."""


class Watcher:
    """One who watches: which transitions are worth a read to them, and the runs that were read."""

    def __init__(self, wants: Callable[[RunTransition], bool]) -> None:
        self.wants = wants
        self._waiting: asyncio.Queue[Run | Exception] = asyncio.Queue()

    def put(self, run: Run | Exception) -> None:
        if self._waiting.qsize() >= MAX_WAITING:
            self._waiting.get_nowait()
        self._waiting.put_nowait(run)

    async def next(self) -> Run:
        found = await self._waiting.get()
        if isinstance(found, Exception):
            raise found
        return found


_READ = "SELECT * FROM runs WHERE id = $1 AND project_id = $2"


class RunChanges:
    """Listens to a project while somebody watches it; end with `await close()`."""

    def __init__(self, pool: asyncpg.Pool, channels: Channels) -> None:
        self._pool, self._channels = pool, channels
        self._watchers: dict[str, set[Watcher]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._has_met_strange = False

    async def watch(self, wants: Callable[[RunTransition], bool], *project_ids: str) -> AsyncGenerator[Run]:
        """The runs of these projects that change so that `wants` holds, as they stand right after. Only for who may see them."""
        watcher = Watcher(wants)
        try:
            for project_id in project_ids:
                self._watchers.setdefault(project_id, set()).add(watcher)
                if project_id not in self._tasks:
                    self._tasks[project_id] = asyncio.create_task(
                        self._follow(project_id), name=f"changing {project_id}"
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
                        await self._show(transition, watchers)
        except Exception as error:
            # Who comes from now on is not to wait for what has ended.
            if self._watchers.get(project_id) is watchers:
                del self._watchers[project_id], self._tasks[project_id]
            for watcher in watchers:
                watcher.put(error)

    def _decoded(self, message: str) -> RunTransition | None:
        """None for what we did not write, or not this version of us: told once, and passed by."""
        try:
            return RunTransition.decode(message)
        except ValueError as wrong:
            if not self._has_met_strange:
                self._has_met_strange = True
                log.warning("feed.unreadable_notice", message=message[:200], error=str(wrong))
        return None

    async def _show(self, transition: RunTransition, watchers: set[Watcher]) -> None:
        """Who has come while the run was read has heard nothing yet, and gets nothing."""
        wanting = [watcher for watcher in watchers if watcher.wants(transition)]
        if wanting and (run := await self._read(transition)) is not None:
            for watcher in wanting:
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
