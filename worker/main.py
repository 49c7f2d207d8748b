"""The worker process: arq as the doorbell, and beside it the runs, the heartbeat and recovery.

arq's job is a look into the queue and no more, so that none of arq's own timeouts and retries can touch a run. SIGTERM
hands the runs back; after a second one, or SIGKILL, the other workers see that our lock is free and take them.
"""

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, cast

import asyncpg
import structlog
import uvloop
from arq import func
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.settings import Settings
from engine.nodes.registry import load_node_types
from engine.nodes.resources import open_resources
from persistence.db.database import Database, dsn, pool_of
from persistence.db.deadlines import Deadlines
from persistence.db.ids import new_id
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS, UnavailableAtStart, opened
from persistence.journal.journal import PostgresJournal
from persistence.maintenance.presence import Presence
from persistence.queue.notifier import PATIENCE_S, POLL_QUEUE, Notifier
from persistence.runs.children import Children
from persistence.runs.map_items import Items
from persistence.secrets.key_source import Keys
from persistence.secrets.resolver import open_secrets
from persistence.sql_databases import open_databases
from worker.gc_tuning import look_seldom, settle_down
from worker.heartbeat import Heartbeat, look
from worker.listener import listen
from worker.presence import show, show_forever
from worker.recovery import Recovery
from worker.resource_options import options_of
from worker.retention import prune_forever
from worker.runner import Runner
from worker.watchdog import Watchdog

log = structlog.get_logger(__name__)

POLL_S = 0.5
"""arq's own poll: the bell makes it unnecessary, except where a message of Redis was lost."""
RECOVERY_S = 0.5
AWAY_S = 1.0


async def serve(settings: Settings, stop: asyncio.Event | None = None) -> None:
    """Runs a worker until SIGTERM, SIGINT or `stop`."""
    stop = stop or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _once(number, stop.set))
    async with _parts(settings) as (runner, arq, tasks):
        runner.pull()
        log.info("worker.ready", worker_id=runner.worker_id, capacity=runner.capacity)
        await _until(stop, tasks)
        log.info("worker.draining", runs=len(runner.held))
        if not await runner.drain(settings.drain_s):
            _end_now()
        with suppress(RedisError, OSError):  # What arq has to say to a Redis that is away is of no use to anybody.
            async with asyncio.timeout(PATIENCE_S):
                await arq.close()


def _once(number: signal.Signals, action: Callable[[], object]) -> Callable[[], None]:
    """The second signal does what it does to any process: it ends it."""

    def signalled() -> None:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        action()

    return signalled


def _end_now() -> None:
    """Whoever cannot hand its runs back dies as by a kill -9: the others see the lock free, and the row still there."""
    os._exit(1)


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Until told to stop, or until one of the parts has died: then the process must not go on without it."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        fault = None if task.cancelled() else task.exception()
        log.critical("worker.part_died", part=task.get_name(), exc_info=fault)
        _end_now()


