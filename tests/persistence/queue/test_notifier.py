"""Notices of committed transitions to workers: their channels, their place in the order, and the job of arq."""

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from engine.states import LEASED, RunStatus
from persistence.events.publisher import Notice, publish_transitions, runs_channel
from persistence.events.run_transition import RunTransition
from persistence.queue.notifier import POLL_QUEUE, Notifier


def transition(status: RunStatus, run_id: str = "run_1") -> RunTransition:
    return RunTransition("prj_1", run_id, status, None)


@pytest.mark.parametrize("status", RunStatus)
def test_the_workers_that_have_to_act_on_a_transition_get_a_notice(status: RunStatus) -> None:
    notifier = Notifier(ArqRedis(), "test")
    queued = [Notice(notifier.queue_channel, "")] if status is RunStatus.QUEUED else []
    held = [Notice(notifier.run_channel, "run_1")] if status in LEASED else []
    assert notifier.notices([transition(status)]) == [*queued, *held]


def test_many_queued_runs_are_one_notice() -> None:
    notifier = Notifier(ArqRedis(), "test")
    queued = [transition(RunStatus.QUEUED, f"run_{number}") for number in range(5)]
    assert notifier.notices(queued) == [Notice(notifier.queue_channel, "")]


async def test_notices_follow_the_transitions_that_they_are_about(redis: Redis) -> None:
    notifier, channels = Notifier(ArqRedis(redis.connection_pool), "test"), list[str]()
    transitions = [transition(RunStatus.QUEUED)]
    async with redis.pubsub() as subscription:
        await subscription.subscribe(notifier.queue_channel, runs_channel("prj_1"))
        await publish_transitions(redis, transitions, notifier.notices(transitions))
        while len(channels) < 2:
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=10)
            channels += [message["channel"]] if message else []
    assert [channel.decode() for channel in channels] == [runs_channel("prj_1"), notifier.queue_channel]


@pytest.mark.parametrize(("status", "jobs"), [(RunStatus.QUEUED, 1), (RunStatus.CANCELLING, 0)])
async def test_a_queued_run_enqueues_the_job_at_most_once_in_an_interval(
    redis: Redis, status: RunStatus, jobs: int
) -> None:
    notifier = Notifier(ArqRedis(redis.connection_pool), "test")
    await notifier.enqueue_poll([transition(status)])
    assert await redis.zrem("test", f"test:{POLL_QUEUE}") == jobs
    await notifier.enqueue_poll([transition(status)])
    assert await redis.zcard("test") == 0
