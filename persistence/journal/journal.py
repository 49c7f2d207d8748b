"""`PostgresJournal`: commits what runs did, in groups (group commit), and publishes it afterwards.

Entries that arrive while one group is being committed form the next group: one statement for all
runs of the process. If the process dies before the commit, nothing of the group happened; after it,
everything did. If the connection is lost during the commit, the journal looks up whether the group
is committed before it tries again. While Postgres is unavailable, commits wait. Workers are the
only callers: one journal a process.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import structlog
from redis.asyncio import Redis

from engine.events import OutputDelta
from engine.isolation.threads import FairThreads
from engine.metrics import JOURNAL_COMMIT_SECONDS, JOURNAL_GROUP_RUNS
from engine.runtime.ports import Entry, EntryRefused, Fenced, StatusMoved
from engine.states import LEASED, RunStatus, check_transition
from persistence.db.clock_skew import ClockSkew, to_database_clock
from persistence.db.deadlines import Deadlines
from persistence.db.transient import is_content, retry_transient
from persistence.events.publisher import items_of
from persistence.events.run_transition import RunTransition
from persistence.journal.buffer import BufferedEntry, JournalBuffer, Lane, resolve
from persistence.journal.group_commit import Batch, WrittenRun, statement
from persistence.journal.group_statement import ENDED
from persistence.journal.post_commit import PostCommit

log = structlog.get_logger(__name__)

POST_DELAY_S = 0.002
"""How long a posted entry may wait for other entries, in seconds."""
CLOSE_S = 10.0
"""How long `close` waits for commits and publishing, in seconds."""
STATEMENT_S = 30.0
"""Timeout of a statement, in seconds.

