"""Run nodes as tasks beside the supersteps, so that branches never wait for each other.

A task is scheduled in a superstep and starts when that superstep is durable. Its result waits here
until the executor brings it into the graph. A crash loses the tasks and the results that are not
durable: the next claim starts those nodes again.
"""

import asyncio
from collections import ChainMap
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, NamedTuple, cast

from engine.errors import NodeInterrupted
from engine.graph.bound_node import BoundNode
from engine.graph.channels import NodeRecord
from engine.graph.plan import Plan, PlanNode
from engine.isolation.suspension import InterruptibleWaits, suspendable
from engine.runtime.attempts import NodeResult, run_attempt
from engine.runtime.node_context import RunNodeContext, scope_of
from engine.runtime.ports import Journal
from engine.runtime.reporter import NO_TEXT, NodeReporter
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.states import IN_PROGRESS, NodeStatus
from engine.types import JSON


class TaskResult(NamedTuple):
    """A node whose task has ended. `record` is its record while it ran.

    `result` is None if the node was cancelled.
    """

    node: PlanNode
    record: NodeRecord
    result: NodeResult | None
    node_input: JSON


class TaskRunner:
    """The tasks of one claimed run. `wake` is set when the executor has something to do."""

    def __init__(
        self,
        info: RunInfo,
        bound_nodes: Mapping[str, BoundNode],
        state: RunState,
        journal: Journal,
        resources: Mapping[str, Any],
    ) -> None:
        self._info, self._bound_nodes, self._state = info, bound_nodes, state
        self._journal, self._resources = journal, resources
        self.wake = asyncio.Event()
        self.on_result: Callable[[], None] | None = None
        """Called when a task ends, while an invocation of the graph is under way."""
        self.waits_for_helpers = InterruptibleWaits()
        """The waits of inline nodes and conditions, which run in no task of their own."""
        self._abandoned, self._stopping = asyncio.Event(), asyncio.Event()
        self._scheduled: list[tuple[PlanNode, NodeRecord]] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled_nodes: set[str] = set()
        """The nodes whose task was cancelled by `cancel_node`."""
        self._cancelled_at: float | None = None
        self._results: list[TaskResult] = []

    def schedule(self, node: PlanNode, record: NodeRecord) -> None:
        """Schedule a node to start after the commit of this superstep, which sets it to RUNNING.

        A visit that starts again keeps the time of its first start, and its usage so far.

        Args:
            node: The node.
            record: Its record in this visit.
        """
        state = self._state.visit_state(
            node.id,
            record.visits,
            datetime.now(UTC),
            status=NodeStatus.RUNNING,
            attempt=record.attempt,
            progress=0.0,
            message=None,
            partial_output=None,
            error=None,
            completed_at=None,
        )
        self._state.add_change(state)
        self._scheduled.append((node, record))

    def retry(self, node: PlanNode) -> None:
        """Schedule the next attempt of a node that is RETRYING. Its text starts from the beginning."""
        before = self._state.records[node.id]
        record = before.evolve(status=NodeStatus.RUNNING, attempt=before.attempt + 1)
        self._state.set_record(node.id, record)
        changes = {"status": record.status, "visits": record.visits, "attempt": record.attempt, "progress": 0.0}
        started_at = self._state.node_state(node.id).started_at or datetime.now(UTC)
        cleared = {"message": None, **NO_TEXT}
        self._state.add_change(self._state.node_state(node.id, **changes, **cleared, started_at=started_at))
        self._scheduled.append((node, record))

    def restart(self, plan: Plan, orphans: Iterable[str] = ()) -> None:
        """Schedule the nodes that ran when the last claim ended, with the same idempotency keys.

        Args:
            plan: The plan of the graph.
            orphans: Nodes whose wait was removed by a rewind. They start again as well.
        """
        for node_id in [*self._state.running_nodes, *orphans]:
            record = self._state.records[node_id]
            if record.status is NodeStatus.RETRYING:
                self.retry(plan.nodes[node_id])
                continue
            if record.status is not NodeStatus.RUNNING:
                record = record.evolve(status=NodeStatus.RUNNING)
                self._state.set_record(node_id, record)
            self.schedule(plan.nodes[node_id], record)

    def start_scheduled(self) -> None:
        """Start the tasks of all scheduled nodes."""
        scheduled, self._scheduled = self._scheduled, []
        for node, record in scheduled:
            self._tasks[node.id] = asyncio.create_task(self._run(node, record), name=f"{self._info.id}/{node.id}")

    @property
    def has_scheduled(self) -> bool:
        return bool(self._scheduled)

    def drop_scheduled(self) -> None:
        """Forget the scheduled nodes. Their records say RUNNING, so the next claim starts them."""
        self._scheduled = []

    @property
    def is_busy(self) -> bool:
        """Whether a task is running or scheduled."""
        return bool(self._tasks or self._scheduled)

    @property
    def unresponsive_since(self) -> float | None:
        """The event loop time of the first cancel request, if a task still runs after it."""
        return self._cancelled_at if any(not task.done() for task in self._tasks.values()) else None

    @property
    def has_results(self) -> bool:
        return bool(self._results)

    def take_results(self) -> Iterator[TaskResult]:
        """Remove and yield the results, oldest first."""
        while self._results:
            yield self._results.pop(0)

    async def wait(self, until: datetime | None = None) -> None:
        """Wait until a task has ended, `wake` is set or the time `until` has come."""
        if not self._results:
            left_s = None if until is None else max((until - datetime.now(UTC)).total_seconds(), 0)
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self.wake.wait()
        self.wake.clear()

    @property
    def ending_nodes(self) -> set[str]:
        """The nodes whose task was cancelled by `cancel_node`, or has ended."""
        return self._cancelled_nodes | {result.node.id for result in self._results}

    def cancel_node(self, node_id: str) -> bool:
        """Cancel the task of one node.

        Returns:
            Whether its code runs. Then its result follows when the code has stopped.
        """
        self._scheduled = [pair for pair in self._scheduled if pair[0].id != node_id]
        task = self._tasks.get(node_id)
        if task is None:
            return False
        if getcoroutinestate(cast(Coroutine[Any, Any, None], task.get_coro())) == CORO_CREATED:
            # Cancelled now, the coroutine is never entered, so it cannot report its end.
            task.cancel()
            del self._tasks[node_id]
            return False
        self._cancelled_nodes.add(node_id)
        if not task.cancelling():
            task.cancel()
        return True

    def abandon(self) -> None:
        """Tell running nodes to stop without storing results: the run ends or its lease is lost."""
        self._abandoned.set()

    def request_stop(self) -> None:
        """Tell running nodes that the run pauses or is released, so that maps begin no more items."""
        self._stopping.set()

    def request_cancel(self) -> None:
        """Cancel each task once. A second cancel would interrupt the cleanup after the first."""
        if self._cancelled_at is None:
            self._cancelled_at = asyncio.get_running_loop().time()
        for task in self._tasks.values():
            if not task.cancelling():
                task.cancel()

    async def cancel(self) -> None:
        """Cancel all tasks, and return when their code has stopped."""
        self._scheduled = []
        tasks = list(self._tasks.values())
        self.request_cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks = {}

    def new_context(self, node: BoundNode, record: NodeRecord) -> RunNodeContext:
        """Create the context of the attempt of a visit that the record has."""
        info, node_id = self._info, node.spec.id
        reporter = NodeReporter(info, node_id, record.visits, self._state, self._journal, record.attempt)
        # The node sees itself as RUNNING, also an inline node, whose record is not stored yet.
        records = ChainMap({node_id: record}, self._state.records)
        scope = scope_of(info.id, info.inputs, records, node.names, info.outer_names)
        context = RunNodeContext(
            info, node_id, record.visits, scope, self._resources, reporter, self._abandoned, node.types, self._stopping
        )
        if node.callbacks:
            context.callback_visits = {name: self._visit_of(records.get(name)) for name in node.callbacks}
        context.begin_attempt(record.attempt)
        return context

    @staticmethod
    def _visit_of(record: NodeRecord | None) -> int:
        """Return the present visit of a node, or else its next one."""
        if record is None:
            return 1
        return record.visits if record.status in IN_PROGRESS else record.visits + 1

    async def _run(self, node: PlanNode, record: NodeRecord) -> None:
        bound_node = self._bound_nodes[node.id]
        context = self.new_context(bound_node, record)
        result: NodeResult | None = None
        try:
            result = await suspendable(run_attempt(bound_node, context))
        except asyncio.CancelledError:
            if node.id not in self._cancelled_nodes:
                raise
        except NodeInterrupted:
            if node.id not in self._cancelled_nodes:
                # Its record says RUNNING, so the next claim starts it again.
                del self._tasks[node.id]
                self.wake.set()
                return
        if node.id in self._cancelled_nodes and result is not None and result.error is not None:
            result = None  # The code failed because it was cancelled.
        if record.attempt > 1 and result is not None:  # The visit began with its first attempt.
            result = replace(result, started_at=self._state.node_state(node.id).started_at or result.started_at)
        self._results.append(TaskResult(node, record, result, context.noted_input))
        self._cancelled_nodes.discard(node.id)
        del self._tasks[node.id]
        self.wake.set()
        if self.on_result is not None:
            self.on_result()