@asynccontextmanager
async def _parts(settings: Settings) -> AsyncIterator[tuple[Runner, Worker, list[asyncio.Task[None]]]]:
    database_url, redis_url = _needed(settings.database_url), _needed(settings.redis_url)
    async with AsyncExitStack() as stack:
        database = await opened(lambda: Database.open(database_url, Deadlines(*settings.deadlines)))
        stack.push_async_callback(database.close)
        redis, arq_redis = Redis.from_url(redis_url), ArqRedis.from_url(redis_url)
        stack.push_async_callback(redis.aclose)
        queue = Notifier(arq_redis, settings.queue_name)
        # What must never wait for a free connection has its own: writing, and saying that we live.
        lifeline = await opened(lambda: pool_of(database_url, size=2))
        stack.push_async_callback(lifeline.close)
        journal = PostgresJournal(lifeline, redis, database.deadlines)
        journal.open()
        stack.push_async_callback(journal.close)
        secrets = await opened(lambda: open_secrets(database, Keys.of(settings)))
        options = options_of(settings)
        databases = await stack.enter_async_context(open_databases(options.catalog.sql))
        resources = await stack.enter_async_context(
            open_resources(
                options,
                {
                    "runs": Children(database, redis, queue.notify_queue),
                    "items": Items(database.pool),
                    "databases": databases,
                    "secrets": secrets,
                },
            )
        )
        runner = Runner(
            database,
            redis,
            journal,
            load_node_types(),
            resources,
            worker_id=f"{socket.gethostname()}-{os.getpid()}-{new_id('wrk')[-6:]}",
            capacity=settings.max_jobs,
            lease_ttl_s=settings.lease_ttl_s,
            queue=queue,
            project_limit=settings.project_limit,
        )
        arq = _arq(runner, arq_redis, settings)
        tasks: list[asyncio.Task[None]] = []
        if settings.presence == "auto":
            presence = Presence(
                dsn(database_url),
                database.pool,
                runner.worker_id,
                random.getrandbits(62),
                socket.gethostname(),
                os.getpid(),
            )
            stack.push_async_callback(_leave, presence)
            # Before the first claim: a death that follows it closely is noticed as soon as any other.
            await show(presence)
            tasks.append(asyncio.create_task(show_forever(presence), name="presence"))
        stack.push_async_callback(_cancel, tasks)
        tasks += _tasks(settings, runner, lifeline, queue, arq)
        yield runner, arq, [*tasks, *journal.tasks]


def _tasks(
    settings: Settings, runner: Runner, lifeline: asyncpg.Pool, queue: Notifier, arq: Worker
) -> list[asyncio.Task[None]]:
    heartbeat = Heartbeat(runner, lifeline, interval_s=settings.heartbeat_s)
    watchdog = Watchdog(runner, cancelling_s=settings.cancelling_s)
    recovery = Recovery(runner, queue, max_attempts=settings.max_attempts, interval_s=RECOVERY_S)

    async def heard(_: str) -> None:
        runner.pull()

    bells = {queue.bell: heard, queue.nudges: lambda run_id: look(runner, run_id)}
    return [
        asyncio.create_task(runner.pull_forever(), name="pull"),
        asyncio.create_task(watchdog.watch_forever(), name="watchdog"),
        asyncio.create_task(heartbeat.beat_forever(), name="heartbeat"),
        asyncio.create_task(recovery.watch_forever(), name="recovery"),
        asyncio.create_task(listen(runner.redis, bells), name="control"),
        asyncio.create_task(_poll_forever(arq), name="arq"),
        asyncio.create_task(
            prune_forever(runner.database.pool, settings.retention_history_days, settings.retention_runs_days),
            name="retention",
        ),
    ]


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _leave(presence: Presence) -> None:
    try:
        await presence.leave()
    except DATABASE_ERRORS as away:
        log.info("presence.not_left", error=str(away) or type(away).__name__)


async def _poll_forever(arq: Worker) -> None:
    """arq ends when Redis is away; the worker goes on without it, since the queue itself is in Postgres."""
    outage = Outage("arq")
    while True:
        try:
            await arq.pool.ping()
            outage.over()
            await arq.async_run()
        except (RedisError, OSError) as error:
            outage.met(error)
        await asyncio.sleep(AWAY_S)


def _arq(runner: Runner, redis: ArqRedis, settings: Settings) -> Worker:
    async def take_up(_: dict[str, Any]) -> None:
        # The whole job: whatever arq does to it, a timeout or a retry, is done to a look into the queue.
        runner.pull()

    return Worker(
        functions=[func(cast(Any, take_up), name=POLL_QUEUE, keep_result=0)],
        redis_pool=redis,
        queue_name=settings.queue_name,
        handle_signals=False,
        poll_delay=POLL_S,
        log_results=False,
    )


def _needed(url: str | None) -> str:
    if url is None:
        raise ValueError("a worker needs TREADLE_DATABASE_URL and TREADLE_REDIS_URL; `treadle up` sets both")
    return url


def run(settings: Settings) -> None:
    """The `treadle worker` process."""
    settle_down()
    look_seldom()
    try:
        uvloop.run(serve(settings))
    except UnavailableAtStart as away:
        sys.exit(f"treadle: {away}")