A broken network reports no error; the group is sent again on a new connection.
"""
MAX_IN_LOOP = 512 * 1024
"""The weight of a group that is encoded on the event loop, in up to 20 ms. A thread encodes heavier ones."""
_threads = FairThreads("journal", len(Lane), len(Lane))


class PostgresJournal:
    """The journal of one process. Call `open` before use; `close` commits the remaining entries."""

    def __init__(self, pool: asyncpg.Pool, redis: Redis, deadlines: Deadlines) -> None:
        self._pool = pool
        self._idle_limit_s = None if deadlines.idle is None else deadlines.idle.total_seconds()
        self._buffer = JournalBuffer()
        self._post_commit = PostCommit(redis)
        self._wakes = {lane: asyncio.Event() for lane in Lane}
        self._refusals: dict[tuple[str, int], Exception] = {}
        """The error of each run and epoch with a refused entry; later entries are refused too."""
        self._writers: list[asyncio.Task[None]] = []
        self._closing = False
        self.clock_skew = ClockSkew()

    def open(self) -> None:
        names = {Lane.QUICK: "journal", Lane.LARGE: "journal of large values"}
        self._writers = [asyncio.create_task(self._write(lane), name=name) for lane, name in names.items()]
        self._post_commit.open()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of the journal.

        The worker watches them: if one ends, nothing becomes durable any more.
        """
        return [*self._writers, *self._post_commit.tasks]

    async def close(self, within_s: float = CLOSE_S) -> None:
        """Commit and publish the remaining entries, for up to `within_s` seconds.

        If the database does not accept them in that time, their runs are rescued when their leases
        expire.
        """
        self._closing = True
        self._wake_writers()
        tasks = self.tasks
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.shield(asyncio.gather(*self._writers))
                await self._post_commit.drain()
        if self._buffer:
            log.error("journal.not_written", entries=len(self._buffer))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def publish(self, transitions: Sequence[RunTransition]) -> None:
        """Publish what others have committed, before everything that this journal commits next.

        Does not wait.
        """
        self._post_commit.put(items_of(transitions), transitions)

    def commit(self, entry: Entry) -> asyncio.Future[int]:
        """Add an entry and return the future of its commit; see `engine.runtime.ports.Journal`.

        Cancelling the wait for the future does not cancel the commit.
        """
        if entry.change is not None:
            check_transition(entry.change.expected, entry.change.status)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._post_commit.flush(entry.run_id)
        self._buffer.add(entry, future)
        self._wake_writers()
        return future

    def post(self, entry: Entry) -> None:
        """Add an entry that no caller waits for.

        It is committed with the next group, or alone after POST_DELAY_S.
        """
        if (entry.run_id, entry.epoch) in self._refusals:
            return
        self._post_commit.flush(entry.run_id)
        self._buffer.post(entry)
        asyncio.get_running_loop().call_later(POST_DELAY_S, self._wake_writers)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        """Publish text to live readers without storing it."""
        self._post_commit.stream(run_id, delta)

    def forget(self, run_id: str, epoch: int) -> None:
        """Drop the state of a run whose execution has ended here.

        All its entries are answered, and no more will come.
        """
        self._refusals.pop((run_id, epoch), None)
        self._post_commit.forget(run_id)

    def _wake_writers(self) -> None:
        for lane, wake in self._wakes.items():
            if self._closing or self._buffer.may_have(lane):
                wake.set()

    async def _write(self, lane: Lane) -> None:
        """Write the groups of a lane. Entries of the other lane may wait for the end of each."""
        while not (self._closing and self._buffer.is_drained):
            await self._wakes[lane].wait()
            self._wakes[lane].clear()
            while group := self._buffer.next_group(self._refusals, lane):
                await self._commit_group(group)
                self._buffer.end_group(lane)
                self._wake_writers()
            if dropped := self._buffer.take_dropped():
                log.error("journal.posts_dropped", count=dropped, why="Postgres was unavailable for too long")

    async def _commit_group(self, group: list[list[BufferedEntry]]) -> None:
        group = [part for part in group if not self._is_refused(part)]
        if not group:
            return
        offset = self.clock_skew.offset
        batches = [
            Batch(
                part[0].entry.run_id,
                [to_database_clock(buffered.entry, offset) for buffered in part],
                sum(buffered.weight for buffered in part),
            )
            for part in group
        ]
        JOURNAL_GROUP_RUNS.observe(len(batches))
        began = time.perf_counter()
        try:
            committed = await self._execute(batches)
        except Exception as fault:
            # Postgres rejects the content, or the content cannot be encoded: bisecting finds the
            # entry in both cases.
            await self._bisect(group, fault)
            return
        JOURNAL_COMMIT_SECONDS.observe(time.perf_counter() - began)
        missing = [part for part, batch in zip(group, batches, strict=True) if batch.run_id not in committed]
        if missing:
            await self._handle_missing(missing)
        for part, batch in zip(group, batches, strict=True):
            if batch.run_id in committed:
                written = committed[batch.run_id]
                self._post_commit.put_batch(batch, written)
                resolve(part, written.base + len(batch.encoded))

    async def _handle_missing(self, missing: list[list[BufferedEntry]]) -> None:
        """Refuse the parts that were not written.

        In a part that ends with a status change only that may be at fault.
        """
        final = [part for part in missing if len(part) == 1 or part[-1].entry.change is None]
        await self._refuse(final)
        for part in missing:
            if len(part) > 1 and part[-1].entry.change is not None:
                # The entries before the status change did happen.
                await self._commit_group([part[:-1]])
                await self._commit_group([part[-1:]])

    def _is_refused(self, part: list[BufferedEntry]) -> bool:
        refusal = self._refusals.get((part[0].entry.run_id, part[0].entry.epoch))
        if refusal is not None:
            resolve(part, refusal)
        return refusal is not None

    async def _bisect(self, group: list[list[BufferedEntry]], fault: Exception) -> None:
        """Halve a group that Postgres rejects until only the faulty run fails."""
        if len(group) > 1:
            half = len(group) // 2
            await self._commit_group(group[:half])
            await self._commit_group(group[half:])
            return
        entry = group[0][0].entry
        log.error("journal.refused", run_id=entry.run_id, error=str(fault))
        refusal = EntryRefused(f"{type(fault).__name__}: {fault}")
        self._refusals[entry.run_id, entry.epoch] = refusal
        resolve(group[0], refusal)

    async def _execute(self, batches: Sequence[Batch]) -> dict[str, WrittenRun]:
        """Send the statement until Postgres answers.

        Returns the runs that it wrote, by id. After a lost connection it is unknown
        whether the group is committed. The statement writes nothing twice, because it leaves out
        runs that carry its mark; these are looked up then.
        """
        mark = random.getrandbits(63)
        if sum(batch.weight for batch in batches) > MAX_IN_LOOP:
            query, arguments = await _threads.run(statement, batches, mark, self._idle_limit_s)
        else:
            query, arguments = statement(batches, mark, self._idle_limit_s)
        rows, attempts = await self._fetch(query, *arguments)
        committed = {row["id"]: WrittenRun.of(row, row["base"]) for row in rows}
        missing = [batch.run_id for batch in batches if batch.run_id not in committed]
        if attempts > 1 and missing:
            rows, _ = await self._fetch(_FIND_COMMITTED, missing, mark)
            counts = {batch.run_id: len(batch.encoded) for batch in batches}
            committed |= {row["id"]: WrittenRun.of(row, row["written_seq"] - counts[row["id"]]) for row in rows}
        return committed

    async def _fetch(self, query: str, *arguments: Any) -> tuple[list[Any], int]:
        """Return the rows of a statement and how often it was sent.

        Raises only errors that its content causes.
        """
        attempts = 0

        async def send() -> list[Any]:
            nonlocal attempts
            attempts += 1
            return await self._pool.fetch(query, *arguments, timeout=STATEMENT_S)

        return await retry_transient(send, "journal", is_final=is_content), attempts

    async def _refuse(self, missing: list[list[BufferedEntry]]) -> None:
        """Answer why a run was not written.

        Another worker holds it, or its status is not the expected one.
        """
        if not missing:
            return
        ids = [part[0].entry.run_id for part in missing]
        rows, _ = await self._fetch(_FIND_HOLDERS, ids)
        by_id = {row["id"]: row for row in rows}
        for part in missing:
            entry = part[0].entry
            row = by_id.get(entry.run_id)
            if row is not None and row["epoch"] == entry.epoch and entry.change and row["status"] in LEASED:
                resolve(part, StatusMoved(RunStatus(row["status"])))
                continue
            fenced = Fenced(f"run {entry.run_id} is no longer held under epoch {entry.epoch}")
            self._refusals[entry.run_id, entry.epoch] = fenced
            resolve(part, fenced)


_FIND_COMMITTED = f"SELECT id, written_seq, project_id, {ENDED} FROM runs r WHERE id = ANY($1) AND written_by = $2"
_FIND_HOLDERS = "SELECT id, epoch, status FROM runs WHERE id = ANY($1)"
