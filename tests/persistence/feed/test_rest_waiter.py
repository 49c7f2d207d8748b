"""Waits until runs are idle: the message comes early, late, twice or never."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from persistence.events.publisher import IDLE_RUNS_CHANNEL
from persistence.feed.pubsub import ChannelReader
from persistence.feed.rest_waiter import RestWaiter
from tests.journal_worker import wait_until


@pytest.fixture
async def rest_waiter(redis: Redis) -> AsyncIterator[RestWaiter]:
    channels = ChannelReader(redis)
    rest_waiter = RestWaiter(channels)
    await rest_waiter.wait("run_0", 0)
    await wait_until(lambda: IDLE_RUNS_CHANNEL in channels.confirmed_channels)
    yield rest_waiter
    await rest_waiter.close()
    await channels.close()


async def test_all_waiters_of_a_run_are_notified_and_no_others(redis: Redis, rest_waiter: RestWaiter) -> None:
    mine = [asyncio.create_task(rest_waiter.wait("run_1", 30)) for _ in range(3)]
    other = asyncio.create_task(rest_waiter.wait("run_2", 30))
    await wait_until(lambda: rest_waiter.waiting == {"run_1", "run_2"})
    await redis.publish(IDLE_RUNS_CHANNEL, "run_1")
    await asyncio.wait_for(asyncio.gather(*mine), 5)
    assert rest_waiter.waiting == {"run_2"}
    other.cancel()


async def test_a_run_that_is_idle_before_its_waiter_starts_is_remembered_for_one_waiter(
    redis: Redis, rest_waiter: RestWaiter
) -> None:
    await redis.publish(IDLE_RUNS_CHANNEL, "run_1")
    await wait_until(lambda: rest_waiter.recent)
    await asyncio.wait_for(rest_waiter.wait("run_1", 30), 5)
    assert not rest_waiter.recent


async def test_a_waiter_without_a_message_stops_at_its_timeout(rest_waiter: RestWaiter) -> None:
    await asyncio.wait_for(rest_waiter.wait("run_1", 0.05), 5)
    assert not rest_waiter.waiting


async def test_a_cancelled_waiter_is_removed(rest_waiter: RestWaiter) -> None:
    waiting = asyncio.create_task(rest_waiter.wait("run_1", 30))
    await wait_until(lambda: rest_waiter.waiting)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not rest_waiter.waiting


async def test_a_lost_connection_to_redis_wakes_all_waiters(redis: Redis, rest_waiter: RestWaiter) -> None:
    waiting = asyncio.create_task(rest_waiter.wait("run_1", 30))
    await wait_until(lambda: rest_waiter.waiting)
    await redis.client_kill_filter(_type="pubsub")
    await asyncio.wait_for(waiting, 10)
