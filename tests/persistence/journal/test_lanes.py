"""Entries with large values keep no other run waiting, and the entries of each run stay in order."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from engine.events import EventData, LogRecorded, NodeChange, NodeState
from engine.runtime.ports import CheckpointRecord, Entry, EntryRefused, RunChange
from engine.states import LogLevel, NodeStatus, RunStatus
from engine.values.large_values import LARGE
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.journal.buffer import MAX_WEIGHT, JournalBuffer, Lane
from persistence.journal.journal import PostgresJournal
from tests.journal_worker import HeldRun, JournalWorker, accept_run

NOW = datetime.now(UTC)
TEXT = "x" * (LARGE + 1)
EVENT: list[tuple[datetime, EventData]] = [(NOW, LogRecorded(LogLevel.INFO, "a line", None, {}))]


def entry(run_id: str, *, is_large: bool = False, change: RunChange | None = None, epoch: int = 1) -> Entry:
    note: EventData = LogRecorded(LogLevel.INFO, "a line", None, {})
    large: EventData = NodeChange(NodeState(run_id, "a", NodeStatus.COMPLETED, output=TEXT, has_output=True))
    return Entry(run_id, epoch, events_to_write=[(NOW, large if is_large else note)], change=change)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abcd"), st.booleans(), st.booleans()),
        st.tuples(st.just("turn"), st.sampled_from(Lane)),
        st.tuples(st.just("refuse"), st.sampled_from("abcd")),
    ),
    max_size=60,
)


class Writers:
    """The two writers of a journal, each of which writes one group at a time.

    The states of a lane are idle and writing. `turn` ends the group of a writing lane, and takes the next
    one of an idle lane.
    """

    def __init__(self) -> None:
        self.buffer, self.written = JournalBuffer(), list[Entry]()
        self.groups: dict[Lane, list[Entry]] = {}
        self.refusals: dict[tuple[str, int], Exception] = {}

    def turn(self, lane: Lane) -> bool:
        """Returns whether the lane had something to do."""
        if lane in self.groups:
            self.written += self.groups.pop(lane)
            self.buffer.end_group(lane)
            return True
        group = self.buffer.next_group(self.refusals, lane)
        if not group:
            return False
        self.groups[lane] = [one.entry for part in group for one in part]
        other = {one.run_id for one in self.groups.get(lane.other, [])}
        assert not other & {one.run_id for one in self.groups[lane]}, "a run is in both lanes"
        assert all((one.weight >= MAX_WEIGHT) is (lane is Lane.LARGE) for part in group for one in part)
        return True


@given(steps=STEPS)
def test_all_entries_are_written_once_and_those_of_a_run_in_order(steps: list[tuple[Any, ...]]) -> None:
    loop = asyncio.new_event_loop()
    writers, added, futures = Writers(), list[Entry](), list[asyncio.Future[int]]()
    for kind, *arguments in steps:
        if kind == "add":
            run_id, is_large, ends = arguments
            change = RunChange(RunStatus.PAUSED, RunStatus.PAUSING) if ends else None
            added.append(entry(run_id, is_large=is_large, change=change))
            futures.append(loop.create_future())
            writers.buffer.add(added[-1], futures[-1])
        elif kind == "turn":
            writers.turn(arguments[0])
        else:
            writers.refusals[arguments[0], 1] = EntryRefused("refused")
    while writers.turn(Lane.QUICK) or writers.turn(Lane.LARGE):
        pass
    loop.close()
    assert writers.buffer.is_drained
    assert not any(map(writers.buffer.may_have, Lane))
    refused = [one for one, future in zip(added, futures, strict=True) if future.done() and future.exception()]
    left = [one for one in added if not any(one is other for other in refused)]
    for run_id in "abcd":
        assert [id(one) for one in writers.written if one.run_id == run_id] == [
            id(one) for one in left if one.run_id == run_id
        ]


class SlowLargeValues:
    """A pool that holds statements with large values until `go` is set."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool, self.go, self.arrived = pool, asyncio.Event(), asyncio.Event()

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> Any:
        if any(TEXT in str(value) for argument in arguments if isinstance(argument, list) for value in argument):
            self.arrived.set()
            await self.go.wait()
        return await self._pool.fetch(query, *arguments, **options)


@pytest.mark.parametrize("place", ["an input", "an output", "the output of the run", "a checkpoint"])
async def test_no_run_waits_while_large_values_of_another_one_are_written(
    database: Database, redis: Redis, worker: JournalWorker, caller: Caller, project: str, place: str
) -> None:
    large, quick = [await worker.claim((await accept_run(database, caller, project)).run) for _ in range(2)]
    pool = SlowLargeValues(database.pool)
    journal = PostgresJournal(pool, redis, database.deadlines)  # type: ignore[arg-type]
    journal.open()
    slow, other = HeldRun(journal, large.run_id, large.epoch), HeldRun(journal, quick.run_id, quick.epoch)
    saved = CheckpointRecord("1f0", None, 1, True, TEXT.encode(), [])
    end = RunChange(RunStatus.COMPLETED, RunStatus.RUNNING, output=[TEXT])
    commits = {
        "an input": lambda: slow.node("a", NodeStatus.COMPLETED, input=[TEXT]),
        "an output": lambda: slow.node("a", NodeStatus.COMPLETED, output={"x": TEXT}, has_output=True),
        "the output of the run": lambda: slow.commit(
            Entry(large.run_id, large.epoch, events_to_write=EVENT, change=end)
        ),
        "a checkpoint": lambda: slow.commit(Entry(large.run_id, large.epoch, events_to_write=EVENT, checkpoint=saved)),
    }
    writing = asyncio.ensure_future(commits[place]())
    async with asyncio.timeout(20):
        await pool.arrived.wait()
        later = asyncio.ensure_future(slow.record(LogRecorded(LogLevel.INFO, "after it", None, {})))
        assert await other.record(LogRecorded(LogLevel.INFO, "at once", None, {})) == 3
        assert not writing.done()
        assert not later.done()
        pool.go.set()
        assert await writing == 3
        if place != "the output of the run":
            assert await later == 4
        await asyncio.gather(later, return_exceptions=True)
        await journal.close()
