"""Jobs of arq are JSON, so writing to Redis executes no code."""

import pickle
from pathlib import Path
from typing import Any

import orjson
import pytest
from arq import func
from arq.constants import job_key_prefix
from arq.worker import Worker
from redis.asyncio import Redis

from persistence.queue.arq_pool import open_arq, read_job, write_job
from persistence.queue.notifier import POLL_QUEUE, Notifier


class Attack:
    """Creates a file when its pickle is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


async def test_a_pickle_in_the_queue_is_not_read_and_later_jobs_are(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    arq, polls = open_arq(redis_url), 0

    async def poll(_: Any) -> None:
        nonlocal polls
        polls += 1

    await arq.zadd("queue", {"attack": 1})
    await arq.set(job_key_prefix + "attack", pickle.dumps(Attack(tmp_path / "executed")))
    await Notifier(arq, "queue").notify_queue()
    worker = Worker(
        functions=[func(poll, name=POLL_QUEUE, keep_result=0)],
        redis_pool=arq,
        queue_name="queue",
        burst=True,
        poll_delay=0.01,
        handle_signals=False,
        job_serializer=write_job,
        job_deserializer=read_job,
    )
    await worker.async_run()
    await arq.aclose()
    assert polls == 1
    assert not (tmp_path / "executed").exists()


async def test_a_notification_is_stored_as_json(redis: Redis, redis_url: str) -> None:
    arq = open_arq(redis_url)
    await Notifier(arq, "queue").notify_queue()
    [key] = await arq.keys(job_key_prefix + "*")
    assert orjson.loads(await arq.get(key))["f"] == POLL_QUEUE
    await arq.aclose()


@pytest.mark.parametrize("data", [pickle.dumps({"f": POLL_QUEUE}), b"[]", b"", b"null", b"\xff"])
def test_anything_but_a_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_job(data)
