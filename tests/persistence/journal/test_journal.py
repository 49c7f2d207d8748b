"""The journal: groups, fencing, refused entries, and connections that are lost in a commit."""

import asyncio
from datetime import UTC, datetime
from itertools import pairwise

import asyncpg
import pytest
from redis.asyncio import Redis

from engine.events import LogRecorded, RunError
from engine.runtime.ports import AppendedMessage, Entry, EntryRefused, Fenced, OpenWait, RunChange, StatusMoved
from engine.sdk.node import ThreadMessage
from engine.states import LogLevel, NodeStatus, RunStatus, WaitKind
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.journal import buffer
from persistence.journal.journal import PostgresJournal
from persistence.runs import commands
from tests.journal_worker import HeldRun, accept_run, open_worker

RUNS = 8


async def _numbers(database: Database, run_id: str) -> list[int]:
    rows = await database.pool.fetch("SELECT seq FROM events WHERE run_id = $1 ORDER BY seq", run_id)
    return [row["seq"] for row in rows]


async def _held(database: Database, redis: Redis, caller: Caller, project: str, worker: object) -> list[HeldRun]:
    runs = [(await accept_run(database, caller, project)).run for _ in range(RUNS)]
    return [await worker.claim(run) for run in runs]  # type: ignore[attr-defined]


@pytest.mark.parametrize("rejected", [3, RUNS - 1])
async def test_only_the_entry_that_postgres_rejects_fails(
    database: Database, redis: Redis, caller: Caller, project: str, rejected: int
) -> None:
    async with open_worker(database, redis) as worker:
        held = await _held(database, redis, caller, project, worker)
        writes = [
            one.node("a", NodeStatus.COMPLETED, visits=2**40 if place == rejected else 1)
            for place, one in enumerate(held)
        ]
        results = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(result, EntryRefused) for result in results] == [place == rejected for place in range(RUNS)]
    for place, one in enumerate(held):
        assert await _numbers(database, one.run_id) == ([1, 2] if place == rejected else [1, 2, 3])


