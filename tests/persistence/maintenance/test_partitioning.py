"""Partitions: created ahead by any number of workers, dropped as a whole, and never missed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from redis.asyncio import Redis

from engine.events import Event
from engine.states import NodeStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.ids import Prefix, first_id, moment_of
from persistence.db.partitions import PARTITIONED, create_partition, read_partitions
from persistence.feed.feed import Feed
from persistence.maintenance.partitioning import AHEAD, create_ahead, partition_width
from persistence.maintenance.retention import drop_partitions, prune_history
from tests.journal_worker import HeldRun, accept_run, open_worker
from worker.retention import prune

DAY = timedelta(days=1)


def id_at(moment: datetime) -> str:
    """An id of a run that was made at a moment."""
    return first_id(Prefix.RUN, moment)[:-1] + "1"


def now() -> datetime:
    return datetime.now(UTC)


async def create_past(database: Database, days_ago: int, width: timedelta = DAY) -> None:
    """Create the partition of each table that begins so many days ago."""
    begin = now() - timedelta(days=days_ago)
    ends = first_id(Prefix.RUN, begin), first_id(Prefix.RUN, begin + width)
    for table in PARTITIONED:
        async with database.pool.acquire() as connection:
            await create_partition(connection, table, f"{table}_p_{days_ago}_days_ago", *ends)


async def begun(database: Database, redis: Redis, caller: Caller, project: str, created: datetime) -> HeldRun:
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project, id=id_at(created))).run)
        await held.node("a", NodeStatus.COMPLETED, output=1, has_output=True, visits=1)
        await held.checkpoint("ckp_" + held.run_id[4:], step=1, next_nodes=[])
    return held


async def finished(
    database: Database, redis: Redis, caller: Caller, project: str, created: datetime, ended: datetime
) -> str:
    """A run that was created and ended at these moments."""
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project, id=id_at(created))).run)
        await held.node("a", NodeStatus.COMPLETED, output=1, has_output=True, visits=1)
        await held.checkpoint("ckp_" + held.run_id[4:], step=1, next_nodes=[])
        await held.finish()
    await database.pool.execute("UPDATE runs SET finished_at = $2 WHERE id = $1", held.run_id, ended)
    return held.run_id


async def places(database: Database, run_id: str, table: str = "events") -> set[str]:
    """The partitions that have rows of a run, without the name of the table."""
    rows = await database.pool.fetch(f"SELECT DISTINCT tableoid::regclass::text FROM {table} WHERE run_id = $1", run_id)
    return {row[0].removeprefix(f"{table}_") for row in rows}


async def events_read(database: Database, redis: Redis, run_id: str, count: int) -> list[int]:
    """The numbers of the first events that a subscriber gets."""
    feed, seqs = Feed(database, redis), []
    try:
        async for item in feed.follow(run_id, 0):
            assert isinstance(item, Event)
            seqs.append(item.seq)
            if len(seqs) == count:
                break
    finally:
        await feed.close()
    return seqs


async def test_several_workers_create_the_same_partitions_once(database: Database) -> None:
    created = await asyncio.gather(*(create_ahead(database.pool, DAY) for _ in range(5)))
    await create_ahead(database.pool, DAY)
    for table in PARTITIONED:
        partitions = await read_partitions(database.pool, table)
        assert [one.end for one in partitions[:-1]] == [one.first for one in partitions[1:]]
        assert partitions[-1].ends_at > now() + (AHEAD - 0.1) * DAY
        assert len(partitions) == AHEAD
    assert await create_ahead(database.pool, DAY) == []
    assert len({name for names in created for name in names}) == sum(map(len, created))


async def test_a_run_is_stored_in_the_partition_of_its_time_or_else_in_the_default_one(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    await create_ahead(database.pool, DAY)
    moments = {"dated": now() + DAY / 2, "long ago": now() - 400 * DAY, "far ahead": now() + 400 * DAY}
    for name, moment in moments.items():
        run_id = await finished(database, redis, caller, project, moment, now())
        for table in PARTITIONED:
            assert {place[0] for place in await places(database, run_id, table)} == {"p" if name == "dated" else "d"}
        assert await events_read(database, redis, run_id, 5) == [1, 2, 3, 4, 5]


async def test_partitions_are_created_again_after_a_week_without_workers(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    await create_past(database, days_ago=9)
    accepted = [(await accept_run(database, caller, project)).run.id for _ in range(3)]
    too_early = await finished(database, redis, caller, project, now() + DAY / 2, now())
    assert len(await create_ahead(database.pool, DAY)) == AHEAD * len(PARTITIONED)
    for run_id in (*accepted, too_early):
        assert await places(database, run_id) == {"default"}
        assert await events_read(database, redis, run_id, 1) == [1]
    later = await finished(database, redis, caller, project, now() + DAY, now())
    assert "default" not in await places(database, later)


async def test_a_partition_is_dropped_when_its_runs_have_expired_and_the_rest_of_its_rows_moves(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    await create_past(database, days_ago=41)
    created = now() - 40.5 * DAY
    expired = await finished(database, redis, caller, project, created, created + DAY)
    late = await finished(database, redis, caller, project, created + DAY / 8, now() - DAY)
    active = await begun(database, redis, caller, project, created + DAY / 4)
    assert await prune_history(database.pool, 30) == 1
    assert await places(database, expired) != set()
    assert len(await drop_partitions(database.pool, 30)) == len(PARTITIONED)
    for table in PARTITIONED:
        assert await read_partitions(database.pool, table) == []
        assert await places(database, expired, table) == set()
        assert await places(database, late, table) == await places(database, active.run_id, table) == {"default"}
    assert await events_read(database, redis, late, 5) == [1, 2, 3, 4, 5]
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        await held.finish()
    assert await database.pool.fetchval("SELECT pruned_at FROM runs WHERE id = $1", late) is None


async def test_runs_wait_until_their_whole_partition_has_expired(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    await create_past(database, days_ago=31, width=3 * DAY)
    run_id = await finished(database, redis, caller, project, now() - 30.9 * DAY, now() - 30.8 * DAY)
    before = await finished(database, redis, caller, project, now() - 33 * DAY, now() - 32 * DAY)
    await prune(database.pool, 30, None)
    assert len(await places(database, run_id)) == 1
    assert await places(database, before) == set()
    await prune(database.pool, 27.5, 27.5)
    assert await database.pool.fetch("SELECT FROM runs") == []
    assert await read_partitions(database.pool, "events") == []


async def test_a_partition_with_too_many_active_runs_stays(
    database: Database, redis: Redis, caller: Caller, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.maintenance.partitioning.MAX_MOVED_RUNS", 1)
    await create_past(database, days_ago=41)
    for number in range(2):
        await accept_run(database, caller, project, id=id_at(now() - (40.5 - number / 4) * DAY))
    assert await drop_partitions(database.pool, 30) == []


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with database.pool.acquire() as connection:
        yield connection


async def test_a_reader_is_not_disturbed_by_a_drop_which_comes_after_it(
    database: Database, redis: Redis, caller: Caller, project: str, reader: asyncpg.Connection
) -> None:
    await create_past(database, days_ago=41)
    run_id = await finished(database, redis, caller, project, now() - 40.5 * DAY, now() - 39 * DAY)
    await prune_history(database.pool, 30)
    count = "SELECT count(*) FROM {} WHERE run_id = $1"
    async with reader.transaction():
        for table in PARTITIONED:
            assert await reader.fetchval(count.format(table), run_id) > 0
        assert await drop_partitions(database.pool, 30) == []
        for table in PARTITIONED:
            assert await reader.fetchval(count.format(table), run_id) > 0
    assert len(await drop_partitions(database.pool, 30)) == len(PARTITIONED)
    assert await reader.fetchval(count.format("events"), run_id) == 0


async def test_the_history_of_a_deleted_run_is_deleted_from_any_partition(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    await create_ahead(database.pool, DAY)
    for created in (now() - 3 * DAY, now() + DAY / 2):
        run_id = await finished(database, redis, caller, project, created, now())
        await database.pool.execute("DELETE FROM runs WHERE id = $1", run_id)
        assert [await places(database, run_id, table) for table in PARTITIONED] == [set()] * 3


@pytest.mark.parametrize(("days", "width"), [(None, 30 * DAY), (30, 3 * DAY), (0.1, timedelta(hours=1))])
def test_the_width_of_a_partition_follows_the_retention(days: float | None, width: timedelta) -> None:
    assert partition_width(days) == width


def test_the_moment_of_an_id_is_the_one_that_it_was_made_from() -> None:
    moment = datetime(2026, 12, 2, 14, 30, 0, 123_000, UTC)
    assert moment_of(first_id(Prefix.RUN, moment)) == moment
    assert moment_of(first_id(Prefix.RUN, moment) + "0") == moment
