"""The journal: groups, fences, refusals, and connections that die in the middle."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest
from redis.asyncio import Redis

from engine.events import LogRecorded
from engine.runtime.ports import Entry, EntryRefused, Fenced, OpenWait, StatusMoved
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


async def test_an_entry_that_postgres_refuses_fails_alone(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with open_worker(database, redis) as worker:
        held = await _held(database, redis, caller, project, worker)
        writes = [
            one.node("a", NodeStatus.COMPLETED, message="NUL \0" if place == 3 else "well")
            for place, one in enumerate(held)
        ]
        results = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(result, EntryRefused) for result in results] == [place == 3 for place in range(RUNS)]
    assert await _numbers(database, held[3].run_id) == [1, 2]
    assert await _numbers(database, held[4].run_id) == [1, 2, 3]


async def test_a_writer_of_an_older_epoch_is_fenced_and_its_neighbours_are_not(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with open_worker(database, redis) as worker:
        held = await _held(database, redis, caller, project, worker)
        await database.pool.execute("UPDATE runs SET epoch = epoch + 1 WHERE id = $1", held[0].run_id)
        results = await asyncio.gather(*(one.node("a", NodeStatus.COMPLETED) for one in held), return_exceptions=True)
    assert isinstance(results[0], Fenced)
    assert results[1:] == [3] * (RUNS - 1)
    assert await _numbers(database, held[0].run_id) == [1, 2]


async def test_a_completion_that_races_a_cancel_loses_and_says_to_whom(
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


async def test_why_a_run_was_cancelled_can_be_read_after_its_code_has_stopped(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    """The reason was once seen while the run was CANCELLING, and gone a moment later."""
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        async with database.begin() as connection:
            await commands.cancel(connection, caller, held.run_id, "Ordered twice", database.deadlines)
        await held.finish(RunStatus.CANCELLED, RunStatus.CANCELLING, message=None)
    told = await database.pool.fetchval("SELECT status_message FROM runs WHERE id = $1", held.run_id)
    assert told == "Ordered twice"


async def test_connections_that_die_in_a_commit_lose_and_repeat_nothing(
    database: Database, database_url: str, redis: Redis, caller: Caller, project: str
) -> None:
    """Kills every backend of the database over and over while runs are written: each write lands once, in order."""
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
            # Long enough that a new connection can be made in between, on a busy machine too.
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
            "SELECT (body->>'visits')::int AS v FROM events WHERE run_id = $1 AND node_id = 'a' ORDER BY seq",
            one.run_id,
        )
        assert [row["v"] for row in visits] == list(range(1, rounds + 1))
    await fresh.close()


async def test_what_is_told_while_postgres_is_away_is_bounded_and_what_counts_is_kept(
    database: Database, redis: Redis, caller: Caller, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
    monkeypatch.setattr(buffer, "MAX_POSTED", 100_000)
    away = PostgresJournal(database.pool, redis, database.deadlines)
    line = LogRecorded(LogLevel.INFO, "x" * 10_000, None, {})
    for _ in range(1000):
        away.post(Entry(held.run_id, held.epoch, events_to_write=[(datetime.now(UTC), line)]))
    ended = HeldRun(away, held.run_id, held.epoch)
    ending = asyncio.create_task(ended.finish())
    away.open()
    last = await ending
    await away.close()
    told = await database.pool.fetchval("SELECT count(*) FROM events WHERE run_id = $1 AND type = 'LOG'", held.run_id)
    assert 5 <= told <= 10
    assert await database.pool.fetchval("SELECT count(*) FROM events WHERE run_id = $1", held.run_id) == last
    assert await database.pool.fetchval("SELECT status FROM runs WHERE id = $1", held.run_id) == "COMPLETED"


@pytest.mark.parametrize("together", [True, False])
async def test_a_wait_that_is_over_with_the_group_in_which_it_began_is_settled(
    database: Database, redis: Redis, caller: Caller, project: str, together: bool
) -> None:
    """A cancel that comes between a question and its entry: a CANCELLED run would wait for ever."""
    wait = OpenWait("wait_1", "ask", 1, WaitKind.INPUT, datetime.now(UTC), prompt="Well?")
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        say = [(datetime.now(UTC), LogRecorded(LogLevel.INFO, "asked", "ask", {}))]
        entry = Entry(
            held.run_id,
            held.epoch,
            events_to_write=say,
            opened_waits=[wait],
            settled_wait_ids=["wait_1"] if together else [],
        )
        written = (
            [entry]
            if together
            else [entry, Entry(held.run_id, held.epoch, events_to_write=say, settled_wait_ids=["wait_1"])]
        )
        *_, last = await asyncio.gather(*(held.commit(one) for one in written))
    query = "SELECT seq, settled_seq FROM waits WHERE run_id = $1"
    assert [tuple(row) for row in await database.pool.fetch(query, held.run_id)] == [(3, last)]
