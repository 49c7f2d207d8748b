"""The chaos suite: runs a Treadle in a temporary folder under load and faults, and audits it.

The suite starts and ends everything that it tests, and changes nothing outside its folder. If the
suite itself is killed, the kernel ends its processes. A seed determines load and faults.
"""

import asyncio
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
from rich.console import Console

from app.chaos import execution_log, lease_log, nodes, run_history
from app.chaos.audit import Observations
from app.chaos.client import ChaosClient
from app.chaos.events.audit import started_by_triggers
from app.chaos.events.peer import event_peer
from app.chaos.events.sources import EventSources
from app.chaos.faults import Target, inject_faults
from app.chaos.load import Load, StartedRun
from app.chaos.processes import Processes
from app.chaos.report import ChaosReport, create_report, print_report, read_logs
from app.chaos.subscribers import Subscriber, SubscriptionKind, View
from app.embedded import servers
from persistence.db.migrate import migrate

SUBSCRIBERS = 6
AT_ONCE = 60
"""Limit of unfinished runs."""
SETTLE_S = 60.0
"""Seconds after the last fault, in addition to a lease, in which every interrupted run must end."""
DRAIN_S = 8.0
STOP_S = 7.0
"""Seconds that a process has to stop, in addition to the drain time."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a chaos run.

    Attributes:
        minutes: Duration of the faults.
        p99_s: Limit for the p99 of the recovery time, in seconds.
        keep: Whether the folder is kept even if all guarantees held.
    """

    minutes: float
    seed: int
    workers: int = 3
    runs_per_s: float = 4.0
    lease_s: float = 15.0
    p99_s: float = 3.0
    keep: bool = False

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables of server and workers."""
        return {
            "TREADLE_LOG_FORMAT": "json",
            "TREADLE_LEASE_TTL_S": str(self.lease_s),
            "TREADLE_HEARTBEAT_S": str(self.lease_s / 3),
            "TREADLE_DRAIN_S": str(DRAIN_S),
        }

    @property
    def clock_offset_s(self) -> float:
        """By how much the clock of one worker is ahead, in seconds; negative: behind."""
        return self.rng("clock").choice([-7200.0, -45.0, 45.0, 7200.0])

    def rng(self, purpose: str) -> Random:
        """Create the random source for a purpose.

        Each purpose has its own, so that a purpose which uses more numbers does not change the
        others.
        """
        return Random(f"{self.seed}/{purpose}")


@dataclass(slots=True)
class RunningSuite:
    """Everything that runs during a chaos run. `records` is the folder of the execution log."""

    target: Target
    client: ChaosClient
    load: Load
    sources: EventSources
    views: list[View]
    records: Path


def run(options: Options, console: Console) -> bool:
    """Run the suite and print its report. The folder is kept if a guarantee was violated.

    Returns:
        Whether all guarantees held.
    """
    folder = Path(tempfile.mkdtemp(prefix="treadle-chaos-"))
    folder.chmod(0o711)  # The user of Postgres must be able to enter it.
    console.print(f"seed {options.seed}, {options.minutes:g} minutes, {options.workers} workers; logs in {folder}")
    console.print(f"the clock of worker {options.workers} is off by {options.clock_offset_s:+g} s")
    report = asyncio.run(_run(options, folder, console))
    print_report(report, console)
    if report.has_passed and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        console.print(f"logs and data are in {folder}", soft_wrap=True)
    if not report.has_passed:
        command = f"treadle chaos --minutes {options.minutes:g} --seed {options.seed}"
        console.print(f"[red]failed with seed {options.seed}[/red]; to repeat: {command}", soft_wrap=True)
    return report.has_passed


async def _run(options: Options, folder: Path, console: Console) -> ChaosReport:
    started_at = time.monotonic()

    def print_progress(text: str) -> None:
        console.print(f"{time.monotonic() - started_at:7.1f} s  {text}", highlight=False)

    async with _running_suite(options, folder, print_progress) as system:
        print_progress("all processes are ready")
        until = time.monotonic() + options.minutes * 60
        async with _background(system.load.run()), _background(system.sources.run()):
            await inject_faults(system.target, options.rng("faults"), until)
        print_progress(
            f"faults are over; {len(system.load.started)} runs accepted, {system.load.unfinished} unfinished"
        )
        await system.load.finish(options.lease_s + SETTLE_S)
        await system.sources.finish(system.target.postgres.url, SETTLE_S)
        await _wait_for_views(system.views, within_s=15)
        print_progress("all runs have ended, or the time is over")
        history = await run_history.read(system.target.postgres.url)
    print_progress("all processes are stopped")
    return _report(options, system, history)


@asynccontextmanager
async def _running_suite(
    options: Options, folder: Path, print_progress: Callable[[str], None]
) -> AsyncIterator[RunningSuite]:
    """Start stores, processes, subscribers and load client; stop them after the block."""
    async with AsyncExitStack() as stack:
        postgres, redis = (stack.enter_context(store(folder)) for store in (servers.postgres, servers.redis))
        await migrate(postgres.url)
        await _install_lease_log(postgres.url)
        records = folder / "records"
        records.mkdir()
        settings = {"TREADLE_DATABASE_URL": postgres.url, "TREADLE_REDIS_URL": redis.url}
        settings |= {execution_log.FOLDER: str(records), **options.settings, **_event_settings(folder)}
        processes = await _start_processes(stack, options, folder, settings)
        client = ChaosClient(processes.port, options.rng("client"))
        stack.push_async_callback(client.close)
        subscribers = await _start_subscribers(stack, options, processes.port, client.errors)
        views: list[View] = []
        follow = _follow_in(views, subscribers, options.rng("views"))
        load = Load(client, options.rng("load"), options.runs_per_s, AT_ONCE, follow)
        await load.prepare()
        sources = await _start_sources(stack, options, folder, client)
        target = Target(processes, postgres, redis, subscribers, options.lease_s, DRAIN_S + STOP_S, print_progress)
        yield RunningSuite(target, client, load, sources, views, records)


def _event_settings(folder: Path) -> dict[str, str]:
    """Return the settings for triggers and endpoints: a key of secrets, and access to their systems."""
    return {"TREADLE_DATA_DIR": str(folder), "TREADLE_HTTP_ALLOW": "127.0.0.1"}


async def _start_sources(stack: AsyncExitStack, options: Options, folder: Path, client: ChaosClient) -> EventSources:
    """Start the systems around the one under test, and create the triggers and the endpoint."""
    peer = await stack.enter_async_context(event_peer(options.rng("peer")))
    port = free_port()
    stack.enter_context(servers.redis(folder / "events", port))
    url = f"redis://127.0.0.1:{port}"
    sources = EventSources(client, peer, url, options.rng("events"), options.minutes)
    stack.push_async_callback(sources.close)
    await sources.prepare()
    return sources


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def _install_lease_log(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(lease_log.INSTALL)
    finally:
        await connection.close()


async def _start_processes(
    stack: AsyncExitStack, options: Options, folder: Path, settings: dict[str, str]
) -> Processes:
    offset_s = options.clock_offset_s
    processes = Processes(folder, settings, [nodes.install(folder)], options.workers, offset_s)
    stack.push_async_callback(processes.stop, DRAIN_S + STOP_S)
    await processes.start()
    await stack.enter_async_context(_background(processes.restart_dead()))
    return processes


async def _start_subscribers(
    stack: AsyncExitStack, options: Options, port: int, errors: Counter[str]
) -> list[Subscriber]:
    subscribers = [Subscriber(port, options.rng(f"subscriber {number}"), errors) for number in range(SUBSCRIBERS)]
    for subscriber in subscribers:
        await stack.enter_async_context(_background(subscriber.run()))
    return subscribers


def _follow_in(views: list[View], subscribers: list[Subscriber], rng: Random) -> Callable[[StartedRun], None]:
    """Create a function that lets two random subscribers follow a run, adding to `views`."""

    def follow(started: StartedRun) -> None:
        for kind, subscriber in zip(SubscriptionKind, rng.sample(subscribers, 2), strict=True):
            view = View(started.run_id, kind, started.ended.set)
            views.append(view)
            subscriber.follow(view)

    return follow


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine during the block, and cancel it after the block.

    Raises its exception, if it failed.
    """
    task = asyncio.create_task(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _wait_for_views(views: list[View], within_s: float) -> None:
    """Wait until all are over. The audit reports those that are not in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            for view in views:
                await view.over.wait()


def _report(options: Options, system: RunningSuite, history: run_history.ChaosHistory) -> ChaosReport:
    target, load = system.target, system.load
    observations = Observations(
        history,
        load.started | started_by_triggers(system.sources.sent, history.runs.values()),
        system.views,
        execution_log.read(system.records),
        target.frozen,
        target.kills,
        target.unresponsive,
        load.duplicate_runs,
        load.refused,
        system.client.unanswered,
        system.sources.sent,
    )
    slots = target.processes.slots
    return create_report(
        observations,
        read_logs([slot.log for slot in slots]),
        target.injected,
        [f"{slot.name} ({code})" for slot in slots for code in slot.unexpected_exits],
        Counter(system.client.errors),
        sum(subscriber.drops for subscriber in target.subscribers),
        {pid: at for slot in slots for pid, at in slot.ended_at.items()},
        options.p99_s,
    )
