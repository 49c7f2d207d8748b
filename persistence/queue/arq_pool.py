"""The connections of arq to Redis, with JSON as the format of its jobs.

arq's default format is pickle, and reading a pickle executes code. With JSON, a client that can write
to Redis can only request polls of the queue. Nothing here is durable.
"""

from typing import Any

import orjson
from arq.connections import ArqRedis


def open_arq(redis_url: str) -> ArqRedis:
    """Make a pool of connections. It connects at its first command."""
    redis: ArqRedis = ArqRedis.from_url(redis_url)
    # from_url passes its arguments to the connections only.
    redis.job_serializer, redis.job_deserializer = write_job, read_job
    return redis


def write_job(job: dict[str, Any]) -> bytes:
    """Serialise a job or the result of one.

    Raises:
        TypeError: It contains more than plain values.
    """
    return orjson.dumps(job)


def read_job(data: bytes) -> dict[str, Any]:
    """Read what `write_job` wrote.

    Raises:
        ValueError: It is something else, for example a pickle.
    """
    job = orjson.loads(data)
    if not isinstance(job, dict):
        raise ValueError("a job of arq must be a JSON object")
    return job
