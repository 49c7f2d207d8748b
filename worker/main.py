"""Assembles and runs the worker process: runner, heartbeat, watchdog, recovery, arq and others.

SIGTERM releases the runs to the queue. After a second SIGTERM or a SIGKILL, the other workers see
that the advisory lock of this worker is free, and rescue its runs. Started by `treadle worker`.
"""

import asyncio
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import structlog
import uvloop
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import Redis

from app.settings import Settings
from engine.isolation.computation import switch_often
from engine.nodes.registry import load_node_types
from engine.nodes.resources import open_resources
from engine.release import VERSION
from engine.sdk.analytics import AnalyticsSink
from engine.triggers.registry import installed_trigger_kinds
from persistence.analytics.publisher import AnalyticsPublisher, StreamSink
from persistence.analytics.sinks import load_sinks
from persistence.db.database import Database, create_pool, dsn
from persistence.db.deadlines import Deadlines
from persistence.db.ids import new_id
from persistence.db.pool_metrics import show_pools, show_redis_pools
from persistence.db.transient import DATABASE_ERRORS, connect_at_start
from persistence.events.publisher import IDLE_RUNS_CHANNEL
from persistence.feed.pubsub import ChannelReader
from persistence.journal.journal import PostgresJournal
from persistence.maintenance.presence import Presence
from persistence.queue import arq_worker
from persistence.queue.arq_pool import open_arq
from persistence.queue.notifier import Notifier
from persistence.runs.children import Children
from persistence.runs.map_items import MapItemStore
from persistence.runs.queue_limit import QueueLimit, megabytes
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from persistence.signals.callback import CallbackSigner
from persistence.sql_databases import open_databases
from persistence.threads.memory import ThreadStore
from persistence.triggers.due import DueTriggers
from worker.deliveries import DeliveryLoop
from worker.gc_tuning import collect_seldom, freeze_modules
from worker.heartbeat import Heartbeat, check_runs
from worker.listener import listen
from worker.metrics import serving_metrics
from worker.presence import keep_registered, register, report_alive
from worker.recovery import Recovery
from worker.resource_options import resource_options
from worker.retention import prune_forever
from worker.runner import Runner
from worker.statistics import evaluate_forever, fold_forever, publish_forever
from worker.triggers import TriggerLoop
from worker.watchdog import Watchdog

log = structlog.get_logger(__name__)

RECOVERY_S = 0.5


async def serve(settings: Settings, stop: asyncio.Event | None = None) -> None:
    """Run a worker until SIGTERM, SIGINT or `stop`."""
    stop = stop or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _on_first_signal(number, stop.set))
    async with _open_worker(settings) as (runner, arq, tasks):
        runner.poll()
        log.info("worker.ready", version=VERSION, worker_id=runner.worker_id, capacity=runner.capacity)
        await _wait_for_stop(stop, tasks)
        log.info("worker.draining", runs=len(runner.tasks))
        if not await runner.drain(settings.drain_s):
            _kill_process()
        await arq_worker.stop(arq)


def _on_first_signal(number: signal.Signals, action: Callable[[], object]) -> Callable[[], None]:
    """Make a signal handler that calls `action` once.

    The second signal then ends the process as usual.
    """

    def handle() -> None:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        action()

    return handle


def _kill_process() -> None:
    """End the process without a clean-up, like SIGKILL.

    For a worker that cannot release its runs: the others see a free lock with a registration, and
    rescue the runs.
    """
    os._exit(1)


