"""Executes one claimed run, from the compilation of its spec to the release of the run.

If the process dies, the lease of the run expires and another worker rescues it. An error that is
not the fault of the run releases it to the queue; any other error fails it visibly.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis

from engine import tracing
from engine.events import RunError
from engine.graph.compiler import GraphCache
from engine.metrics import LEASES_LOST, RUN_EXECUTING_SECONDS
from engine.runtime.executor import RunExecutor
from engine.runtime.ports import EntryRefused, Fenced
from engine.runtime.run_info import RunInfo, StopReason
from engine.spec.model import SpecError
from engine.states import RunStatus
from persistence.checkpoints.saver import Saver
from persistence.db.database import Database
from persistence.db.transient import DATABASE_ERRORS, is_transient, retry_transient
from persistence.events.codec import error_of
from persistence.events.publisher import publish_transitions
from persistence.events.run_transition import RunTransition
from persistence.journal.journal import PostgresJournal
from persistence.maintenance.rescue import fail_undrivable, release
from persistence.maintenance.timers import wake_due
from persistence.queue.claims import ClaimedRun, load_spec
from persistence.queue.notifier import Notifier
from persistence.runs.children import answer_parents
from persistence.runs.run import transitions_of
from persistence.signals.matching import match_waits
from worker.lease_clock import clock

log = structlog.get_logger(__name__)

SAFE_SHARE = 0.9
"""Share of the lease after which a run that was not renewed is stopped, so that its nodes have
ended before another worker may claim it."""


@dataclass(frozen=True, slots=True)
class RunServices:
    """The services that all runs of one worker process share."""

    database: Database
    redis: Redis
    journal: PostgresJournal
    notifier: Notifier
    graphs: GraphCache
    saver: Saver
    resources: Mapping[str, Any]
    lease_ttl_s: float


class RunTask:
    """One claimed run and the asyncio task that executes it."""

    def __init__(self, claimed: ClaimedRun, claimed_at: float, services: RunServices) -> None:
        """`claimed_at` is a time of `lease_clock.clock`, at or before the start of the lease."""
        self.claimed = claimed
        self.renewed_at = claimed_at
        """By `lease_clock.clock`: the lease lasts for its whole length from then on, at least."""
        self.executor: RunExecutor | None = None
        """None until the spec is compiled."""
        self.exceeds_storage = False
        """Whether the run had stored too many bytes at the claim: the heartbeat sees no run that waits often."""
        self._services = services
        self._is_draining = False
        self._pause_timer: asyncio.TimerHandle | None = None
        self._timeout_timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def run_id(self) -> str:
        return self.claimed.id

    @property
    def is_late(self) -> bool:
        """Whether the lease was not renewed in time.

        Then the run stops, and is never renewed again.
        """
        return clock() - self.renewed_at > self._services.lease_ttl_s * SAFE_SHARE

    def start(self, previous: "RunTask | None", on_done: Callable[["RunTask"], None]) -> None:
        """Execute the run in an asyncio task.

        Args:
            previous: The task that executes the same run under an older lease of this worker.
            on_done: Called with this task once the run is released.
        """
        self._task = asyncio.create_task(self._run(previous, on_done), name=self.run_id)

    async def wait(self) -> None:
        """Wait until the run is released. Errors of the task are logged by the task itself."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def request(self, reason: StopReason) -> None:
        """Request the run to stop.

        The pause has a time limit here, the other reasons in the watchdog.
        """
        if self.executor is None:
            return
        self.executor.request(reason)
        if reason is StopReason.PAUSE and self._pause_timer is None:
            pausing_s = self._services.database.deadlines.pausing.total_seconds()
            self._pause_timer = asyncio.get_running_loop().call_later(pausing_s, self.executor.interrupt)

    def drain(self) -> None:
        """Release the run to the queue at its next boundary."""
        self._is_draining = True
        self.request(StopReason.DRAIN)

    def interrupt(self) -> None:
        """Interrupt the nodes that still run; they run again when the run is executed again."""
        if self.executor is not None:
            self.executor.interrupt()

    async def _run(self, previous: "RunTask | None", on_done: Callable[["RunTask"], None]) -> None:
        options = self.claimed.options
        with tracing.span(
            "run", "consumer", _span_attributes(self.claimed), parent=options.get("trace"), link=options.get("queuedBy")
        ):
            await self._execute(previous, on_done)

    async def _execute(self, previous: "RunTask | None", on_done: Callable[["RunTask"], None]) -> None:
        claimed, services, began = self.claimed, self._services, clock()
        try:
            if previous is not None:
                await self._await_previous_holder(previous)
            self.executor = await self._load_executor()
            if self._is_draining:
                self.executor.request(StopReason.DRAIN)
            if self.exceeds_storage:
                self.executor.request(StopReason.STORAGE)
            self._timeout_timer = self._start_timeout(self.executor)
            status = await self.executor.run()
            _describe_span(status)
            if status is RunStatus.QUEUED:
                await services.notifier.notify_queue()
            await self._notify_parents(self.executor, status)
            if status is None:
                LEASES_LOST.inc()
        except Fenced as fenced:
            LEASES_LOST.inc()
            log.info("run.dropped", run_id=claimed.id, reason=str(fenced))
        except Exception as error:
            await self._release(error)
        finally:
            RUN_EXECUTING_SECONDS.observe(clock() - began)
            self._cancel_timers()
            services.journal.forget(claimed.id, claimed.epoch)
            on_done(self)

    async def _await_previous_holder(self, previous: "RunTask") -> None:
        """Stop this worker's older task of the run, whose lease was lost unnoticed."""
        previous.request(StopReason.LEASE_LOST)
        await previous.wait()

    async def _load_executor(self) -> RunExecutor:
        claimed, services = self.claimed, self._services
        compiled = services.graphs.peek(claimed.spec_hash)
        if compiled is None:
            spec = await load_spec(services.database.pool, claimed.version_id)
            compiled = services.graphs.get(claimed.spec_hash, spec)
        return RunExecutor(
            _run_info(claimed), compiled, journal=services.journal, head=services.saver, resources=services.resources
        )

    def _start_timeout(self, executor: RunExecutor) -> asyncio.TimerHandle | None:
        """Start the timer of the run's timeout, which counts from its first start in any worker."""
        claimed = self.claimed
        if claimed.timeout_at is None:
            return None
        left_s = (claimed.timeout_at - claimed.now).total_seconds()
        return asyncio.get_running_loop().call_later(max(left_s, 0), executor.request, StopReason.TIMEOUT)

    def _cancel_timers(self) -> None:
        for timer in (self._timeout_timer, self._pause_timer):
            if timer is not None:
                timer.cancel()

    async def _notify_parents(self, executor: RunExecutor, status: RunStatus | None) -> None:
        """Notify the parent of an ended child, or the run itself if it waits for ended children."""
        is_ended_child = status is not None and status.is_terminal and self.claimed.parent_id is not None
        children = [self.run_id] if is_ended_child else executor.child_run_ids if status is RunStatus.WAITING else []
        with suppress(*DATABASE_ERRORS):  # Recovery does the same half a second later.
            if children:
                await notify_parents(self._services, children)
            if status is RunStatus.WAITING and executor.has_event_waits:
                await self._take_kept_events()

    async def _take_kept_events(self) -> None:
        """Give the waits of this run the events that came before them."""
        services = self._services
        results = await match_waits(services.database, [self.run_id])
        transitions = transitions_of(results)
        await publish_transitions(services.redis, transitions)
        if transitions:
            await services.notifier.notify_queue()

    async def _release(self, error: Exception) -> None:
        """End a run that cannot be executed, without an effect on the other runs of the worker."""
        run_error = None if is_transient(error) else _run_error(error)
        if run_error is not None and run_error.code == "INTERNAL":
            log.exception("run.fault", run_id=self.run_id)
        transition = await retry_transient(
            lambda: self._fail_or_requeue(run_error), "run.release", is_final=_is_internal, run_id=self.run_id
        )
        if transition is not None:
            self._services.journal.publish([transition])
            if transition.status is RunStatus.QUEUED:
                await self._services.notifier.notify_queue()

    async def _fail_or_requeue(self, error: RunError | None) -> RunTransition | None:
        database, claimed = self._services.database, self.claimed
        if error is None:
            return await release(database, claimed.id, claimed.epoch)
        return await fail_undrivable(database, claimed.id, claimed.epoch, error)


