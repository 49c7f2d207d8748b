"""The journal: makes what runs did durable, in groups, and tells the world afterwards.

Entries that arrive while one group is on its way to Postgres go into the next: one statement a group, whoever the runs are.
If the process dies before the commit, nothing of a group happened; after it, all of it did. If the connection dies in the
commit, what landed is looked up before anything is tried again. While Postgres is away, commits wait.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import structlog
from redis.asyncio import Redis

from engine.events import OutputDelta
from engine.runtime.ports import Entry, EntryRefused, Fenced, StatusMoved
from engine.states import RunStatus, check_transition
from persistence.db.clock_skew import Clocks, stored
from persistence.db.deadlines import Deadlines
from persistence.db.transient import is_content, retry_transient
from persistence.events.publisher import items_of
from persistence.events.run_transition import RunTransition
from persistence.journal.buffer import JournalBuffer, Waiting, answer
from persistence.journal.group_commit import Batch, statement
from persistence.journal.post_commit import PostCommit

log = structlog.get_logger(__name__)

POST_DELAY_S = 0.002
"""How long a posted entry may wait for company."""
CLOSE_S = 10.0
STATEMENT_S = 30.0
"""A network that is cut off says nothing: after this the group is sent again on another connection."""


class PostgresJournal:
    """One a process. `open()` before use, `close()` commits what is left."""

    def __init__(self, pool: asyncpg.Pool, redis: Redis, deadlines: Deadlines) -> None:
        self._pool, self._idle_limit_s = pool, deadlines.idle.total_seconds()
        self._backlog = JournalBuffer()
        self._teller = PostCommit(redis)
        self._more = asyncio.Event()
        self._dropped: dict[tuple[str, int], Exception] = {}
        self._writer: asyncio.Task[None] | None = None
        self._closing = False
        self.clocks = Clocks()

    def open(self) -> None:
        self._writer = asyncio.create_task(self._write(), name="journal")
        self._teller.open()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """To be watched: without them nothing becomes durable any more."""
        return [task for task in (self._writer, self._teller.task) if task is not None]

    async def close(self, within_s: float = CLOSE_S) -> None:
        """Commits and publishes what is left; what a database that is away does not take by then is left to the leases."""
        self._closing = True
        self._more.set()
        tasks = self.tasks
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                if self._writer is not None:
                    await asyncio.shield(self._writer)
                await self._teller.has_told()
        if self._backlog:
            log.error("journal.not_written", entries=len(self._backlog))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def publish(self, transitions: Sequence[RunTransition]) -> None:
        """Publish what others have committed, before everything that this journal commits from now on. Does not wait."""
        self._teller.put(items_of(transitions), transitions)

    def commit(self, entry: Entry) -> asyncio.Future[int]:
        """The entry is on its way whatever becomes of the caller: a cancelled wait does not cancel the commit."""
        if entry.change is not None:
            check_transition(entry.change.expected, entry.change.status)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._backlog.add(entry, future)
        self._more.set()
        return future

    def post(self, entry: Entry) -> None:
        if (entry.run_id, entry.epoch) in self._dropped:
            return
        self._backlog.post(entry)
        asyncio.get_running_loop().call_later(POST_DELAY_S, self._more.set)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        self._teller.stream(run_id, delta)

    def forget(self, run_id: str, epoch: int) -> None:
        """The run's drive has ended, and all its entries are answered: nothing can come after a refused one any more."""
        self._dropped.pop((run_id, epoch), None)
        self._teller.forget(run_id)

    async def _write(self) -> None:
        while not (self._closing and not self._backlog):
            await self._more.wait()
            self._more.clear()
            while self._backlog:
                await self._commit_group(self._backlog.next_group(self._dropped))
            if dropped := self._backlog.take_dropped():
                log.error("journal.posts_dropped", count=dropped, why="Postgres was away for too long")

    async def _commit_group(self, group: list[list[Waiting]]) -> None:
        group = [part for part in group if not self._is_dropped(part)]
        if not group:
            return
        batches = [
            Batch(part[0].entry.run_id, [stored(waiting.entry, self.clocks.apart) for waiting in part])
            for part in group
        ]
        try:
            landed = await self._execute(batches)
        except Exception as fault:
            # What Postgres refuses for its content, or what cannot even become arguments: the same search finds it.
            await self._split(group, fault)
            return
        missing = [part for part, batch in zip(group, batches, strict=True) if batch.run_id not in landed]
        if missing:
            # A refusal of one that stands alone is final; of a longer part only the change at its end may be at fault.
            await self._refuse([part for part in missing if len(part) == 1 or part[-1].entry.change is None])
            for part in missing:
                if len(part) > 1 and part[-1].entry.change is not None:
                    # Only the change may have lost: what came before it did happen.
                    await self._commit_group([part[:-1]])
                    await self._commit_group([part[-1:]])
        for part, batch in zip(group, batches, strict=True):
            if batch.run_id in landed:
                base, project_id = landed[batch.run_id]
                self._teller.tell(batch, base, project_id)
                answer(part, base + len(batch.events_to_write))

    def _is_dropped(self, part: list[Waiting]) -> bool:
        refusal = self._dropped.get((part[0].entry.run_id, part[0].entry.epoch))
        if refusal is not None:
            answer(part, refusal)
        return refusal is not None

    async def _split(self, group: list[list[Waiting]], refused: Exception) -> None:
        """Halves a group that Postgres refuses until the culprit alone fails."""
        if len(group) > 1:
            half = len(group) // 2
            await self._commit_group(group[:half])
            await self._commit_group(group[half:])
            return
        entry = group[0][0].entry
        log.error("journal.refused", run_id=entry.run_id, error=str(refused))
        refusal = EntryRefused(f"{type(refused).__name__}: {refused}")
        self._dropped[entry.run_id, entry.epoch] = refusal
        answer(group[0], refusal)

    async def _execute(self, batches: Sequence[Batch]) -> dict[str, tuple[int, str]]:
        """Runs the statement until Postgres answers. Returns (base, project) of the runs that it wrote.

        A connection that dies in the middle leaves open whether the group landed. The statement writes nothing twice, as it
        leaves out runs that carry its mark already; those are looked up then.
        """
        mark = random.getrandbits(63)
        query, prepared = statement(batches, mark, self._idle_limit_s)
        rows, attempts = await self._insist(query, *prepared)
        landed = {row["id"]: (row["base"], row["project_id"]) for row in rows}
        missing = [batch.run_id for batch in batches if batch.run_id not in landed]
        if attempts > 1 and missing:
            rows, _ = await self._insist(_LANDED, missing, mark)
            counts = {batch.run_id: len(batch.events_to_write) for batch in batches}
            landed |= {row["id"]: (row["written_seq"] - counts[row["id"]], row["project_id"]) for row in rows}
        return landed

    async def _insist(self, query: str, *arguments: Any) -> tuple[list[Any], int]:
        """The rows of a statement, and how often it was sent. Raises only what is the fault of its content."""
        attempts = 0

        async def send() -> list[Any]:
            nonlocal attempts
            attempts += 1
            return await self._pool.fetch(query, *arguments, timeout=STATEMENT_S)

        return await retry_transient(send, "journal.waiting", is_final=is_content), attempts

    async def _refuse(self, missing: list[list[Waiting]]) -> None:
        """Says to each why its run was not written: another worker's, or not in the status that it took for granted."""
        if not missing:
            return
        ids = [part[0].entry.run_id for part in missing]
        rows, _ = await self._insist(_STANDS, ids)
        stands = {row["id"]: row for row in rows}
        for part in missing:
            entry = part[0].entry
            row = stands.get(entry.run_id)
            if row is not None and row["epoch"] == entry.epoch and entry.change and row["status"] in _HELD:
                answer(part, StatusMoved(RunStatus(row["status"])))
                continue
            fenced = Fenced(f"run {entry.run_id} is no longer held under epoch {entry.epoch}")
            self._dropped[entry.run_id, entry.epoch] = fenced
            answer(part, fenced)


_HELD = ("RUNNING", "PAUSING", "CANCELLING")
_LANDED = "SELECT id, written_seq, project_id FROM runs WHERE id = ANY($1) AND written_by = $2"
_STANDS = "SELECT id, epoch, status FROM runs WHERE id = ANY($1)"
