"""The task of a worker that fires triggers: it sleeps until one is due, and wakes for a change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from persistence.caller import Caller
from persistence.db.database import Database
from persistence.feed.pubsub import ChannelReader
from persistence.queue.notifier import Notifier
from tests.executor_worker import eventually
from tests.persistence.triggers.stored_triggers import due_triggers, new_schedule, published_workflow
from worker import triggers
from worker.listener import listen
from worker.triggers import TriggerLoop

FIRED = "SELECT e.at, r.created_at FROM trigger_events e JOIN runs r ON r.id = e.run_id"


@asynccontextmanager
async def firing(database: Database, redis: Redis) -> AsyncIterator[TriggerLoop]:
    notifier = Notifier(ArqRedis(redis.connection_pool), "test")
    loop = TriggerLoop(due_triggers(database), redis, notifier)
    channels = ChannelReader(redis, "control")

    async def wake(_: str | None) -> None:
        loop.wake()

    tasks = [
        asyncio.create_task(loop.fire_forever()),
        asyncio.create_task(listen(channels, {notifier.triggers_channel: wake})),
    ]
    try:
        yield loop
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await channels.close()


async def test_a_new_trigger_fires_at_its_time_although_the_worker_sleeps(
    database: Database, redis: Redis, caller: Caller, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "POLL_S", 3600.0)
    workflow_id = await published_workflow(database, caller, project)
    async with firing(database, redis):
        planned = datetime.now(UTC) + timedelta(seconds=0.3)
        await new_schedule(database, caller, project, workflow_id, {"intervalS": 86_400}, planned=planned)

        async def fired() -> object:
            # Repeated, because the worker may not have subscribed yet.
            await Notifier(ArqRedis(redis.connection_pool), "test").notify_triggers()
            return await database.pool.fetchrow(FIRED)

        row = await eventually(fired)
    assert timedelta(0) <= row["at"] - planned  # type: ignore[index]


async def test_a_lost_notification_costs_one_poll(
    database: Database, redis: Redis, caller: Caller, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "POLL_S", 0.2)
    workflow_id = await published_workflow(database, caller, project)
    async with firing(database, redis):
        await new_schedule(database, caller, project, workflow_id, {"intervalS": 86_400}, planned=datetime.now(UTC))
        await eventually(lambda: database.pool.fetchrow(FIRED))
