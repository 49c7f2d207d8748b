"""Jobs of arq are JSON, so writing to Redis executes no code."""

import pickle

import orjson
import pytest
from arq.constants import job_key_prefix
from redis.asyncio import Redis

from persistence.queue.arq_pool import open_arq, read_job
from persistence.queue.notifier import POLL_QUEUE, Notifier


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
