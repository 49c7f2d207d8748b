"""The journal: makes what runs did durable, in groups, and tells the world afterwards.

Entries that arrive while one group is on its way to Postgres go into the next: one statement a group, whoever the runs are.
If the process dies before the commit, nothing of a group happened; after it, all of it did. If the connection dies in the
commit, what landed is looked up before anything is tried again. While Postgres is away, commits wait.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import structlog
from redis.asyncio import Redis

from engine.events import Happening, LogRecorded, NodeChange, OutputDelta, StatusChange
from engine.ports import Entry, EntryRefused, Fenced, StatusMoved
from engine.states import RunStatus, check_move
from persistence.away import insist, is_content
from persistence.clocks import Clocks, stored
from persistence.publish import Item, StatusNotice, publish
from persistence.statement import Batch, statement
from persistence.wire import delta_payload, payload_of

log = structlog.get_logger(__name__)

POST_DELAY_S = 0.002
"""How long a posted entry may wait for company."""
DELTA_DELAY_S = 0.02
"""How long streamed text may wait for more of it."""
CLOSE_S = 10.0
STATEMENT_S = 30.0
"""A network that is cut off says nothing: after this the group is sent again on another connection."""
MAX_POSTED = 64 * 1024 * 1024
"""Bytes, about, of posted entries that wait while Postgres is away: beyond that, new ones are dropped and counted."""
ROUGHLY = 2_000
"""Bytes of a happening without its texts."""
MAX_GROUP = 500
"""Entries in one group: bounds the statement, not the throughput."""


@dataclass(slots=True)
class _Waiting:
    entry: Entry
    future: asyncio.Future[int] | None
    size: int = 0
    """Of a posted entry. Those that somebody waits for are bounded by that."""


class PostgresJournal:
    """One a process. `open()` before use, `close()` commits what is left."""

    def __init__(self, pool: asyncpg.Pool, redis: Redis, *, rest_s: float = 30 * 86_400) -> None:
        self._pool, self._redis, self._rest_s = pool, redis, rest_s
        self._queue: deque[_Waiting] = deque()
        self._more = asyncio.Event()
        self._dropped: dict[tuple[str, int], Exception] = {}
        self._writer: asyncio.Task[None] | None = None
        self._publisher: asyncio.Task[None] | None = None
        self._published: asyncio.Queue[tuple[list[Item], list[StatusNotice]]] = asyncio.Queue()
        self._closing = False
        self.clocks = Clocks()
        self._lost = self._posted = 0
        self._last_seq: dict[str, int] = {}
        """Of the runs that this process has written: what their streamed text comes after."""
        self._deltas: dict[tuple[str, str], OutputDelta] = {}

    def open(self) -> None:
        self._writer = asyncio.create_task(self._write(), name="journal")
        self._publisher = asyncio.create_task(self._publish(), name="journal-publisher")

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """To be watched: without them nothing becomes durable any more."""
        return [task for task in (self._writer, self._publisher) if task is not None]

    async def close(self, within_s: float = CLOSE_S) -> None:
        """Commits and publishes what is left; what a database that is away does not take by then is left to the leases."""
        self._closing = True
        self._more.set()
        tasks = self.tasks
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                if self._writer is not None:
                    await asyncio.shield(self._writer)
                await self._published.join()
        if self._queue:
            log.error("journal.not_written", entries=len(self._queue))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def commit(self, entry: Entry) -> asyncio.Future[int]:
        """The entry is on its way whatever becomes of the caller: a cancelled wait does not cancel the commit."""
        if entry.change is not None:
            check_move(entry.change.expected, entry.change.status)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(entry, future))
        self._more.set()
        return future

    def post(self, entry: Entry) -> None:
        if (entry.run_id, entry.epoch) in self._dropped:
            return
        waiting = _Waiting(entry, None, _size_of(entry))
        if self._posted + waiting.size > MAX_POSTED:
            self._lost += 1
            return
        self._posted += waiting.size
        self._queue.append(waiting)
        asyncio.get_running_loop().call_later(POST_DELAY_S, self._more.set)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        """Text that follows on what waits already is joined to it: a model says a word at a time."""
        if not self._deltas:
            asyncio.get_running_loop().call_later(DELTA_DELAY_S, self._send_deltas)
        before = self._deltas.get((run_id, delta.node_id))
        if before is not None and (before.visit, before.attempt) == (delta.visit, delta.attempt):
            delta = replace(before, text=before.text + delta.text)
        self._deltas[run_id, delta.node_id] = delta

    def forget(self, run_id: str, epoch: int) -> None:
        """The run's drive has ended, and all its entries are answered: nothing can come after a refused one any more."""
        self._dropped.pop((run_id, epoch), None)
        self._last_seq.pop(run_id, None)

    # The writer.

    async def _write(self) -> None:
        while not (self._closing and not self._queue):
            await self._more.wait()
            self._more.clear()
            while self._queue:
                await self._commit_group(self._next_group())
            if self._lost:
                log.error("journal.posts_dropped", count=self._lost, why="Postgres was away for too long")
                self._lost = 0

    def _next_group(self) -> list[list[_Waiting]]:
        """By run, in order. An entry with a status change is the last of its run's part: the next ones wait a group."""
        group: dict[str, list[_Waiting]] = {}
        closed: set[str] = set()
        later: list[_Waiting] = []
        for _ in range(min(len(self._queue), MAX_GROUP)):
            waiting = self._queue.popleft()
            self._posted -= waiting.size
            run_id, part = waiting.entry.run_id, group.get(waiting.entry.run_id)
            refusal = self._dropped.get((run_id, waiting.entry.epoch))
            if refusal is not None:
                _answer([waiting], refusal)
            elif run_id in closed or (part and part[0].entry.epoch != waiting.entry.epoch):
                closed.add(run_id)
                later.append(waiting)
                self._posted += waiting.size
            else:
                group.setdefault(run_id, []).append(waiting)
                if waiting.entry.change is not None:
                    closed.add(run_id)
        self._queue.extendleft(reversed(later))
        return list(group.values())

    async def _commit_group(self, group: list[list[_Waiting]]) -> None:
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
                self._tell(batch, base, project_id)
                _answer(part, base + len(batch.happenings))

    def _is_dropped(self, part: list[_Waiting]) -> bool:
        refusal = self._dropped.get((part[0].entry.run_id, part[0].entry.epoch))
        if refusal is not None:
            _answer(part, refusal)
        return refusal is not None

    async def _split(self, group: list[list[_Waiting]], refused: Exception) -> None:
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
        _answer(group[0], refusal)

    async def _execute(self, batches: Sequence[Batch]) -> dict[str, tuple[int, str]]:
        """Runs the statement until Postgres answers. Returns (base, project) of the runs that it wrote.

        A connection that dies in the middle leaves open whether the group landed. The statement writes nothing twice, as it
        leaves out runs that carry its mark already; those are looked up then.
        """
        mark = random.getrandbits(63)
        query, prepared = statement(batches, mark, self._rest_s)
        rows, attempts = await self._insist(query, *prepared)
        landed = {row["id"]: (row["base"], row["project_id"]) for row in rows}
        missing = [batch.run_id for batch in batches if batch.run_id not in landed]
        if attempts > 1 and missing:
            rows, _ = await self._insist(_LANDED, missing, mark)
            counts = {batch.run_id: len(batch.happenings) for batch in batches}
            landed |= {row["id"]: (row["written_seq"] - counts[row["id"]], row["project_id"]) for row in rows}
        return landed

    async def _insist(self, query: str, *arguments: Any) -> tuple[list[Any], int]:
        """The rows of a statement, and how often it was sent. Raises only what is the fault of its content."""
        attempts = 0

        async def send() -> list[Any]:
            nonlocal attempts
            attempts += 1
            return await self._pool.fetch(query, *arguments, timeout=STATEMENT_S)

        return await insist(send, "journal.waiting", is_final=is_content), attempts

    async def _refuse(self, missing: list[list[_Waiting]]) -> None:
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
                _answer(part, StatusMoved(RunStatus(row["status"])))
                continue
            fenced = Fenced(f"run {entry.run_id} is no longer held under epoch {entry.epoch}")
            self._dropped[entry.run_id, entry.epoch] = fenced
            _answer(part, fenced)

    # After the commit.

    def _tell(self, batch: Batch, base: int, project_id: str) -> None:
        run_id = batch.run_id
        items = [
            Item(run_id, base + place, payload_of(at, what)) for place, (at, what) in enumerate(batch.happenings, 1)
        ]
        self._last_seq[run_id] = base + len(items)
        notices = [
            StatusNotice.of(project_id, run_id, what) for _, what in batch.happenings if isinstance(what, StatusChange)
        ]
        self._published.put_nowait((items, notices))

    def _send_deltas(self) -> None:
        """Behind the events that are on their way already, since a stream takes nothing that is older than its last."""
        deltas, self._deltas = self._deltas, {}
        now = datetime.now(UTC)
        items = [
            Item(run_id, self._last_seq[run_id], delta_payload(now, delta), is_delta=True)
            for (run_id, _), delta in deltas.items()
            if run_id in self._last_seq
        ]
        self._published.put_nowait((items, []))

    async def _publish(self) -> None:
        """Redis must not hold up the next commit: publishing has a task of its own, in order."""
        while True:
            items, notices = await self._published.get()
            taken = 1
            while not self._published.empty():
                more, more_notices = self._published.get_nowait()
                items, notices, taken = [*items, *more], [*notices, *more_notices], taken + 1
            await publish(self._redis, items, notices)
            for _ in range(taken):
                self._published.task_done()


def _size_of(entry: Entry) -> int:
    """About what an entry takes in memory: its texts, and something for the rest."""
    return sum(ROUGHLY + _text_of(what) for _, what in entry.happenings)


def _text_of(what: Happening) -> int:
    if isinstance(what, LogRecorded):
        return len(what.message) + (len(orjson.dumps(what.fields)) if what.fields else 0)
    return len(what.state.partial_output or "") if isinstance(what, NodeChange) else 0


def _answer(part: Sequence[_Waiting], answer: int | Exception) -> None:
    for waiting in part:
        future = waiting.future
        if future is None or future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


_HELD = ("RUNNING", "PAUSING", "CANCELLING")
_LANDED = "SELECT id, written_seq, project_id FROM runs WHERE id = ANY($1) AND written_by = $2"
_STANDS = "SELECT id, epoch, status FROM runs WHERE id = ANY($1)"
