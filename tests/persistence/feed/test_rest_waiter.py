"""Waiting for runs to rest: a word that comes early, late, twice or never."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from persistence.events.publisher import RESTS
from persistence.feed.pubsub import Channels
from persistence.feed.rest_waiter import RestWaiter
from tests.journal_worker import until


@pytest.fixture
async def rests(redis: Redis) -> AsyncIterator[RestWaiter]:
    channels = Channels(redis)
    rests = RestWaiter(channels)
    await rests.heard("to begin", 0)
    await until(lambda: RESTS in channels.confirmed)
    yield rests
    await rests.close()
    await channels.close()


async def test_all_who_wait_for_a_run_hear_that_it_rests_and_nobody_else_does(redis: Redis, rests: RestWaiter) -> None:
    mine = [asyncio.create_task(rests.heard("run_1", 30)) for _ in range(3)]
    other = asyncio.create_task(rests.heard("run_2", 30))
    await until(lambda: rests.waiting == {"run_1", "run_2"})
    await redis.publish(RESTS, "run_1")
    await asyncio.wait_for(asyncio.gather(*mine), 5)
    assert rests.waiting == {"run_2"}
    other.cancel()


async def test_a_run_that_rested_before_anybody_waited_is_remembered_once(redis: Redis, rests: RestWaiter) -> None:
    await redis.publish(RESTS, "run_1")
    await until(lambda: rests.remembered)
    await asyncio.wait_for(rests.heard("run_1", 30), 5)
    assert not rests.remembered


async def test_a_word_that_never_comes_is_not_waited_for(rests: RestWaiter) -> None:
    await asyncio.wait_for(rests.heard("run_1", 0.05), 5)
    assert not rests.waiting


async def test_who_gives_up_waiting_leaves_nothing_behind(rests: RestWaiter) -> None:
    waiting = asyncio.create_task(rests.heard("run_1", 30))
    await until(lambda: rests.waiting)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not rests.waiting


async def test_after_redis_was_away_everybody_looks_for_themselves(redis: Redis, rests: RestWaiter) -> None:
    waiting = asyncio.create_task(rests.heard("run_1", 30))
    await until(lambda: rests.waiting)
    await redis.client_kill_filter(_type="pubsub")
    await asyncio.wait_for(waiting, 10)
