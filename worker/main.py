"""The worker process: arq as the doorbell, and beside it the runs, the heartbeat and recovery.

arq's job ends as soon as the run is claimed, so that none of arq's own timeouts and retries can touch a run. SIGTERM
hands the runs back; a second one, or SIGKILL, leaves them to their leases.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import structlog
from arq import Retry, func
from arq.connections import ArqRedis
from arq.worker import Worker
from pydantic_monty import AsyncMonty
from redis.asyncio import Redis

from app.settings import Settings
from engine.nodes.registry import load_node_types
from persistence.database import Database
from persistence.ids import new_id
from persistence.journal import PostgresJournal
from worker.control import listen
from worker.execute import Runner
from worker.lease import Heartbeat, look
from worker.queue import TAKE_UP, Queue
from worker.recovery import Recovery

log = structlog.get_logger(__name__)

FULL_RETRY_S = 0.2
POLL_S = 0.5
"""arq's own poll: the bell makes it unnecessary, except after Redis was away."""
RECOVERY_S = 0.5


class BellWorker(Worker):
    """arq's worker, woken by a bell between its polls, and told not to pick jobs while the runner is full."""

    def __init__(self, runner: Runner, **options: Any) -> None:
        super().__init__(**options)
        self._runner = runner
        self._polling = asyncio.Lock()

    async def wake(self, _: str = "") -> None:
        await self._poll_iteration()

    async def _poll_iteration(self) -> None:
        # arq means this for one caller at a time.
        async with self._polling:
            self.allow_pick_jobs = not self._runner.is_full and not self._runner.is_draining
            await super()._poll_iteration()


async def serve(settings: Settings, stop: asyncio.Event | None = None) -> None:
    """Runs a worker until SIGTERM, SIGINT or `stop`."""
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with _parts(settings) as (runner, arq, tasks):
        log.info("worker.ready", worker_id=runner.worker_id, capacity=runner.capacity)
        await _until(stop, tasks)
        log.info("worker.draining", runs=len(runner.held))
        await runner.drain(settings.drain_s)
        await arq.close()


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Until told to stop, or until one of the parts has died: then the process must not go on without it."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        task.result()


@asynccontextmanager
async def _parts(settings: Settings) -> AsyncIterator[tuple[Runner, BellWorker, list[asyncio.Task[None]]]]:
    database = await Database.open(_needed(settings.database_url), pool_size=5)
    redis = Redis.from_url(_needed(settings.redis_url))
    arq_redis = ArqRedis.from_url(_needed(settings.redis_url))
    journal = PostgresJournal(database.pool, redis)
    journal.open()
    async with AsyncMonty(min_processes=1, max_processes=settings.sandbox_processes) as sandbox:
        runner = Runner(
            database,
            redis,
            journal,
            load_node_types(),
            {"sandbox": sandbox, "sandbox_memory_mb": settings.sandbox_memory_mb},
            worker_id=f"{socket.gethostname()}-{os.getpid()}-{new_id('wrk')[-6:]}",
            capacity=settings.max_jobs,
            lease_ttl_s=settings.lease_ttl_s,
        )
        queue = Queue(arq_redis, settings.queue_name)
        arq = _arq(runner, arq_redis, settings)
        heartbeat = Heartbeat(runner, interval_s=settings.heartbeat_s)
        recovery = Recovery(database, redis, queue, max_attempts=settings.max_attempts, interval_s=RECOVERY_S)
        tasks = [
            asyncio.create_task(arq.async_run(), name="arq"),
            asyncio.create_task(heartbeat.beat_forever(), name="heartbeat"),
            asyncio.create_task(recovery.watch_forever(), name="recovery"),
            asyncio.create_task(
                listen(redis, {queue.bell: arq.wake, queue.nudges: lambda run_id: look(runner, run_id)}), name="control"
            ),
        ]
        try:
            yield runner, arq, tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await journal.close()
            await redis.aclose()
            await database.close()


def _arq(runner: Runner, redis: ArqRedis, settings: Settings) -> BellWorker:
    async def take_up(_: dict[str, Any], run_id: str) -> None:
        if runner.is_full or runner.is_draining:
            raise Retry(defer=FULL_RETRY_S)
        await runner.take_up(run_id)

    return BellWorker(
        runner,
        functions=[func(cast(Any, take_up), name=TAKE_UP, keep_result=0, max_tries=1_000_000)],
        redis_pool=redis,
        queue_name=settings.queue_name,
        handle_signals=False,
        max_jobs=settings.max_jobs,
        poll_delay=POLL_S,
        log_results=False,
    )


def _needed(url: str | None) -> str:
    if url is None:
        raise ValueError("a worker needs TREADLE_DATABASE_URL and TREADLE_REDIS_URL; `treadle up` sets both")
    return url


def run(settings: Settings) -> None:
    """The `treadle worker` process."""
    asyncio.run(serve(settings))
