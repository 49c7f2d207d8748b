"""What is done to the system: which faults, in which order and after which pauses is settled by the seed alone.

Faults are dealt from a deck that is shuffled anew each time it is used up, so that a short run has every kind as well. All
of them end as they should: what was stopped goes on, what was killed is started again.
"""

import asyncio
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
"""Between the end of a fault and the next one."""
START_S = 20.0
"""A process that is started takes part within this time, also on a busy machine."""
_BUSY = """
SELECT DISTINCT r.id, r.worker_id FROM runs r JOIN node_states n ON n.run_id = r.id
WHERE r.status = 'RUNNING' AND n.status = 'RUNNING' AND r.worker_id IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker that was killed while nothing else was amiss, with the runs in which nodes of it were running."""

    at: float
    pid: int
    run_ids: list[str]


@dataclass(slots=True)
class Target:
    """What can be attacked, and what was done to it."""

    processes: Processes
    postgres: StoreProcess
    redis: StoreProcess
    subscribers: list[Subscriber]
    lease_s: float
    stop_s: float
    """How long a process may take to stop once it is asked to."""
    say: Callable[[str], None]
    kills: list[Kill] = field(default_factory=list)
    frozen: set[int] = field(default_factory=set)
    """Pids that were stopped past their lease: zombies, when they wake."""
    done: list[str] = field(default_factory=list)
    deaf: list[str] = field(default_factory=list)
    """Processes that did not stop in time."""

    async def fit(self) -> None:
        """Until two workers take part: on a busy machine a start takes longer than a pause."""
        workers, deadline = self.processes.workers, time.monotonic() + START_S
        enough = min(2, len(workers) - 1)
        while sum(slot.is_ready for slot in workers) < enough and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    def worker(self, rng: Random) -> ProcessSlot:
        """One that is up; the draw is made whether or not many are, so that the seed leads the same way."""
        place = rng.randrange(1 << 30)
        able = [slot for slot in self.processes.workers if slot.is_up and not slot.is_frozen]
        return (able or self.processes.workers)[place % len(able or self.processes.workers)]


async def kill_worker(target: Target, rng: Random) -> None:
    """How fast its runs go on elsewhere is the suite's measure of recovery."""
    slot, run_ids = await _busiest(target, rng)
    if not any(other.is_ready for other in target.processes.workers if other is not slot):
        run_ids = []  # Nobody is there to take them over.
    at = time.time()
    slot.send(signal.SIGKILL)
    target.kills.append(Kill(at, slot.pid, run_ids))
    await _restart(slot, rng.uniform(0, 3))


async def kill_two_workers(target: Target, rng: Random) -> None:
    slots = [target.worker(rng), target.worker(rng)]
    for slot in slots:
        slot.send(signal.SIGKILL)
    await asyncio.gather(*(_restart(slot, rng.uniform(0, 3)) for slot in set_of(slots)))


async def kill_all_workers(target: Target, rng: Random) -> None:
    for slot in target.processes.workers:
        slot.send(signal.SIGKILL)
    await asyncio.gather(*(_restart(slot, rng.uniform(0, 3)) for slot in target.processes.workers))


async def drain_worker(target: Target, rng: Random) -> None:
    await _drained(target, target.worker(rng))


async def rolling_restart(target: Target, rng: Random) -> None:
    for slot in target.processes.workers:
        if not slot.is_frozen:
            await _drained(target, slot)


async def freeze_worker(target: Target, rng: Random) -> None:
    """Past its lease. Other faults go on meanwhile, but leave it alone."""
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
    """One backend dies, as by the kernel's out-of-memory killer: Postgres ends all others, and recovers by itself."""
    victim, witness = [await asyncpg.connect(target.postgres.url) for _ in range(2)]
    ended = asyncio.Event()
    witness.add_termination_listener(lambda _: ended.set())
    try:
        os.kill(victim.get_server_pid(), signal.SIGKILL)
        async with asyncio.timeout(START_S):
            await ended.wait()  # Postgres has noticed: until then it would still say that it is well.
    finally:
        victim.terminate()
        witness.terminate()
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
    await _drained(target, target.processes.server)


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
BESIDE: tuple[Fault, ...] = (freeze_worker,)
"""Faults that take long: others go on beside them."""
DECK: tuple[Fault, ...] = (
    *(kill_worker,) * 5,
    *(kill_two_workers, kill_all_workers, drain_worker, rolling_restart, freeze_worker),
    *(restart_postgres, kill_postgres, crash_postgres, kill_worker_without_postgres),
    *(flush_redis, restart_redis, lose_redis),
    *(kill_server, stop_server, drop_clients),
)


def deal(rng: Random) -> Iterator[tuple[float, Fault, Random]]:
    """(pause before, fault, what it draws from), without end."""
    while True:
        deck = list(DECK)
        rng.shuffle(deck)
        for fault in deck:
            yield rng.uniform(*PAUSE_S), fault, Random(rng.getrandbits(64))


async def attack(target: Target, rng: Random, until: float) -> None:
    """One fault after the other until the monotonic time `until`; returns when all have been made good."""
    beside: list[asyncio.Task[None]] = []
    for pause, fault, own in deal(rng):
        await asyncio.sleep(min(pause, max(until - time.monotonic(), 0)))
        await target.fit()
        if time.monotonic() >= until:
            break
        name = fault.__name__.replace("_", " ")
        target.say(name)
        target.done.append(name)
        if fault in BESIDE:
            beside.append(asyncio.create_task(fault(target, own)))
        else:
            await fault(target, own)
    await asyncio.gather(*beside)


def set_of(slots: list[ProcessSlot]) -> list[ProcessSlot]:
    return [slot for place, slot in enumerate(slots) if slot not in slots[:place]]


async def _restart(slot: ProcessSlot, after_s: float) -> None:
    await slot.ended()
    await asyncio.sleep(after_s)
    slot.start()


async def _drained(target: Target, slot: ProcessSlot) -> None:
    """Asks it to stop as a host would, and waits for no longer than a host would."""
    slot.send(signal.SIGTERM)
    try:
        await slot.ended(target.stop_s)
    except subprocess.TimeoutExpired:
        target.deaf.append(f"{slot.name} ({slot.pid}) did not stop within {target.stop_s:g} s of its SIGTERM")
        slot.send(signal.SIGKILL)
        await slot.ended()
    slot.start()
    await _ready(slot)


async def _ready(slot: ProcessSlot) -> None:
    if slot.module[-1] == "worker":
        await slot.ready(START_S)


async def _busiest(target: Target, rng: Random) -> tuple[ProcessSlot, list[str]]:
    """The worker in which most is going on, with the runs it holds; any one where nothing is, or nobody says."""
    slot = target.worker(rng)
    try:
        busy = await _busy(target.postgres.url)
    except (OSError, asyncpg.PostgresError):
        return slot, []
    ready = [one for one in target.processes.workers if one.is_ready]
    slot = max(ready, key=lambda one: len(busy[one.pid]), default=slot)
    return slot, busy[slot.pid]


async def _busy(url: str) -> dict[int, list[str]]:
    """By worker process: the runs that it holds with a node running."""
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
    """A worker's id is its host, its pid and something random."""
    return int(worker_id.rsplit("-", 2)[1])