async def _wait_for_stop(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for `stop`.

    If one of the tasks ends before, the process is killed: it cannot work without it.
    """
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for task in done - {stopping}:
        error = None if task.cancelled() else task.exception()
        log.critical("worker.part_died", part=task.get_name(), exc_info=error)
        _kill_process()


@asynccontextmanager
async def _open_worker(settings: Settings) -> AsyncIterator[tuple[Runner, Worker, list[asyncio.Task[None]]]]:
    """Open the stores and start all tasks of a worker. The exit closes them in reverse order."""
    async with AsyncExitStack() as stack:
        stores = await _open_stores(stack, settings)
        journal = PostgresJournal(stores.lifeline, stores.redis, stores.database.deadlines)
        journal.open()
        stack.push_async_callback(journal.close)
        resources = await _open_resources(stack, settings, stores)
        runner = _new_runner(settings, stores, journal, resources)
        show_pools(stores.database.engine, {"hot": stores.database.pool, "lifeline": stores.lifeline})
        show_redis_pools({"commands": stores.redis, "arq": stores.arq_redis})
        stack.enter_context(serving_metrics(settings, runner))
        arq = arq_worker.open_arq_worker(runner.poll, stores.arq_redis, settings.queue_name)
        tasks: list[asyncio.Task[None]] = []
        tasks.append(await _start_presence(stack, settings, runner))
        stack.push_async_callback(_cancel, tasks)
        channels = ChannelReader(stores.redis, "control")
        stack.push_async_callback(channels.close)
        deliveries = DeliveryLoop(
            runner.database,
            resources["http"],
            resources["secrets"],
            max_failing=timedelta(days=settings.endpoint_max_failing_days),
        )
        tasks += _start_tasks(settings, runner, stores.lifeline, stores.notifier, channels, arq, deliveries, resources)
        yield runner, arq, [*tasks, *journal.tasks]


@dataclass(frozen=True, slots=True)
class _Stores:
    """The connections of a worker to Postgres and Redis.

    The journal and the heartbeat must never wait for a free connection, so they have the pool
    `lifeline` for themselves.
    """

    database: Database
    lifeline: asyncpg.Pool
    redis: Redis
    arq_redis: ArqRedis
    notifier: Notifier


async def _open_stores(stack: AsyncExitStack, settings: Settings) -> _Stores:
    database_url, redis_url = _required(settings.database_url), _required(settings.redis_url)
    database = await connect_at_start(lambda: Database.open(database_url, Deadlines(*settings.deadlines)))
    stack.push_async_callback(database.close)
    redis, arq_redis = Redis.from_url(redis_url), open_arq(redis_url)
    stack.push_async_callback(redis.aclose)
    stack.push_async_callback(arq_redis.aclose)
    lifeline = await connect_at_start(lambda: create_pool(database_url, size=2))
    stack.push_async_callback(lifeline.close)
    return _Stores(database, lifeline, redis, arq_redis, Notifier(arq_redis, settings.queue_name))


async def _open_resources(stack: AsyncExitStack, settings: Settings, stores: _Stores) -> dict[str, Any]:
    """Open the resources of the node types, by name."""
    database = stores.database
    secrets = await connect_at_start(lambda: open_secrets(database, KeySource.of(settings)))
    options = resource_options(settings)
    own = {
        "runs": Children(database, stores.redis, stores.notifier.notify_queue),
        "items": MapItemStore(database.pool),
        "threads": ThreadStore(database.pool),
        "databases": await stack.enter_async_context(open_databases(options.catalog.sql)),
        "secrets": secrets,
        "callbacks": CallbackSigner(secrets.keys, settings.public_address),
    }
    return await stack.enter_async_context(open_resources(options, own))


def _new_runner(settings: Settings, stores: _Stores, journal: PostgresJournal, resources: dict[str, Any]) -> Runner:
    return Runner(
        stores.database,
        stores.redis,
        journal,
        load_node_types(settings.sandbox_max_timeout_s),
        resources,
        worker_id=f"{socket.gethostname()}-{os.getpid()}-{new_id('wrk')[-6:]}",
        capacity=settings.max_jobs,
        lease_ttl_s=settings.lease_ttl_s,
        notifier=stores.notifier,
        project_limit=settings.project_limit,
        max_stored_bytes=megabytes(settings.run_storage_mb),
    )


async def _start_presence(stack: AsyncExitStack, settings: Settings, runner: Runner) -> asyncio.Task[None]:
    """Register the worker before its first claim.

    So a death soon after the claim is noticed as fast as any other.
    """
    presence = Presence(
        dsn(_required(settings.database_url)),
        runner.database.pool,
        runner.worker_id,
        random.getrandbits(62),
        socket.gethostname(),
        os.getpid(),
    )
    stack.push_async_callback(_unregister, presence)
    if settings.presence == "off":
        return asyncio.create_task(report_alive(presence), name="presence")
    await register(presence)
    return asyncio.create_task(keep_registered(presence), name="presence")


def _start_tasks(
    settings: Settings,
    runner: Runner,
    lifeline: asyncpg.Pool,
    notifier: Notifier,
    channels: ChannelReader,
    arq: Worker,
    deliveries: DeliveryLoop,
    resources: dict[str, Any],
) -> list[asyncio.Task[None]]:
    heartbeat = Heartbeat(runner, lifeline, interval_s=settings.heartbeat_s)
    watchdog = Watchdog(runner, cancelling_s=settings.cancelling_s)
    triggers = _trigger_loop(settings, runner, notifier, resources)
    receivers = _analytics_receivers(settings, runner)
    recovery = Recovery(runner, notifier, max_attempts=settings.max_attempts, interval_s=RECOVERY_S)

    async def poll(_: str | None) -> None:
        runner.poll()

    async def check(run_id: str | None) -> None:
        # None: notifications may be missing, so that any run may have a new intent.
        await check_runs(runner, list(runner.tasks) if run_id is None else [run_id])

    async def fire(_: str | None) -> None:
        triggers.wake()
        deliveries.wake()

    async def note_end(_: str | None) -> None:
        triggers.run_ended()
        deliveries.run_changed()

    handlers = {
        notifier.queue_channel: poll,
        notifier.run_channel: check,
        notifier.triggers_channel: fire,
        IDLE_RUNS_CHANNEL: note_end,
    }
    return [
        asyncio.create_task(runner.poll_forever(), name="poll"),
        asyncio.create_task(watchdog.watch_forever(), name="watchdog"),
        asyncio.create_task(heartbeat.beat_forever(), name="heartbeat"),
        asyncio.create_task(recovery.watch_forever(), name="recovery"),
        asyncio.create_task(triggers.fire_forever(), name="triggers"),
        asyncio.create_task(deliveries.deliver_forever(), name="deliveries"),
        asyncio.create_task(
            fold_forever(runner.database.pool, for_analytics=bool(receivers)),
            name="statistics",
        ),
        asyncio.create_task(publish_forever(AnalyticsPublisher(runner.database.pool, receivers)), name="analytics"),
        asyncio.create_task(evaluate_forever(runner.database.pool, deliveries.wake), name="alerts"),
        asyncio.create_task(listen(channels, handlers), name="control"),
        asyncio.create_task(arq_worker.work_forever(arq), name="arq"),
        asyncio.create_task(
            prune_forever(
                runner.database.pool,
                settings.retention_history_days,
                settings.retention_runs_days,
                settings.retention_threads_days,
            ),
            name="retention",
        ),
    ]


def _analytics_receivers(settings: Settings, runner: Runner) -> list[AnalyticsSink]:
    """Return the receivers of analytics events: the streams, if they are on, and the sinks of packages."""
    stream = [StreamSink(runner.redis, settings.analytics_events)] if settings.analytics_events else []
    return [*stream, *load_sinks().values()]


def _trigger_loop(settings: Settings, runner: Runner, notifier: Notifier, resources: dict[str, Any]) -> TriggerLoop:
    due = DueTriggers(
        runner.database,
        installed_trigger_kinds(),
        max_failures=settings.trigger_max_failures,
        queue_limit=QueueLimit(settings.project_queue_limit, megabytes(settings.project_storage_mb)),
        resources=resources,
    )
    return TriggerLoop(due, runner.redis, notifier)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _unregister(presence: Presence) -> None:
    try:
        await presence.unregister()
    except DATABASE_ERRORS as error:
        log.info("presence.not_unregistered", error=str(error) or type(error).__name__)


def _required(url: str | None) -> str:
    if url is None:
        raise ValueError("a worker needs TREADLE_DATABASE_URL and TREADLE_REDIS_URL; `treadle up` sets both")
    return url


def run(settings: Settings) -> None:
    """Run the `treadle worker` process. Raises UnavailableAtStart."""
    freeze_modules()
    collect_seldom()
    switch_often()
    uvloop.run(serve(settings))
