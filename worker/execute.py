"""Takes runs up and drives them. A run's task belongs to this process alone: arq rang, and is not asked again.

If the process dies, the lease of each of its runs runs out and recovery queues them again.
"""

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
from persistence.claims import MAX_CLAIM, Claimed, claim_next, spec_of
from persistence.database import Database
from persistence.deadlines import CANCELLING, PAUSING
from persistence.journal import AWAY, PostgresJournal
from persistence.leases import publishable
from persistence.publish import publish
from worker.queue import Queue

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Held:
    """A run that this worker drives."""

    claimed: Claimed
    drive: Drive
    task: asyncio.Task[None] = field(init=False)
    limit: asyncio.TimerHandle | None = None
    """Ends the patience with a stop that was asked for."""
    is_cancelled: bool = False


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
        queue: Queue,
        project_limit: int | None = None,
        pausing_s: float = PAUSING.total_seconds(),
        cancelling_s: float = CANCELLING.total_seconds(),
    ) -> None:
        self.database, self.redis, self.journal = database, redis, journal
        self.worker_id, self.capacity, self.lease_ttl_s = worker_id, capacity, lease_ttl_s
        self.held: dict[str, Held] = {}
        self._resources = resources
        self._saver = Saver(database.pool)
        self._graphs = GraphCache(node_types, self._saver)
        self.is_draining = False
        self._queue, self._project_limit = queue, project_limit
        self._pausing_s, self._cancelling_s = pausing_s, cancelling_s
        self._rung = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_full(self) -> bool:
        return len(self.held) >= self.capacity

    def pull(self) -> None:
        """Somebody rang, or a slot is free: takes up what is queued. Asked again meanwhile, it looks once more."""
        self._rung.set()

    async def pull_forever(self) -> None:
        while True:
            await self._rung.wait()
            self._rung.clear()
            try:
                while not self.is_full and not self.is_draining and await self._pull():
                    pass
            except AWAY as away:
                log.warning("runner.waiting", error=str(away) or type(away).__name__)

    async def _pull(self) -> bool:
        """True: all free slots are taken now, so there may be more when one is free again."""
        free = min(self.capacity - len(self.held), MAX_CLAIM)
        won = await claim_next(self.database.pool, self.worker_id, self.lease_ttl_s, free, self._project_limit)
        await publish(self.redis, *publishable([moved for _, moved in won]))
        for claimed, _ in won:
            await self._take_up(claimed)
        return len(won) == free

    async def _take_up(self, claimed: Claimed) -> None:
        try:
            drive = await self._drive(claimed)
        except Exception as fault:
            await self._refuse(claimed, fault)
            return
        held = self.held[claimed.id] = Held(claimed, drive)
        self._idle.clear()
        held.task = asyncio.create_task(self._run(held), name=claimed.id)

    def request(self, run_id: str, stop: Stop) -> None:
        """Passes a reason to stop on, and sees to it that the stop does not take for ever."""
        held = self.held.get(run_id)
        if held is None:
            return
        held.drive.request(stop)
        if stop is Stop.PAUSE and held.limit is None:
            held.limit = asyncio.get_running_loop().call_later(self._pausing_s, held.drive.interrupt)
        elif stop is Stop.CANCEL and not held.is_cancelled:
            held.is_cancelled = True
            if held.limit is not None:
                held.limit.cancel()
            held.limit = asyncio.get_running_loop().call_later(self._cancelling_s, self._give_up, held)

    def _give_up(self, held: Held) -> None:
        """A node that does not let go of a cancel takes the process along: what else it holds goes on elsewhere."""
        log.critical("run.not_stopping", run_id=held.claimed.id, after_s=self._cancelling_s)
        os.kill(os.getpid(), signal.SIGKILL)

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

    async def _drive(self, claimed: Claimed) -> Drive:
        compiled = self._graphs.known(claimed.spec_hash)
        if compiled is None:
            compiled = self._graphs.get(claimed.spec_hash, await spec_of(self.database.pool, claimed.version_id))
        options = claimed.options
        facts = RunFacts(
            claimed.id,
            claimed.epoch,
            claimed.lineage,
            claimed.inputs,
            options["timeoutS"],
            frozenset(options["breakpoints"]),
            claimed.is_step,
            claimed.resumed_step,
        )
        return Drive(facts, compiled, journal=self.journal, head=self._saver, resources=self._resources)

    async def _run(self, held: Held) -> None:
        claimed = held.claimed
        timer = self._deadline(held)
        try:
            if await held.drive.run() is RunStatus.QUEUED:
                await self._queue.ring()
        except Fenced as fenced:
            log.info("run.dropped", run_id=claimed.id, reason=str(fenced))
        except Exception as fault:
            await self._refuse(claimed, fault)
        finally:
            for one in (timer, held.limit):
                if one is not None:
                    one.cancel()
            self.journal.forget(claimed.id, claimed.epoch)
            self.held.pop(claimed.id, None)
            if not self.held:
                self._idle.set()
            self.pull()

    def _deadline(self, held: Held) -> asyncio.TimerHandle | None:
        """A run's timeout counts from its first start, whoever had it since; by the database's clock."""
        claimed = held.claimed
        if claimed.timeout_at is None:
            return None
        left = (claimed.timeout_at - claimed.now).total_seconds()
        return asyncio.get_running_loop().call_later(max(left, 0), held.drive.request, Stop.TIMEOUT)

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
