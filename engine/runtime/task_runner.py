"""Launched nodes: tasks that run beside the graph's waves, so that branches never wait for each other.

A launch is planned in a wave and starts once that wave is durable; its result waits here until the drive brings it in.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from engine.events import NodeState, Usage
from engine.graph.bound_node import BoundNode
from engine.graph.channels import NodeRecord
from engine.graph.plan import Plan, PlanNode
from engine.runtime.attempts import Result, attempt
from engine.runtime.node_context import RunNodeContext, scope_of
from engine.runtime.ports import Journal
from engine.runtime.reporter import NodeReporter
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.states import NodeStatus


class TaskRunner:
    def __init__(
        self,
        info: RunInfo,
        works: Mapping[str, BoundNode],
        memory: RunState,
        journal: Journal,
        resources: Mapping[str, Any],
    ) -> None:
        self.info, self.works, self.memory, self.journal, self.resources = info, works, memory, journal, resources
        self.wake = asyncio.Event()
        self._given_up = asyncio.Event()
        self.on_result: Callable[[], None] | None = None
        self._planned: list[tuple[PlanNode, NodeRecord]] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._told_at: float | None = None
        self._results: list[tuple[PlanNode, NodeRecord, Result, RunNodeContext]] = []

    def plan(self, node: PlanNode, slot: NodeRecord, usage: Usage | None = None) -> None:
        """To be started after the commit of this wave, in which the node is said to be RUNNING.

        `usage` is what the visit has taken already.
        """
        now = datetime.now(UTC)
        state = NodeState(self.info.id, node.id, NodeStatus.RUNNING, slot.visits, 1, started_at=now, usage=usage)
        self.memory.note(state)
        self._planned.append((node, slot))

    def relaunch(self, plan: Plan, stranded: Iterable[str] = ()) -> None:
        """After a crash or a drain: what was launched and not settled starts again, with the same key.

        `stranded` nodes wait for something that a rewind took back: they begin anew as well.
        """
        for node_id in [*self.memory.running, *stranded]:
            slot = self.memory.slots[node_id].evolve(status=NodeStatus.RUNNING)
            self.memory.set_slot(node_id, slot)
            self.plan(plan.nodes[node_id], slot, self.memory.state(node_id).usage)

    def start_pending(self) -> None:
        planned, self._planned = self._planned, []
        for node, slot in planned:
            self._tasks[node.id] = asyncio.create_task(self._run(node, slot), name=f"{self.info.id}/{node.id}")

    @property
    def has_pending(self) -> bool:
        return bool(self._planned)

    def drop_pending(self) -> None:
        self._planned = []

    @property
    def is_busy(self) -> bool:
        return bool(self._tasks or self._planned)

    @property
    def unresponsive_since(self) -> float | None:
        """The loop's time at which nodes were told to stop that still run; None where none does."""
        return self._told_at if any(not task.done() for task in self._tasks.values()) else None

    @property
    def has_results(self) -> bool:
        return bool(self._results)

    def results(self) -> Iterator[tuple[PlanNode, NodeRecord, Result, RunNodeContext]]:
        """Takes what has finished, oldest first."""
        results, self._results = self._results, []
        yield from results

    async def wait(self, until: datetime | None = None) -> None:
        """Until something has finished, `until` has come, or somebody wants something of this run."""
        if not self._results:
            left = None if until is None else max((until - datetime.now(UTC)).total_seconds(), 0)
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self.wake.wait()
        self.wake.clear()

    def give_up(self) -> None:
        """The run is to end, or its lease is lost and another worker may have it: what runs stops without keeping anything."""
        self._given_up.set()

    def cancel_soon(self) -> None:
        """Once a task: a second cancel would cut off the cleanup that the first one began."""
        if self._told_at is None:
            self._told_at = asyncio.get_running_loop().time()
        for task in self._tasks.values():
            if not task.cancelling():
                task.cancel()

    async def cancel(self) -> None:
        """Cancels what runs and returns when its code has stopped."""
        self._planned = []
        tasks = list(self._tasks.values())
        self.cancel_soon()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks = {}

    def context(self, work: BoundNode, slot: NodeRecord) -> tuple[RunNodeContext, NodeReporter]:
        info, node_id = self.info, work.spec.id
        report = NodeReporter(info, node_id, slot.visits, self.memory, self.journal)
        scope = scope_of(info.id, info.inputs, self.memory.slots, work.names, info.names)
        context = RunNodeContext(info, node_id, slot.visits, scope, self.resources, report, self._given_up, work.types)
        return context, report

    async def _run(self, node: PlanNode, slot: NodeRecord) -> None:
        work = self.works[node.id]
        context, report = self.context(work, slot)
        result = await attempt(work, context, report.retrying, report.again)
        self._results.append((node, slot, result, context))
        del self._tasks[node.id]
        self.wake.set()
        if self.on_result is not None:
            self.on_result()
