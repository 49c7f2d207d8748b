"""Takes runs up and drives them. A run's task belongs to this process alone: arq rang, and is not asked again.

If the process dies, the lease of each of its runs runs out and recovery queues them again.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from redis.asyncio import Redis

from engine.compile import GraphCache
from engine.drive import Drive, RunFacts, Stop
from engine.events import RunError, StatusChange
from engine.nodes.registry import NodeTypes
from engine.ports import Entry, EntryRefused, Fenced, RunChange, StatusMoved
from engine.spec import SpecError
from engine.states import RunStatus
from persistence.checkpoints import Saver
from persistence.database import Database
from persistence.journal import PostgresJournal
from persistence.leases import Claimed, claim, publishable
from persistence.publish import publish

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Held:
    """A run that this worker drives."""

    claimed: Claimed
    drive: Drive
    task: asyncio.Task[None] = field(init=False)


class Runner:
    """All runs of one worker process, at most `capacity` at once."""

    def __init__(
        self,
        database: Database,
        redis: Redis,
        journal: PostgresJournal,
        node_types: NodeTypes,
        resources: Mapping[str, Any],
        *,
        worker_id: str,
        capacity: int,
        lease_ttl_s: float,
    ) -> None:
        self.database, self.redis, self.journal = database, redis, journal
        self.worker_id, self.capacity, self.lease_ttl_s = worker_id, capacity, lease_ttl_s
        self.held: dict[str, Held] = {}
        self._resources = resources
        self._saver = Saver(database.pool)
        self._graphs = GraphCache(node_types, self._saver)
        self.is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_full(self) -> bool:
        return len(self.held) >= self.capacity

    async def take_up(self, run_id: str) -> bool:
        """Claims a run and starts driving it. False: it is not to be had."""
        won = await claim(self.database.pool, run_id, self.worker_id, self.lease_ttl_s)
        if won is None:
            return False
        claimed, moved = won
        await publish(self.redis, *publishable([moved]))
        try:
            drive = self._drive(claimed)
        except Exception as fault:
            await self._refuse(claimed, fault)
            return True
        held = self.held[run_id] = Held(claimed, drive)
        self._idle.clear()
        held.task = asyncio.create_task(self._run(held), name=run_id)
        return True

    def request(self, run_id: str, stop: Stop) -> None:
        held = self.held.get(run_id)
        if held is not None:
            held.drive.request(stop)

    async def drain(self, within_s: float) -> None:
        """Hands every run back at its next boundary; what is still running after `within_s` is interrupted there."""
        self.is_draining = True
        for held in list(self.held.values()):
            held.drive.request(Stop.DRAIN)
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            for held in list(self.held.values()):
                held.drive.interrupt()
            await self._idle.wait()

    def _drive(self, claimed: Claimed) -> Drive:
        compiled = self._graphs.get(claimed.spec_hash, claimed.spec)
        facts = RunFacts(claimed.id, claimed.epoch, claimed.lineage, claimed.inputs, claimed.timeout_s)
        return Drive(facts, compiled, journal=self.journal, head=self._saver, resources=self._resources)

    async def _run(self, held: Held) -> None:
        claimed = held.claimed
        timer = self._deadline(held)
        try:
            await held.drive.run()
        except Fenced as fenced:
            log.info("run.dropped", run_id=claimed.id, reason=str(fenced))
        except Exception as fault:
            await self._refuse(claimed, fault)
        finally:
            if timer is not None:
                timer.cancel()
            self.journal.forget(claimed.id, claimed.epoch)
            self.held.pop(claimed.id, None)
            if not self.held:
                self._idle.set()

    def _deadline(self, held: Held) -> asyncio.TimerHandle | None:
        """A run's timeout counts from its first start, whoever had it since."""
        claimed = held.claimed
        if claimed.timeout_s is None:
            return None
        left = claimed.started_at + timedelta(seconds=claimed.timeout_s) - claimed.now
        loop = asyncio.get_running_loop()
        return loop.call_later(max(left.total_seconds(), 0), held.drive.request, Stop.TIMEOUT)

    async def _refuse(self, claimed: Claimed, fault: Exception) -> None:
        """A run that cannot be driven fails by itself, visibly; its neighbours go on."""
        error = _error_of(fault)
        if error.code == "INTERNAL":
            log.exception("run.fault", run_id=claimed.id)
        for expected in (RunStatus.RUNNING, RunStatus.PAUSING):
            change = RunChange(RunStatus.FAILED, expected, error.message, None, error)
            try:
                await self.journal.commit(_failing(claimed, change))
                return
            except StatusMoved:
                continue
            except Fenced as fenced:
                log.info("run.dropped", run_id=claimed.id, reason=str(fenced))
                return


def _failing(claimed: Claimed, change: RunChange) -> Entry:
    """The entry that says so."""
    told = StatusChange(change.status, change.expected, change.message or "")
    return Entry(claimed.id, claimed.epoch, claimed.lineage, [(datetime.now(UTC), told)], change=change)


def _error_of(fault: Exception) -> RunError:
    if isinstance(fault, SpecError):
        return RunError("COMPILE", f"the spec cannot be run: {fault}")
    if isinstance(fault, EntryRefused):
        return RunError("STORAGE", f"the database refused what the run wrote: {fault.reason}")
    return RunError("INTERNAL", f"{type(fault).__name__}: {fault}", retryable=True)
