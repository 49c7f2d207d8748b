"""Injects faults into the system under test. Their order and the pauses depend only on the seed.

The list of faults is shuffled, injected, and then shuffled again, so that a short run also has
faults of every kind. Each fault ends with a repair: stopped processes continue, killed processes
restart.
"""

import asyncio
import itertools
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import asyncpg

from app.chaos.processes import Processes, ProcessSlot
from app.chaos.subscribers import Subscriber
from app.embedded.process import StoreProcess

PAUSE_S = (1.5, 4.0)
"""Shortest and longest pause between the end of a fault and the next one, in seconds."""
START_S = 20.0
"""Seconds after which a started process is ready, also on a busy machine."""
_BUSY = """
SELECT DISTINCT r.id, r.worker_id FROM runs r JOIN node_states n ON n.run_id = r.id
WHERE r.status = 'RUNNING' AND n.status = 'RUNNING' AND r.worker_id IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker that was killed without other active faults, and the runs that it was executing."""

    at: float
    pid: int
    run_ids: list[str]


@dataclass(slots=True)
class Target:
    """The system under test, and a record of the injected faults.

    Attributes:
        stop_s: Seconds that a process has to stop after a SIGTERM.
        report: Prints a line about the progress.
        frozen: Pids of workers that were stopped for longer than their lease (zombies).
        injected: Names of the injected faults.
        unresponsive: Processes that did not stop in time.
    """

    processes: Processes
    postgres: StoreProcess
    redis: StoreProcess
    subscribers: list[Subscriber]
    lease_s: float
    stop_s: float
    report: Callable[[str], None]
    kills: list[Kill] = field(default_factory=list)
    frozen: set[int] = field(default_factory=set)
    injected: list[str] = field(default_factory=list)
    unresponsive: list[str] = field(default_factory=list)

    async def wait_for_workers(self) -> None:
        """Wait until two workers are ready: on a busy machine a start takes longer than a pause."""
        workers, deadline = self.processes.workers, time.monotonic() + START_S
        enough = min(2, len(workers) - 1)
        while sum(slot.is_ready for slot in workers) < enough:
            if time.monotonic() > deadline:
                self.report(
                    f"fewer than {enough} workers are ready after {START_S:g} s; the next fault comes all the same"
                )
                return
            await asyncio.sleep(0.1)

    def worker(self, rng: Random) -> ProcessSlot:
        """Choose a worker that is up, or any worker if none is.

        The random number does not depend on the state of the workers, so a seed always gives the
        same sequence of random numbers.
        """
        number = rng.randrange(1 << 30)
        running = [slot for slot in self.processes.workers if slot.is_up and not slot.is_frozen]
        candidates = running or self.processes.workers
        return candidates[number % len(candidates)]


async def kill_worker(target: Target, rng: Random) -> None:
    """Kill the busiest worker. The suite measures how fast its runs continue on other workers."""
    slot, run_ids = await _busiest(target, rng)
    if not _can_rescue(target, slot):
        run_ids = []  # Nobody can claim the runs at once, so the recovery time is not measured.
    at = time.time()
    slot.send(signal.SIGKILL)
    target.kills.append(Kill(at, slot.pid, run_ids))
    await _restart(slot, rng.uniform(0, 3))


def _can_rescue(target: Target, killed: ProcessSlot) -> bool:
    """Whether a worker is left. One that was frozen first connects again and waits for the others' locks."""
    others = (slot for slot in target.processes.workers if slot is not killed)
    return any(slot.is_ready and slot.pid not in target.frozen for slot in others)


async def kill_two_workers(target: Target, rng: Random) -> None:
    slots = [target.worker(rng), target.worker(rng)]
    for slot in slots:
        slot.send(signal.SIGKILL)
    await asyncio.gather(*(_restart(slot, rng.uniform(0, 3)) for slot in distinct(slots)))


async def kill_all_workers(target: Target, rng: Random) -> None:
    for slot in target.processes.workers:
        slot.send(signal.SIGKILL)
    await asyncio.gather(*(_restart(slot, rng.uniform(0, 3)) for slot in target.processes.workers))


async def drain_worker(target: Target, rng: Random) -> None:
    await _stop_and_restart(target, target.worker(rng))


async def rolling_restart(target: Target, rng: Random) -> None:
    for slot in target.processes.workers:
        if not slot.is_frozen:
            await _stop_and_restart(target, slot)


async def freeze_worker(target: Target, rng: Random) -> None:
    """Stop a worker for longer than its lease.

    Other faults are injected at the same time, but not into this worker.
    """
    slot, _ = await _busiest(target, rng)
    pid, beyond = slot.pid, rng.uniform(1, 4)
    slot.send(signal.SIGSTOP)
    target.frozen.add(pid)
    await asyncio.sleep(target.lease_s + beyond)
    if slot.pid == pid:
        slot.send(signal.SIGCONT)


async def restart_postgres(target: Target, rng: Random) -> None:
    await asyncio.to_thread(target.postgres.stop)
    await asyncio.sleep(rng.uniform(0, 2))
    await target.postgres.relaunch()


async def kill_postgres(target: Target, rng: Random) -> None:
    await asyncio.to_thread(target.postgres.kill)
    await asyncio.sleep(rng.uniform(0, 2))
    await target.postgres.relaunch()


