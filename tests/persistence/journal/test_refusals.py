"""The journal answers each entry once: committed, refused or fenced, also if an answer of Postgres is lost."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from engine.events import LogRecorded, RunError, StatusChange, Usage
from engine.runtime.ports import Entry, EntryRefused, Fenced, RunChange, StatusMoved
from engine.states import LogLevel, NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.journal.buffer import JournalBuffer
from persistence.journal.journal import PostgresJournal
from tests.executor_worker import eventually
from tests.journal_worker import HeldRun, JournalWorker, accept_run

NOW = datetime.now(UTC)


def note(text: str = "a line") -> LogRecorded:
    return LogRecorded(LogLevel.INFO, text, None, {})


async def held_run(database: Database, caller: Caller, project: str, worker: JournalWorker) -> HeldRun:
    return await worker.claim((await accept_run(database, caller, project)).run)


async def numbers(database: Database, run_id: str) -> list[int]:
    rows = await database.pool.fetch("SELECT seq FROM events WHERE run_id = $1 ORDER BY seq", run_id)
    return [row["seq"] for row in rows]


class BrokenConnection:
    """A pool whose first statements are executed, or not, before the connection breaks."""

    def __init__(self, pool: asyncpg.Pool, *faults: str) -> None:
        self._pool, self._faults, self.count = pool, list(faults), 0

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> Any:
        self.count += 1
        fault = self._faults.pop(0) if self._faults else ""
        rows = [] if fault == "before" else await self._pool.fetch(query, *arguments, **options)
        if fault:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return rows


@pytest.mark.parametrize(
    ("faults", "statements"), [([], 1), (["before"], 2), (["after"], 3), (["before", "after", "after"], 5)]
)
async def test_a_group_whose_answer_is_lost_is_written_once_and_answered_with_its_numbers(
    database: Database,
    redis: Redis,
    worker: JournalWorker,
    caller: Caller,
    project: str,
    faults: list[str],
    statements: int,
) -> None:
    first, second, fenced = [await held_run(database, caller, project, worker) for _ in range(3)]
    await database.pool.execute("UPDATE runs SET epoch = epoch + 1 WHERE id = $1", fenced.run_id)
    pool = BrokenConnection(database.pool, *faults)
    journal = PostgresJournal(pool, redis, database.deadlines)  # type: ignore[arg-type]
    writes = [HeldRun(journal, run.run_id, run.epoch) for run in (first, second, fenced)]
    answers = asyncio.gather(
        writes[0].record(note(), note()), writes[1].record(note()), writes[2].record(note()), return_exceptions=True
    )
    await asyncio.sleep(0)
    journal.open()
    *committed, refused = await answers
    await journal.close()
    assert committed == [4, 3]
    assert isinstance(refused, Fenced)
    assert [await numbers(database, run.run_id) for run in (first, second, fenced)] == [[1, 2, 3, 4], [1, 2, 3], [1, 2]]
    # One more: who holds the run that is fenced. One after a lost answer: what is committed.
    assert pool.count == statements + 1 + (1 if faults == ["before"] else 0)


@pytest.mark.parametrize("before", [1, 2])
async def test_the_events_before_a_refused_status_change_are_kept(
    database: Database, worker: JournalWorker, caller: Caller, project: str, before: int
) -> None:
    moved, second, third, other = [await held_run(database, caller, project, worker) for _ in range(4)]
    for run in (moved, second, third):
        await database.pool.execute("UPDATE runs SET status = 'CANCELLING' WHERE id = $1", run.run_id)
    *kept, first_refused, second_refused, third_refused, written = await asyncio.gather(
        *(moved.node(f"n{at}", NodeStatus.COMPLETED) for at in range(before)),
        moved.finish(),
        second.finish(),
        third.finish(),
        other.record(note()),
        return_exceptions=True,
    )
    assert (kept, written) == ([2 + before] * before, 3)
    for refused in (first_refused, second_refused, third_refused):
        assert isinstance(refused, StatusMoved)
        assert refused.status is RunStatus.CANCELLING
    assert await numbers(database, moved.run_id) == list(range(1, 3 + before))
    assert await moved.record(note()) == 3 + before


@pytest.mark.parametrize("ends", [True, False], ids=["at its end", "during its execution"])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET status = 'COMPLETED' WHERE id = $1",
        "UPDATE runs SET status = 'WAITING' WHERE id = $1",
        "UPDATE runs SET status = 'QUEUED' WHERE id = $1",
        "UPDATE runs SET epoch = epoch + 1 WHERE id = $1",
        "DELETE FROM runs WHERE id = $1",
    ],
)
async def test_a_worker_is_fenced_from_a_run_that_it_does_not_hold_any_more(
    database: Database, worker: JournalWorker, caller: Caller, project: str, change: str, ends: bool
) -> None:
    held = await held_run(database, caller, project, worker)
    await database.pool.execute(change, held.run_id)
    with pytest.raises(Fenced, match=f"run {held.run_id} is no longer held under epoch {held.epoch}"):
        await (held.finish() if ends else held.record(note()))


async def test_after_a_refused_entry_nothing_of_the_run_is_written_until_it_is_forgotten(
    database: Database, worker: JournalWorker, caller: Caller, project: str
) -> None:
    held, journal = await held_run(database, caller, project, worker), worker._journal
    with pytest.raises(EntryRefused, match="DataError"):
        await held.node("a", NodeStatus.COMPLETED, visits=2**40)
    with pytest.raises(EntryRefused):
        await held.record(note())
    journal.post(Entry(held.run_id, held.epoch, events_to_write=[(NOW, note())]))
    assert len(journal._buffer) == 0
    # Another epoch of the run is not refused, but this one is not the present one.
    journal.forget(held.run_id, held.epoch + 1)
    with pytest.raises(EntryRefused):
        await held.record(note())
    journal.forget(held.run_id, held.epoch)
    assert await held.record(note()) == 3


async def test_a_status_change_that_the_state_machine_does_not_have_is_refused_at_once(
    worker: JournalWorker, database: Database, caller: Caller, project: str
) -> None:
    held = await held_run(database, caller, project, worker)
    with pytest.raises(ValueError, match="a run that is COMPLETED cannot become RUNNING"):
        await held.finish(RunStatus.RUNNING, RunStatus.COMPLETED)
    assert await held.record(note()) == 3


async def test_a_posted_entry_is_committed_without_another_entry(
    database: Database, worker: JournalWorker, caller: Caller, project: str
) -> None:
    held = await held_run(database, caller, project, worker)
    worker._journal.post(Entry(held.run_id, held.epoch, events_to_write=[(NOW, note())]))
    third = "SELECT true FROM events WHERE run_id = $1 AND seq = 3"
    assert await eventually(lambda: database.pool.fetchval(third, held.run_id))


async def test_a_journal_that_cannot_write_closes_after_its_time(
    database: Database, redis: Redis, worker: JournalWorker, caller: Caller, project: str
) -> None:
    held = await held_run(database, caller, project, worker)
    pool = BrokenConnection(database.pool, *["before"] * 1000)
    journal = PostgresJournal(pool, redis, database.deadlines)  # type: ignore[arg-type]
    journal.open()
    assert "journal" in [task.get_name() for task in journal.tasks]
    writing = asyncio.ensure_future(journal.commit(Entry(held.run_id, held.epoch, events_to_write=[(NOW, note())])))
    async with asyncio.timeout(10):
        await journal.close(within_s=0.1)
    assert all(task.done() for task in journal.tasks)
    assert not writing.done()
    writing.cancel()


async def test_a_journal_closes_only_when_everything_is_committed(
    database: Database, redis: Redis, worker: JournalWorker, caller: Caller, project: str
) -> None:
    held = await held_run(database, caller, project, worker)
    journal = PostgresJournal(database.pool, redis, database.deadlines)
    journal.open()
    writer = HeldRun(journal, held.run_id, held.epoch)
    writes = [asyncio.ensure_future(writer.record(note(f"{number}"))) for number in range(5)]
    await asyncio.sleep(0)
    await journal.close()
    assert [await one for one in writes] == [7] * 5
    assert await numbers(database, held.run_id) == [1, 2, 3, 4, 5, 6, 7]


def entry(run_id: str, epoch: int = 1, change: RunChange | None = None) -> Entry:
    return Entry(run_id, epoch, events_to_write=[(NOW, note())], change=change)


async def test_a_group_has_the_entries_of_each_run_up_to_a_status_change_or_another_epoch() -> None:
    buffer = JournalBuffer()
    end = RunChange(RunStatus.COMPLETED, RunStatus.RUNNING)
    added = [entry("a"), entry("b"), entry("a", change=end), entry("a"), entry("b", 2), entry("b"), entry("c")]
    for one in added:
        buffer.post(one)
    group = buffer.next_group({})
    assert [[one.entry for one in part] for part in group] == [[added[0], added[2]], [added[1]], [added[6]]]
    assert [[one.entry for one in part] for part in buffer.next_group({})] == [[added[3]], [added[4]]]
    assert [[one.entry for one in part] for part in buffer.next_group({})] == [[added[5]]]
    assert (len(buffer), buffer._posted, buffer.next_group({})) == (0, 0, [])


async def test_the_entries_of_a_refused_epoch_are_answered_with_its_error() -> None:
    buffer = JournalBuffer()
    futures = [asyncio.get_running_loop().create_future() for _ in range(3)]
    for one, future in zip([entry("a"), entry("a", 2), entry("b")], futures, strict=True):
        buffer.add(one, future)
    group = buffer.next_group({("a", 1): EntryRefused("refused")})
    assert [part[0].entry.run_id for part in group] == ["a", "b"]
    assert isinstance(futures[0].exception(), EntryRefused)
    assert not futures[1].done()
    assert not futures[2].done()


async def test_no_text_has_characters_that_sql_cannot_read(
    database: Database, worker: JournalWorker, caller: Caller, project: str
) -> None:
    bad = "a\0b\ud800c"
    held = await held_run(database, caller, project, worker)
    await held.record(LogRecorded(LogLevel.INFO, bad, None, {"x": [bad, {bad: 1}]}))
    error = RunError(bad, bad, "a", details={bad: [bad]})
    texts = {"message": bad, "partial_output": bad, "thinking": bad, "finish_reason": bad, "port": bad}
    await held.node("a", NodeStatus.FAILED, error=error, usage=Usage(bad), **texts)
    change = RunChange(RunStatus.FAILED, RunStatus.RUNNING, bad, error=error)
    ended = StatusChange(RunStatus.FAILED, RunStatus.RUNNING, bad)
    await worker._journal.commit(Entry(held.run_id, held.epoch, events_to_write=[(NOW, ended)], change=change))
    selected = """
    SELECT body::jsonb::text FROM events WHERE run_id = $1 UNION ALL
    SELECT concat(message, partial_output, thinking, finish_reason, port, error::jsonb, usage::jsonb) FROM node_states
    WHERE run_id = $1 UNION ALL SELECT concat(status_message, error::jsonb) FROM runs WHERE id = $1"""
    found = [row[0] for row in await database.pool.fetch(selected, held.run_id)]
    assert sum(text.count("a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c") for text in found) > 15
