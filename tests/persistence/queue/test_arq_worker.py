"""The worker of arq ends quietly at any time."""

import asyncio

import pytest
from redis.asyncio import Redis

from persistence.queue.arq_pool import open_arq
from persistence.queue.arq_worker import close, open_arq_worker, work_forever
from persistence.queue.notifier import Notifier

# arq itself calls it.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


async def test_a_job_requests_a_poll_and_the_worker_ends(redis: Redis, redis_url: str) -> None:
    polled = asyncio.Event()
    arq = open_arq_worker(polled.set, open_arq(redis_url), "queue")
    working = asyncio.create_task(work_forever(arq))
    await Notifier(open_arq(redis_url), "queue").notify_queue()
    await asyncio.wait_for(polled.wait(), 10)
    await close(arq)
    await asyncio.wait([working], timeout=10)
    assert working.cancelled()


async def test_a_job_that_waits_for_redis_is_cancelled_and_the_worker_ends(redis: Redis, redis_url: str) -> None:
    arq = open_arq_worker(lambda: None, open_arq(redis_url), "queue")
    await arq.pool.ping()
    job = asyncio.create_task(arq.pool.blpop("nothing"))
    arq.tasks["job"] = job
    await asyncio.sleep(0)
    await close(arq)
    assert job.cancelled()
