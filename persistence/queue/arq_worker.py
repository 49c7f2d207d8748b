"""arq's worker, whose only job requests a poll of the queue in Postgres.

Nothing else is done in the job, so that no timeout or retry of arq affects a run.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import structlog
from arq import func
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from persistence.db.outage import Outage
from persistence.queue.arq_pool import read_job, write_job
from persistence.queue.notifier import POLL_QUEUE, TIMEOUT_S

log = structlog.get_logger(__name__)

POLL_S = 0.5
"""Poll interval of arq. The pub/sub notification makes the poll unnecessary, unless it is lost."""
RECONNECT_S = 1.0
"""Pause before arq connects again to a Redis that is away."""


def open_arq_worker(poll: Callable[[], object], redis: ArqRedis, queue_name: str) -> Worker:
    """Make a worker that calls `poll` for each job. `work_forever` runs it."""

    async def poll_queue(_: dict[str, Any]) -> None:
        poll()

    return Worker(
        functions=[func(cast(Any, poll_queue), name=POLL_QUEUE, keep_result=0)],
        redis_pool=redis,
        queue_name=queue_name,
        handle_signals=False,
        poll_delay=POLL_S,
        job_serializer=write_job,
        job_deserializer=read_job,
        log_results=False,
    )


async def work_forever(arq: Worker) -> None:
    """Run arq, and start it again when Redis was away. The queue itself is in Postgres.

    What another user of Redis has written to the queue of arq, and arq cannot read, is deleted.
    """
    outage = Outage("arq")
    while True:
        try:
            await arq.pool.ping()
            outage.recovered()
            await arq.async_run()
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            outage.failed(error)
        except Exception as error:
            log.warning("arq.unreadable_queue", error=repr(error), deleted=arq.queue_name)
            with suppress(RedisError, OSError):
                await arq.pool.delete(arq.queue_name)
        await asyncio.sleep(RECONNECT_S)


async def stop(arq: Worker) -> None:
    """End the jobs in progress, and remove the health check of this worker from Redis, in TIMEOUT_S at most.

    `Worker.close` would raise what a cancelled job raises. A Redis that is away needs no message.
    """
    arq.handle_sig(signal.SIGUSR1)
    with suppress(RedisError, OSError):
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(*arq.tasks.values(), return_exceptions=True)
            await arq.pool.delete(arq.health_check_key)
