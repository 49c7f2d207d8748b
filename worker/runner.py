"""Claims runs for one worker process, executes each in its own task, and drains them.

If the process dies, the other workers rescue its runs: at once when they see that its advisory lock
is free, in any case when its leases expire.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
from redis.asyncio import Redis

from engine.graph.compiler import GraphCache
from engine.metrics import RUN_QUEUED_SECONDS
from engine.runtime.run_info import StopReason
from engine.sdk.node_types import NodeTypes
from persistence.checkpoints.saver import Saver
from persistence.db.database import Database
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.journal.journal import PostgresJournal
from persistence.queue.claims import MAX_CLAIM, ClaimedRun, claim_next
from persistence.queue.notifier import Notifier
from worker.lease_clock import clock
from worker.run_task import RunServices, RunTask

log = structlog.get_logger(__name__)

RELEASE_S = 5.0
"""How long interrupted runs may take to be released. After that their leases expire by
themselves."""


class Runner:
    """Executes at most `capacity` runs at once.

    Start `poll_forever` in a task, and end with `drain`.
    """

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
        notifier: Notifier,
        project_limit: int | None = None,
        max_stored_bytes: int | None = None,
    ) -> None:
        """Create a runner.

        Args:
            database: The pools for claims and for the control of runs.
            redis: For published transitions.
            journal: Writes what the runs do.
            node_types: The node types of this process, by name.
            resources: What nodes use, by name.
            worker_id: The id of this worker, written into the runs that it holds.
            capacity: How many runs are executed at once.
            lease_ttl_s: Length of a lease, in seconds.
            notifier: Notifies the other workers of runs that go back into the queue.
            project_limit: How many runs of one project all workers together execute at once.
            max_stored_bytes: How many bytes a run may store; None for no limit.
        """
        self.database, self.redis, self.journal = database, redis, journal
        self.worker_id, self.capacity, self.lease_ttl_s = worker_id, capacity, lease_ttl_s
        self.tasks: dict[str, RunTask] = {}
        """The runs that this worker holds, by run id."""
        saver = Saver(database.pool, journal.clock_skew)
        self._services = RunServices(
            database, redis, journal, notifier, GraphCache(node_types, saver), saver, resources, lease_ttl_s
        )
        self.is_draining = False
        self._project_limit, self._max_stored_bytes = project_limit, max_stored_bytes
        # One project leaves a tenth to the others, however long its runs take.
        self._share = capacity - capacity // 10
        self._outage = Outage("runner")
        self._requested = asyncio.Event()
        self._has_more = True
        """Whether the end of a run may allow the claim of a run that is queued now.

        True while that is unknown: during a claim, or after a failed one. Runs that are queued
        later come with a notification.
        """
        self._claiming = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    def exceeds_storage(self, stored_bytes: int) -> bool:
        """Return whether a run has stored more bytes than a run may."""
        return self._max_stored_bytes is not None and stored_bytes > self._max_stored_bytes

    @property
    def is_full(self) -> bool:
        return len(self.tasks) >= self.capacity

    def poll(self) -> None:
        """Request a poll of the queue. A request during a poll causes another poll."""
        self._requested.set()

    async def poll_forever(self) -> None:
        """Claim runs whenever a poll is requested, until cancelled."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            try:
                while not self.is_full and not self.is_draining and await self._claim():
                    pass
                self._has_more |= self.is_full
                self._outage.recovered()
            except DATABASE_ERRORS as error:
                self._outage.failed(error)

    async def _claim(self) -> bool:
        """Claim runs for the free capacity. True: all of it is used, so more runs may be queued."""
        async with self._claiming:
            free = 0 if self.is_draining else min(self.capacity - len(self.tasks), MAX_CLAIM)
            if free <= 0:
                return False
            began, self._has_more = clock(), True
            held = Counter(task.claimed.project_id for task in self.tasks.values())
            batch = await claim_next(
                self.database.pool,
                self.worker_id,
                self.lease_ttl_s,
                free,
                self._project_limit,
                share=self._share,
                held=held,
            )
            runs = batch.runs
            held.update(run.project_id for run in runs)
            self._has_more = batch.has_more or max(held.values(), default=0) >= self._share
            if runs:
                self.journal.clock_skew.measure(runs[0].now, clock() - began)
                self.journal.publish(batch.transitions)
            for claimed in runs:
                RUN_QUEUED_SECONDS.observe((claimed.now - claimed.queued_at).total_seconds())
                self._start(claimed, began)
        return len(runs) == free

    def _start(self, claimed: ClaimedRun, claimed_at: float) -> None:
        previous = self.tasks.get(claimed.id)
        task = self.tasks[claimed.id] = RunTask(claimed, claimed_at, self._services)
        task.exceeds_storage = self.exceeds_storage(claimed.stored_bytes)
        self._idle.clear()
        task.start(previous, self._remove)

    def _remove(self, task: RunTask) -> None:
        if self.tasks.get(task.run_id) is task:
            del self.tasks[task.run_id]
        if not self.tasks:
            self._idle.set()
        if self._has_more:
            self.poll()

    def request(self, run_id: str, reason: StopReason) -> None:
        """Request a run of this worker to stop. Does nothing for a run that it does not hold."""
        task = self.tasks.get(run_id)
        if task is not None:
            task.request(reason)

    async def drain(self, within_s: float) -> bool:
        """Release every run at its next boundary. Interrupt those that still run after `within_s`.

        Returns:
            False if some runs could not be released: the database is away, or a node does not stop.
        """
        self.is_draining = True
        # The runs of a claim that is in progress are released like the others.
        async with self._claiming:
            pass
        for task in list(self.tasks.values()):
            task.drain()
        if not await self._is_idle(within_s):
            for task in list(self.tasks.values()):
                task.interrupt()
            if not await self._is_idle(RELEASE_S):
                log.error("runner.not_released", runs=sorted(self.tasks))
                return False
        return True

    async def _is_idle(self, within_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        return self._idle.is_set()
