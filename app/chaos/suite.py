"""The kill suite: a whole Treadle of real processes in a temporary folder, a steady load, faults by a seed, and an audit.

It starts everything it attacks, and ends it again; nothing outside its folder is touched. If the suite itself is killed, the
kernel ends what it has started.
"""

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
from rich.console import Console

from app.chaos import execution_log, lease_log, nodes, run_history
from app.chaos.audit import Gathered
from app.chaos.client import ChaosClient
from app.chaos.faults import Target, attack
from app.chaos.load import Load, Started
from app.chaos.processes import Processes
from app.chaos.report import ChaosReport, read_logs, report, show
from app.chaos.subscribers import Kind, Subscriber, View
from app.embedded import servers
from persistence.db.migrate import migrate

SUBSCRIBERS = 6
AT_ONCE = 60
SETTLE_S = 60.0
"""Beyond a lease: by then a run that was cut off must have come to its end."""
DRAIN_S = 8.0
STOP_S = 7.0
"""Beyond the drain window."""


@dataclass(frozen=True, slots=True)
class Options:
    minutes: float
    seed: int
    workers: int = 3
    runs_per_s: float = 4.0
    lease_s: float = 15.0
    p99_s: float = 3.0
    keep: bool = False
    """The folder stays, even if every promise was kept."""

    @property
    def settings(self) -> dict[str, str]:
        return {
            "TREADLE_LOG_FORMAT": "json",
            "TREADLE_LEASE_TTL_S": str(self.lease_s),
            "TREADLE_HEARTBEAT_S": str(self.lease_s / 3),
            "TREADLE_DRAIN_S": str(DRAIN_S),
        }

    def rng(self, purpose: str) -> Random:
        """Of its own for each purpose, so that one that draws more does not change what the others draw."""
        return Random(f"{self.seed}/{purpose}")


@dataclass(slots=True)
class System:
    """What stands while the suite lasts."""

    target: Target
    client: ChaosClient
    load: Load
    views: list[View]
    records: Path


def run(options: Options, console: Console) -> bool:
    """Runs the suite and prints its table. True: every promise was kept. The folder stays where one was not."""
    folder = Path(tempfile.mkdtemp(prefix="treadle-chaos-"))
    folder.chmod(0o711)  # Postgres's user must be able to pass.
    console.print(f"seed {options.seed}, {options.minutes:g} minutes, {options.workers} workers; logs in {folder}")
    found = asyncio.run(_attacked(options, folder, console))
    show(found, console)
    if found.is_kept and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        console.print(f"logs and data stay in {folder}", soft_wrap=True)
    if not found.is_kept:
        again = f"treadle chaos --minutes {options.minutes:g} --seed {options.seed}"
        console.print(f"[red]broken with seed {options.seed}[/red]; again: {again}", soft_wrap=True)
    return found.is_kept


async def _attacked(options: Options, folder: Path, console: Console) -> ChaosReport:
    began = time.monotonic()

    def say(what: str) -> None:
        console.print(f"{time.monotonic() - began:7.1f} s  {what}", highlight=False)

    async with _standing(options, folder, say) as system:
        say("everything stands")
        until = time.monotonic() + options.minutes * 60
        async with _background(system.load.run()):
            await attack(system.target, options.rng("faults"), until)
        say(f"faults are over; {len(system.load.started)} runs accepted, {system.load.under_way} under way")
        await system.load.settled(options.lease_s + SETTLE_S)
        await _views_over(system.views, within_s=15)
        say("settled")
        told = await run_history.read(system.target.postgres.url)
    say("stopped")
    return _reported(options, system, told, folder)


@asynccontextmanager
async def _standing(options: Options, folder: Path, say: Callable[[str], None]) -> AsyncIterator[System]:
    async with AsyncExitStack() as stack:
        postgres, redis = (stack.enter_context(store(folder)) for store in (servers.postgres, servers.redis))
        await migrate(postgres.url)
        await _watched(postgres.url)
        records = folder / "records"
        records.mkdir()
        settings = {"TREADLE_DATABASE_URL": postgres.url, "TREADLE_REDIS_URL": redis.url}
        settings |= {execution_log.FOLDER: str(records), **options.settings}
        processes = Processes(folder, settings, [nodes.install(folder)], options.workers)
        stack.push_async_callback(processes.stop, DRAIN_S + STOP_S)
        await processes.start()
        await asyncio.gather(*(slot.ready() for slot in processes.workers))
        await stack.enter_async_context(_background(processes.keep()))
        client = ChaosClient(processes.port, options.rng("client"))
        stack.push_async_callback(client.close)
        subscribers = [
            Subscriber(processes.port, options.rng(f"subscriber {number}"), client.complaints)
            for number in range(SUBSCRIBERS)
        ]
        for subscriber in subscribers:
            await stack.enter_async_context(_background(subscriber.run()))
        views: list[View] = []
        choice = options.rng("views")

        def follow(started: Started) -> None:
            for kind, by in zip(Kind, choice.sample(subscribers, 2), strict=True):
                view = View(started.run_id, kind, started.ended.set)
                views.append(view)
                by.follow(view)

        load = Load(client, options.rng("load"), options.runs_per_s, AT_ONCE, follow)
        await load.prepare()
        yield System(
            Target(processes, postgres, redis, subscribers, options.lease_s, DRAIN_S + STOP_S, say),
            client,
            load,
            views,
            records,
        )


async def _watched(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(lease_log.INSTALL)
    finally:
        await connection.close()


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs beside the block and ends with it; a fault of it is the block's."""
    task = asyncio.create_task(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _views_over(views: list[View], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and not all(view.is_over for view in views):  # noqa: ASYNC110 (there are thousands)
        await asyncio.sleep(0.1)


def _reported(options: Options, system: System, told: run_history.ChaosHistory, folder: Path) -> ChaosReport:
    target, load = system.target, system.load
    seen = Gathered(
        told,
        load.started,
        system.views,
        execution_log.read(system.records),
        target.frozen,
        target.kills,
        target.deaf,
        load.told_apart,
        load.refused,
        system.client.unanswered,
    )
    slots = target.processes.slots
    unasked = [f"{slot.name} ({code})" for slot in slots for code in slot.unasked]
    ended_at = {pid: at for slot in slots for pid, at in slot.ended_at.items()}
    drops = sum(subscriber.drops for subscriber in target.subscribers)
    logs = read_logs([slot.log for slot in slots])
    return report(seen, logs, target.done, unasked, Counter(system.client.complaints), drops, ended_at, options.p99_s)
