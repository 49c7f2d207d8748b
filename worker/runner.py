"""Takes runs up and drives them: as many at once as there is room for, each in a task of its own.

If the process dies, the others notice and take its runs back: by its lock at once, by its leases in any case.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio import Redis

from engine.events import RunError
from engine.graph.compiler import GraphCache
from engine.runtime.executor import RunExecutor
from engine.runtime.ports import EntryRefused, Fenced
from engine.runtime.run_info import RunInfo, StopReason
from engine.sdk.node_types import NodeTypes
from engine.spec.model import SpecError
from engine.states import RunStatus
from persistence.checkpoints.saver import Saver
from persistence.db.database import Database
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS, is_transient, retry_transient
from persistence.events.codec import error_of
from persistence.events.run_transition import RunTransition
from persistence.journal.journal import PostgresJournal
from persistence.maintenance.rescue import fail_undrivable, release
from persistence.queue.claims import MAX_CLAIM, Claimed, claim_next, spec_of
from persistence.queue.notifier import Notifier
from worker.lease_clock import clock
from worker.run_task import tell_parents

log = structlog.get_logger(__name__)

SAFE = 0.9
"""Of a lease: a run that has not been renewed by then stops, so that its nodes are gone when another worker may have it."""
HAND_BACK_S = 5.0
"""How long an interrupted run may take to say so, before its lease is left to say it."""


@dataclass(slots=True)
class Held:
    """A run that this worker drives."""

    claimed: Claimed
    renewed_at: float
    """By `clock`: from then on the lease lasts, at least."""
    executor: RunExecutor | None = None
    """None until it is compiled and loaded."""
    task: asyncio.Task[None] = field(init=False)
    limit: asyncio.TimerHandle | None = None
    """Ends the patience with a pause that was asked for."""


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
        queue: Notifier,
        project_limit: int | None = None,
    ) -> None:
        self.database, self.redis, self.journal = database, redis, journal
        self.worker_id, self.capacity, self.lease_ttl_s = worker_id, capacity, lease_ttl_s
        self.held: dict[str, Held] = {}
        self._resources = resources
        self._saver = Saver(database.pool, journal.clocks)
        self._graphs = GraphCache(node_types, self._saver)
        self.is_draining = False
        self._queue, self._project_limit = queue, project_limit
        self._pausing_s = database.deadlines.pausing.total_seconds()
        self._outage = Outage("runner")
        self._rung = asyncio.Event()
        self._is_more = True
        """Whether something may be queued that the end of a run lets in: unknown while a claim is under way, or failed.

        What is queued later rings.
        """
        self._claiming = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_full(self) -> bool:
        return len(self.held) >= self.capacity

    def is_late(self, held: Held) -> bool:
        """It was not renewed in time: it is to be stopped, and must not be renewed any more."""
        return clock() - held.renewed_at > self.lease_ttl_s * SAFE

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
                self._is_more |= self.is_full
                self._outage.over()
            except DATABASE_ERRORS as error:
                self._outage.met(error)

    async def _pull(self) -> bool:
        """True: all free slots are taken now, so there may be more when one is free again."""
        async with self._claiming:
            free = 0 if self.is_draining else min(self.capacity - len(self.held), MAX_CLAIM)
            if free <= 0:
                return False
            began, self._is_more = clock(), True
            claims = await claim_next(self.database.pool, self.worker_id, self.lease_ttl_s, free, self._project_limit)
            self._is_more, won = claims.is_more, claims.won
            if won:
                self.journal.clocks.told(won[0][0].now, clock() - began)
                self.journal.publish([transition for _, transition in won])
            for claimed, _ in won:
                self._take_up(claimed, began)
        return len(won) == free

    def _take_up(self, claimed: Claimed, began: float) -> None:
        before = self.held.get(claimed.id)
        held = self.held[claimed.id] = Held(claimed, began)
        self._idle.clear()
        held.task = asyncio.create_task(self._run(held, before), name=claimed.id)

    def request(self, run_id: str, stop: StopReason) -> None:
        """Passes a reason to stop on. That the stop does not take for ever is seen to here and by the watchdog."""
        held = self.held.get(run_id)
        if held is not None and held.executor is not None:
            self._stop(held, held.executor, stop)

    def _stop(self, held: Held, executor: RunExecutor, stop: StopReason) -> None:
        executor.request(stop)
        if stop is StopReason.PAUSE and held.limit is None:
            held.limit = asyncio.get_running_loop().call_later(self._pausing_s, executor.interrupt)

    async def drain(self, within_s: float) -> bool:
        """Hands every run back at its next boundary; what is still running after `within_s` is interrupted there.

        False: some could not be handed back, since the database is away or a node does not let go.
        """
        self.is_draining = True
        async with self._claiming:  # A claim that is under way: what it brings is handed back like the rest.
            pass
        for held in list(self.held.values()):
            if held.executor is not None:
                held.executor.request(StopReason.DRAIN)
        if not await self._is_idle(within_s):
            for held in list(self.held.values()):
                if held.executor is not None:
                    held.executor.interrupt()
            if not await self._is_idle(HAND_BACK_S):
                log.error("runner.not_handed_back", runs=sorted(self.held))
                return False
        return True

    async def _is_idle(self, within_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        return self._idle.is_set()

    async def _drive(self, claimed: Claimed) -> RunExecutor:
        compiled = self._graphs.known(claimed.spec_hash)
        if compiled is None:
            compiled = self._graphs.get(claimed.spec_hash, await spec_of(self.database.pool, claimed.version_id))
        options = claimed.options
        info = RunInfo(
            claimed.id,
            claimed.project_id,
            claimed.epoch,
            claimed.lineage,
            claimed.inputs,
            frozenset(claimed.scopes),
            options["timeoutS"],
            frozenset(options["breakpoints"]),
            claimed.is_step,
            claimed.resumed_step,
            error_of(claimed.error),
        )
        return RunExecutor(info, compiled, journal=self.journal, head=self._saver, resources=self._resources)

    async def _run(self, held: Held, before: Held | None) -> None:
        claimed, timer = held.claimed, None
        try:
            if before is not None:
                await self._await_previous_holder(before)
            held.executor = await self._drive(claimed)
            if self.is_draining:
                held.executor.request(StopReason.DRAIN)
            timer = self._deadline(claimed, held.executor)
            status = await held.executor.run()
            if status is RunStatus.QUEUED:
                await self._queue.notify_queue()
            await self._tell_kin(claimed, held.executor, status)
        except Fenced as fenced:
            log.info("run.dropped", run_id=claimed.id, reason=str(fenced))
        except Exception as fault:
            await self._give_up(claimed, fault)
        finally:
            for one in (timer, held.limit):
                if one is not None:
                    one.cancel()
            self.journal.forget(claimed.id, claimed.epoch)
            if self.held.get(claimed.id) is held:
                del self.held[claimed.id]
            if not self.held:
                self._idle.set()
            if self._is_more:
                self.pull()

    async def _tell_kin(self, claimed: Claimed, executor: RunExecutor, status: RunStatus | None) -> None:
        """A parent goes on at once when its child is over, and when it has begun to wait for one that was quicker."""
        is_over = status is not None and status.is_terminal and claimed.parent_id is not None
        children = [claimed.id] if is_over else executor.children if status is RunStatus.WAITING else []
        if children:
            with suppress(*DATABASE_ERRORS):  # Recovery does the same, half a second later.
                await tell_parents(self.database, self.redis, self._queue, children)

    async def _await_previous_holder(self, before: Held) -> None:
        """We lost the run's lease without noticing and have claimed it again: what still runs of it here must stop first."""
        if before.executor is not None:
            self._stop(before, before.executor, StopReason.LEASE_LOST)
        await asyncio.wait([before.task])

    def _deadline(self, claimed: Claimed, executor: RunExecutor) -> asyncio.TimerHandle | None:
        """A run's timeout counts from its first start, whoever had it since; by the database's clock."""
        if claimed.timeout_at is None:
            return None
        left = (claimed.timeout_at - claimed.now).total_seconds()
        return asyncio.get_running_loop().call_later(max(left, 0), executor.request, StopReason.TIMEOUT)

    async def _give_up(self, claimed: Claimed, fault: Exception) -> None:
        """A run that cannot be driven ends by itself, visibly; its neighbours go on. Store trouble is no fault of the run."""
        error = None if is_transient(fault) else _error_of(fault)
        if error is not None and error.code == "INTERNAL":
            log.exception("run.fault", run_id=claimed.id)
        transition = await retry_transient(
            lambda: self._end(claimed, error), "run.waiting", is_final=_is_our_own_fault, run_id=claimed.id
        )
        if transition is not None:
            self.journal.publish([transition])
            if transition.status is RunStatus.QUEUED:
                await self._queue.notify_queue()

    async def _end(self, claimed: Claimed, error: RunError | None) -> RunTransition | None:
        if error is None:
            return await release(self.database, claimed.id, claimed.epoch)
        return await fail_undrivable(self.database, claimed.id, claimed.epoch, error)


def _is_our_own_fault(error: Exception) -> bool:
    return not isinstance(error, DATABASE_ERRORS)


def _error_of(fault: Exception) -> RunError:
    if isinstance(fault, SpecError):
        return RunError("COMPILE", f"the spec cannot be run: {fault}")
    if isinstance(fault, EntryRefused):
        return RunError("STORAGE", f"the database refused what the run wrote: {fault.reason}")
    return RunError("INTERNAL", f"{type(fault).__name__}: {fault}", retryable=True)
