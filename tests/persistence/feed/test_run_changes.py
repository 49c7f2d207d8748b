"""Watchers of a project get its runs whenever their status changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.events.publisher import runs_channel
from persistence.events.run_transition import RunTransition
from persistence.feed import run_changes
from persistence.feed.feed import Feed
from tests.journal_worker import accept_run, open_worker, wait_until

KILL = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""


@pytest.fixture
async def feed(database: Database, redis: Redis) -> AsyncIterator[Feed]:
    feed = Feed(database, redis)
    yield feed
    await feed.close()


def everything(_: RunTransition) -> bool:
    return True


async def test_a_watcher_gets_every_transition_with_the_previous_status(
    feed: Feed, database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    transitions: list[RunTransition] = []

    def wants(transition: RunTransition) -> bool:
        transitions.append(transition)
        return True

    async with open_worker(database, redis) as worker, aclosing(feed.run_changes.watch(wants, project)) as changed:
        waiting = asyncio.create_task(anext(changed))
        await wait_until(lambda: feed.channels.confirmed_channels)
        result = await accept_run(database, caller, project)
        await feed.publish(result.transitions)
        assert (await waiting).status is RunStatus.QUEUED
        await worker.claim(result.run)
        assert (await anext(changed)).status is RunStatus.RUNNING
    assert transitions == [
        RunTransition(project, result.run.id, RunStatus.QUEUED, None),
        RunTransition(project, result.run.id, RunStatus.RUNNING, RunStatus.QUEUED),
    ]
    await wait_until(lambda: not feed.channels.wanted_channels)
    assert not feed.run_changes._tasks


async def test_a_run_is_read_in_its_own_project_only(
    feed: Feed, database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with aclosing(feed.run_changes.watch(everything, project, "prj_other")) as changed:
        waiting = asyncio.create_task(anext(changed))
        await wait_until(lambda: len(feed.channels.confirmed_channels) == 5)
        other, result = [await accept_run(database, caller, project) for _ in range(2)]
        await redis.publish(runs_channel("prj_other"), f"prj_other {other.run.id} QUEUED ")
        await feed.publish(result.transitions)
        assert (await waiting).id == result.run.id


async def test_a_slow_watcher_misses_the_oldest_run_and_delays_no_other(
    feed: Feed, database: Database, caller: Caller, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_changes, "MAX_WAITING", 2)
    async with (
        aclosing(feed.run_changes.watch(everything, project)) as slow,
        aclosing(feed.run_changes.watch(everything, project)) as quick,
    ):
        first = [asyncio.create_task(anext(one)) for one in (slow, quick)]
        await wait_until(lambda: feed.channels.confirmed_channels)
        results = [await accept_run(database, caller, project) for _ in range(5)]
        ids = [one.run.id for one in results]
        received = []
        for one, task in zip(results, [first[1], *[None] * 4], strict=True):
            await feed.publish(one.transitions)
            received.append((await (task or anext(quick))).id)
        assert received == ids
        assert [(await first[0]).id, (await anext(slow)).id, (await anext(slow)).id] == [ids[0], *ids[3:]]


async def test_a_change_waits_until_postgres_is_back(
    feed: Feed, database: Database, caller: Caller, project: str
) -> None:
    async with aclosing(feed.run_changes.watch(everything, project)) as changed:
        waiting = asyncio.create_task(anext(changed))
        await wait_until(lambda: feed.channels.confirmed_channels)
        result = await accept_run(database, caller, project)
        async with database.pool.acquire() as killer:
            await killer.execute(KILL)
            await feed.publish(result.transitions)
            async with asyncio.timeout(20):
                assert (await waiting).id == result.run.id


async def test_an_unreadable_message_is_logged_once_and_skipped(
    feed: Feed, database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    result = await accept_run(database, caller, project)
    unreadable = [b"nonsense", b"\xff\x00", b"", b"a b FROZEN c", f"{project} {result.run.id} QUEUED  more".encode()]
    async with aclosing(feed.run_changes.watch(everything, project)) as changed:
        waiting = asyncio.create_task(anext(changed))
        await wait_until(lambda: feed.channels.confirmed_channels)
        with capture_logs() as logs:
            for message in unreadable:
                await redis.publish(runs_channel(project), message)
            await feed.publish(result.transitions)
            async with asyncio.timeout(20):
                assert (await waiting).id == result.run.id
    # What is no text concerns nobody here: the channel reader has skipped it.
    found = [(entry["event"], entry["log_level"]) for entry in logs]
    assert found == [("feed.unreadable_message", "warning"), ("feed.unreadable_message", "debug")]