async def test_a_writer_of_an_older_epoch_is_fenced_and_the_rest_of_its_group_is_committed(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with open_worker(database, redis) as worker:
        held = await _held(database, redis, caller, project, worker)
        await database.pool.execute("UPDATE runs SET epoch = epoch + 1 WHERE id = $1", held[0].run_id)
        results = await asyncio.gather(*(one.node("a", NodeStatus.COMPLETED) for one in held), return_exceptions=True)
    assert isinstance(results[0], Fenced)
    assert results[1:] == [3] * (RUNS - 1)
    assert await _numbers(database, held[0].run_id) == [1, 2]


async def test_a_completion_that_loses_to_a_cancel_reports_the_new_status(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        async with database.begin() as connection:
            await commands.cancel(connection, caller, held.run_id, None, database.deadlines)
        with pytest.raises(StatusMoved) as moved:
            await held.finish()
        assert moved.value.status is RunStatus.CANCELLING
        assert await held.finish(RunStatus.CANCELLED, RunStatus.CANCELLING) == 4
    assert await _numbers(database, held.run_id) == [1, 2, 3, 4]


async def test_the_reason_of_a_cancel_stays_readable_after_the_code_has_stopped(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    """A defect once removed the reason when CANCELLING became CANCELLED."""
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        async with database.begin() as connection:
            await commands.cancel(connection, caller, held.run_id, "Ordered twice", database.deadlines)
        await held.finish(RunStatus.CANCELLED, RunStatus.CANCELLING, message=None)
    message = await database.pool.fetchval("SELECT status_message FROM runs WHERE id = $1", held.run_id)
    assert message == "Ordered twice"


async def test_a_connection_lost_in_a_commit_neither_loses_nor_repeats_an_entry(
    database: Database, database_url: str, redis: Redis, caller: Caller, project: str
) -> None:
    """Every backend of the database is killed again and again while eight runs are written."""
    rounds = 25
    killer = await asyncpg.connect(database_url)

    async def kill_until(done: asyncio.Event) -> int:
        kills = 0
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        while not done.is_set():
            kills += await killer.fetchval(query)
            # Long enough to open a new connection in between, on a busy machine too.
            await asyncio.sleep(0.1)
        return kills

    async def write(one: HeldRun) -> None:
        for place in range(rounds):
            await one.node("a", NodeStatus.RUNNING, visits=place + 1)

    async with open_worker(database, redis) as worker:
        held = await _held(database, redis, caller, project, worker)
        done = asyncio.Event()
        killing = asyncio.create_task(kill_until(done))
        async with asyncio.timeout(60):
            await asyncio.gather(*(write(one) for one in held))
        done.set()
        assert await killing > 0
    await killer.close()
    fresh = await asyncpg.connect(database_url)
    for one in held:
        rows = await fresh.fetch("SELECT seq, body FROM events WHERE run_id = $1 ORDER BY seq", one.run_id)
        assert [row["seq"] for row in rows] == list(range(1, rounds + 3))
        visits = await fresh.fetch(
            "SELECT coalesce((body->>'visits')::int, 1) AS v FROM events WHERE run_id = $1 AND node_id = 'a' ORDER BY seq",
            one.run_id,
        )
        assert [row["v"] for row in visits] == list(range(1, rounds + 1))
    await fresh.close()


async def test_posted_entries_are_bounded_while_postgres_is_unavailable_and_commits_are_not(
    database: Database, redis: Redis, caller: Caller, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
    monkeypatch.setattr(buffer, "MAX_POSTED", 100_000)
    waiting = PostgresJournal(database.pool, redis, database.deadlines)
    line = LogRecorded(LogLevel.INFO, "x" * 10_000, None, {})
    for _ in range(1000):
        waiting.post(Entry(held.run_id, held.epoch, events_to_write=[(datetime.now(UTC), line)]))
    ended = HeldRun(waiting, held.run_id, held.epoch)
    ending = asyncio.create_task(ended.finish())
    waiting.open()
    last = await ending
    await waiting.close()
    logs = await database.pool.fetchval("SELECT count(*) FROM events WHERE run_id = $1 AND type = 'LOG'", held.run_id)
    assert 5 <= logs <= 10
    assert await database.pool.fetchval("SELECT count(*) FROM events WHERE run_id = $1", held.run_id) == last
    assert await database.pool.fetchval("SELECT status FROM runs WHERE id = $1", held.run_id) == "COMPLETED"


@pytest.mark.parametrize("together", [True, False])
async def test_a_wait_opened_and_settled_in_one_group_is_settled(
    database: Database, redis: Redis, caller: Caller, project: str, together: bool
) -> None:
    """A cancel between a question and its entry would otherwise leave a CANCELLED run waiting."""
    wait = OpenWait("wait_1", "ask", 1, WaitKind.INPUT, datetime.now(UTC), prompt="Well?")
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        events = [(datetime.now(UTC), LogRecorded(LogLevel.INFO, "asked", "ask", {}))]
        entry = Entry(
            held.run_id,
            held.epoch,
            events_to_write=events,
            opened_waits=[wait],
            settled_wait_ids=["wait_1"] if together else [],
        )
        written = (
            [entry]
            if together
            else [entry, Entry(held.run_id, held.epoch, events_to_write=events, settled_wait_ids=["wait_1"])]
        )
        *_, last = await asyncio.gather(*(held.commit(one) for one in written))
    query = "SELECT seq, settled_seq FROM waits WHERE run_id = $1"
    assert [tuple(row) for row in await database.pool.fetch(query, held.run_id)] == [(3, last)]


async def test_only_a_wait_for_an_event_is_looked_up_by_the_events_that_come(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    waits = [OpenWait(f"wait_{kind}", kind, 1, kind, datetime.now(UTC), prompt="Well?") for kind in WaitKind]
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        note = (datetime.now(UTC), LogRecorded(LogLevel.INFO, "waits", None, {}))
        await held.commit(Entry(held.run_id, held.epoch, events_to_write=[note], opened_waits=waits))
    rows = await database.pool.fetch("SELECT kind FROM waits WHERE run_id = $1 AND is_unmatched", held.run_id)
    assert [row["kind"] for row in rows] == [WaitKind.EVENT]


async def test_a_failure_is_stored_with_the_entry_of_the_node_that_failed(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    """A worker that dies before the status change leaves it to the next one."""
    failure = RunError("HTTP_STATUS", "The service is away.", "a", True)
    query = "SELECT error->>'code' FROM runs WHERE id = $1"
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        for stored in (None, failure):
            note = (datetime.now(UTC), LogRecorded(LogLevel.INFO, "ends", "a", {}))
            await held.commit(Entry(held.run_id, held.epoch, events_to_write=[note], failure=stored))
            assert await database.pool.fetchval(query, held.run_id) == (stored and stored.code)


async def test_a_run_counts_every_stored_byte_of_its_events_its_messages_and_its_output(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    query, sizes = "SELECT stored_bytes FROM runs WHERE id = $1", list[int]()
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        for length in range(10, 74):
            await held.record(LogRecorded(LogLevel.INFO, "x" * length, None, {}))
            sizes.append(await database.pool.fetchval(query, held.run_id))
        said = AppendedMessage("a chat", "a", 1, ThreadMessage("user", "é" * 100))
        await held.commit(Entry(held.run_id, held.epoch, messages=[said]))
        sizes.append(await database.pool.fetchval(query, held.run_id))
        end = RunChange(RunStatus.COMPLETED, RunStatus.RUNNING, "Ended", output="x" * 2000)
        await held.commit(Entry(held.run_id, held.epoch, change=end))
        sizes.append(await database.pool.fetchval(query, held.run_id))
    added = [after - before for before, after in pairwise(sizes)]
    assert added == [*range(added[0], added[0] + 63), 200, 2002]