async def crash_postgres(target: Target, rng: Random) -> None:
    """Kill one backend, as the kernel's out-of-memory killer does.

    Postgres then ends all backends and recovers.
    """
    victim, observer = [await asyncpg.connect(target.postgres.url) for _ in range(2)]
    ended = asyncio.Event()
    observer.add_termination_listener(lambda _: ended.set())
    try:
        os.kill(victim.get_server_pid(), signal.SIGKILL)
        async with asyncio.timeout(START_S):
            # Until Postgres has noticed the death, it would still report to be ready.
            await ended.wait()
    finally:
        victim.terminate()
        observer.terminate()
    await target.postgres.ready()


async def flush_redis(target: Target, rng: Random) -> None:
    from redis.asyncio import Redis as Connection

    connection = Connection.from_url(target.redis.url)
    try:
        await connection.flushall()
    finally:
        await connection.aclose()


async def restart_redis(target: Target, rng: Random) -> None:
    await asyncio.to_thread(target.redis.kill if rng.random() < 0.5 else target.redis.stop)
    await asyncio.sleep(rng.uniform(0, 3))
    await target.redis.relaunch()


async def lose_redis(target: Target, rng: Random) -> None:
    await asyncio.to_thread(target.redis.kill)
    await asyncio.sleep(rng.uniform(8, 12))
    await target.redis.relaunch()


async def kill_server(target: Target, rng: Random) -> None:
    target.processes.server.send(signal.SIGKILL)
    await _restart(target.processes.server, rng.uniform(0, 1))


async def stop_server(target: Target, rng: Random) -> None:
    await _stop_and_restart(target, target.processes.server)


async def drop_clients(target: Target, rng: Random) -> None:
    for subscriber in target.subscribers:
        subscriber.drop()


async def kill_worker_without_postgres(target: Target, rng: Random) -> None:
    await asyncio.to_thread(target.postgres.kill)
    slot = target.worker(rng)
    slot.send(signal.SIGKILL)
    await target.postgres.relaunch()
    await _restart(slot, 0)


Fault = Callable[[Target, Random], Coroutine[Any, Any, None]]
CONCURRENT: tuple[Fault, ...] = (freeze_worker,)
"""Faults that take long. Other faults are injected while they last."""
FAULTS: tuple[Fault, ...] = (
    *(kill_worker,) * 5,
    *(kill_two_workers, kill_all_workers, drain_worker, rolling_restart, freeze_worker),
    *(restart_postgres, kill_postgres, crash_postgres, kill_worker_without_postgres),
    *(flush_redis, restart_redis, lose_redis),
    *(kill_server, stop_server, drop_clients),
)


def schedule(rng: Random) -> Iterator[tuple[float, Fault, Random]]:
    """Yield (pause before the fault in seconds, fault, random source of the fault), endlessly.

    The first round has each fault once, so that a short run has them all.
    """
    for round_ in itertools.count():
        faults = list(FAULTS if round_ else dict.fromkeys(FAULTS))
        rng.shuffle(faults)
        for fault in faults:
            yield rng.uniform(*PAUSE_S), fault, Random(rng.getrandbits(64))


async def inject_faults(target: Target, rng: Random, until: float) -> None:
    """Inject faults until the monotonic time `until`.

    Returns when all faults have been repaired.
    """
    concurrent: list[asyncio.Task[None]] = []
    for pause, fault, fault_rng in schedule(rng):
        await asyncio.sleep(min(pause, max(until - time.monotonic(), 0)))
        await target.wait_for_workers()
        if time.monotonic() >= until:
            break
        name = fault.__name__.replace("_", " ")
        target.report(name)
        target.injected.append(name)
        if fault in CONCURRENT:
            concurrent.append(asyncio.create_task(fault(target, fault_rng)))
        else:
            await fault(target, fault_rng)
    await asyncio.gather(*concurrent)


def distinct(slots: list[ProcessSlot]) -> list[ProcessSlot]:
    return [slot for index, slot in enumerate(slots) if slot not in slots[:index]]


async def _restart(slot: ProcessSlot, after_s: float) -> None:
    await slot.ended()
    await asyncio.sleep(after_s)
    slot.start()


async def _stop_and_restart(target: Target, slot: ProcessSlot) -> None:
    """Stop a process with SIGTERM, as operators do, and kill it if it does not stop in time."""
    slot.send(signal.SIGTERM)
    try:
        await slot.ended(target.stop_s)
    except subprocess.TimeoutExpired:
        target.unresponsive.append(f"{slot.name} ({slot.pid}) did not stop within {target.stop_s:g} s of its SIGTERM")
        slot.send(signal.SIGKILL)
        await slot.ended()
    slot.start()
    if slot.module[-1] == "worker" and not await slot.ready(START_S):
        target.report(f"{slot.name} ({slot.pid}) is not ready {START_S:g} s after its start")


async def _busiest(target: Target, rng: Random) -> tuple[ProcessSlot, list[str]]:
    """Return the ready worker with the most active runs, and these runs.

    Returns:
        A random worker without runs if the database is unavailable, or if no worker is ready.
    """
    slot = target.worker(rng)
    try:
        busy = await _active_runs(target.postgres.url)
    except (OSError, asyncpg.PostgresError):
        return slot, []
    ready = [one for one in target.processes.workers if one.is_ready]
    slot = max(ready, key=lambda one: len(busy[one.pid]), default=slot)
    return slot, busy[slot.pid]


async def _active_runs(url: str) -> dict[int, list[str]]:
    """Return the runs with a RUNNING node, by the pid of the worker that holds them."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(_BUSY)
    finally:
        await connection.close()
    busy: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        busy[pid_of(row["worker_id"])].append(row["id"])
    return busy


def pid_of(worker_id: str) -> int:
    """Return the pid in a worker id, which consists of host, pid and a random part."""
    return int(worker_id.rsplit("-", 2)[1])
