"""The worker of arq polls once for each job, reads no pickle, and ends quietly at any time."""

import asyncio
import pickle
from pathlib import Path
from typing import Any

from arq.constants import job_key_prefix
from redis.asyncio import Redis

from persistence.queue.arq_pool import open_arq
from persistence.queue.arq_worker import open_arq_worker, stop, work_forever
from persistence.queue.notifier import Notifier


class Attack:
    """Creates a file when its pickle is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


async def test_a_pickle_in_the_queue_is_not_read_and_later_jobs_are(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    polls, polled = 0, asyncio.Event()

    def poll() -> None:
        nonlocal polls
        polls += 1
        polled.set()

    arq = open_arq_worker(poll, open_arq(redis_url), "queue")
    await arq.pool.zadd("queue", {"attack": 1})
    await arq.pool.set(job_key_prefix + "attack", pickle.dumps(Attack(tmp_path / "executed")))
    working = asyncio.create_task(work_forever(arq))
    await Notifier(arq.pool, "queue").notify_queue()
    await asyncio.wait_for(polled.wait(), 10)
    await stop(arq)
    await asyncio.wait([working], timeout=10)
    assert working.cancelled()
    assert polls == 1
    assert not await redis.exists(arq.health_check_key)
    assert not (tmp_path / "executed").exists()
    await arq.pool.aclose()


async def test_a_job_that_waits_for_redis_is_cancelled_and_the_worker_ends(redis: Redis, redis_url: str) -> None:
    arq = open_arq_worker(lambda: None, open_arq(redis_url), "queue")
    await arq.pool.ping()
    job = asyncio.create_task(arq.pool.blpop(["nothing"]))
    arq.tasks["job"] = job
    await asyncio.sleep(0)
    await stop(arq)
    assert job.cancelled()
    await arq.pool.aclose()