async def notify_parents(services: RunServices, child_ids: Sequence[str]) -> None:
    """Pass the results of ended children to their parents.

    A WAITING parent is queued. A parent that a worker executes is notified. Recovery does the same
    for all runs; this avoids its delay.
    """
    parents = await answer_parents(services.database.pool, child_ids)
    if not parents:
        return
    transitions = await wake_due(services.database)
    await publish_transitions(services.redis, transitions)
    if transitions:
        await services.notifier.notify_queue()
    for parent_id in set(parents) - {one.run_id for one in transitions}:
        await services.notifier.notify_run(parent_id)


def _span_attributes(claimed: ClaimedRun) -> dict[str, Any]:
    return {
        "treadle.run.id": claimed.id,
        "treadle.version.id": claimed.version_id,
        "treadle.project.id": claimed.project_id,
        "treadle.run.attempt": claimed.attempt,
    }


def _describe_span(status: RunStatus | None) -> None:
    """Note in the span of a run how this execution has ended."""
    if (span := tracing.current_span()) is not None and status is not None:
        span.set_attribute("treadle.run.status", status.value)
        tracing.end_with(span, status.value if status is RunStatus.FAILED else None)


def _run_info(claimed: ClaimedRun) -> RunInfo:
    options = claimed.options
    thread = options.get("thread")
    return RunInfo(
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
        thread_key=None if thread is None else thread["key"],
    )


def _is_internal(error: Exception) -> bool:
    return not isinstance(error, DATABASE_ERRORS)


def _run_error(error: Exception) -> RunError:
    if isinstance(error, SpecError):
        return RunError("COMPILE", f"the spec cannot be run: {error}")
    if isinstance(error, EntryRefused):
        return RunError("STORAGE", f"the database refused what the run wrote: {error.reason}")
    return RunError("INTERNAL", f"{type(error).__name__}: {error}", retryable=True)
