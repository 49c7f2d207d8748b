"""One node's turn in a wave: run it now, launch it, or skip it; and what its result means for the edges out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from langgraph.constants import TASKS
from langgraph.types import Send

from engine.events import RunError
from engine.expressions import evaluator
from engine.graph.channels import NODE_RECORDS, NodeRecord, Signal, Write
from engine.graph.compiler import CompiledGraph
from engine.graph.plan import PlanEdge, PlanNode, Round
from engine.graph.routing import close_loop, settle_edges, taken_edges
from engine.runtime.attempts import Result, attempt, null_after_failure
from engine.runtime.node_context import scope_of
from engine.runtime.ports import OpenWait
from engine.runtime.run_info import RunInfo, StopReason
from engine.runtime.run_state import RunState
from engine.runtime.waits import Waits
from engine.sdk.node import ERROR_PORT, Output, WaitForAnswer, WaitForRun, WaitUntil
from engine.spec.model import OnError
from engine.states import NodeStatus, WaitKind
from engine.types import JSON

if TYPE_CHECKING:
    from engine.runtime.stop import StopControl
    from engine.runtime.task_runner import TaskRunner


@dataclass(slots=True)
class NodeScheduler:
    """Takes turns for one run."""

    info: RunInfo
    compiled: CompiledGraph
    memory: RunState
    launcher: "TaskRunner"
    waits: Waits
    stopping: "StopControl"
    breakpoints: frozenset[str]

    def begin(self) -> Sequence[Write]:
        """The writes that start a run: the edges of `__start__`, some of which may have a condition."""
        skipped: dict[str, NodeRecord] = {}
        starts = self.compiled.plan.starts
        try:
            taken = taken_edges(starts, None, lambda edge: evaluator.truthy(edge.condition or "", self.scope(())))
        except evaluator.ExpressionError as wrong:
            self.stopping.fail(RunError("EXPRESSION", f"the condition of an edge out of __start__: {wrong}"))
            return ()
        writes = settle_edges(
            self.compiled.plan, starts, (), taken, lambda n, r: skipped.update(self.memory.skip(n.id, r))
        )
        return [(NODE_RECORDS, skipped), *writes]

    async def turn(self, node: PlanNode, signal: Signal | None, again: Signal | None) -> Sequence[Write]:
        """Called back by the graph: `signal` came by the node's forward edges, `again` by those that lead back to it."""
        if again is not None and not again.live:
            return close_loop(self.compiled.plan, node, again.round)
        if again is not None:
            round_, live = (*again.round[:-1], again.round[-1] + 1), True
        elif signal is not None:
            round_, live = signal.round if signal.held else node.first_round(signal.round), signal.live
        else:
            return ()
        if not live:
            return self.skip(node, round_)
        if node.id in self.breakpoints and not (signal and signal.held):
            self.stopping.request(StopReason.BREAK)
            return [(TASKS, Send(node.id, Signal(round_, True, held=True)))]
        return await self.take(node, round_)

    async def take(self, node: PlanNode, round_: Round) -> Sequence[Write]:
        before = self.memory.slots.get(node.id)
        visits = before.visits + 1 if before else 1
        if visits > node.spec.max_visits:
            return self._loop_limit(node, visits - 1)
        slot = NodeRecord(NodeStatus.RUNNING, visits, round_, before.output if before else None)
        work = self.compiled.works[node.id]
        if not work.is_inline:
            self.launcher.plan(node, slot)
            return [(NODE_RECORDS, self.memory.set_slot(node.id, slot))]
        context, report = self.launcher.context(work, slot)
        result = await attempt(work, context, report.retrying, report.again)
        return self.settle(node, slot, result, context.noted_input)

    def skip(self, node: PlanNode, round_: Round) -> Sequence[Write]:
        skipped: dict[str, NodeRecord] = self.memory.skip(node.id, round_)
        writes = settle_edges(
            self.compiled.plan, node.out, round_, (), lambda n, r: skipped.update(self.memory.skip(n.id, r))
        )
        return [(NODE_RECORDS, skipped), *writes]

    def results(self) -> list[Write]:
        """What launched nodes have answered, and which waits are over; of these none where the run is to stop."""
        writes = [
            write
            for node, slot, result, context in self.launcher.results()
            for write in self.settle(node, slot, result, context.noted_input)
        ]
        if not self.stopping.is_asked:
            writes += [write for wait, end in self.waits.over() for write in self.end_wait(wait, end)]
        return writes

    def settle(self, node: PlanNode, slot: NodeRecord, result: Result, given: JSON = None) -> Sequence[Write]:
        """Records how a node ended and follows its edges; a failure that nothing handles ends the run instead."""
        if isinstance(result.outcome, WaitUntil | WaitForAnswer | WaitForRun):
            return self._begin_wait(node, slot, result, result.outcome, given)
        output, port, error = _meaning(node, result)
        status = NodeStatus.FAILED if error else NodeStatus.COMPLETED
        settled = NodeRecord(status, slot.visits, slot.round, output)
        changed = self.memory.set_slot(node.id, settled)
        self._note(node, slot, result, output, error, given)
        if error is not None and node.spec.on_error is OnError.FAIL:
            self.stopping.fail(error)
            return [(NODE_RECORDS, changed)]
        try:
            taken = taken_edges(node.out, port, lambda edge: self._holds(node, edge))
        except evaluator.ExpressionError as wrong:
            self.stopping.fail(RunError("EXPRESSION", f"the condition of an edge out of {node.id!r}: {wrong}", node.id))
            return [(NODE_RECORDS, changed)]
        writes = settle_edges(
            self.compiled.plan, node.out, slot.round, taken, lambda n, r: changed.update(self.memory.skip(n.id, r))
        )
        return [(NODE_RECORDS, changed), *writes]

    def _begin_wait(
        self,
        node: PlanNode,
        slot: NodeRecord,
        result: Result,
        outcome: WaitUntil | WaitForAnswer | WaitForRun,
        given: JSON,
    ) -> Sequence[Write]:
        """The node settles when its wait is over; until then it holds up what follows it and nothing else."""
        wait = self.waits.open(node.id, slot.visits, outcome, given)
        message = _waits_for(wait)
        state = self.memory.evolve(
            node.id,
            status=NodeStatus.WAITING,
            visits=slot.visits,
            attempt=result.attempts,
            input=given,
            message=message,
            started_at=result.started_at,
        )
        self.memory.note(state, result.ended_at)
        return [(NODE_RECORDS, self.memory.set_slot(node.id, slot.evolve(status=NodeStatus.WAITING)))]

    def end_wait(self, wait: OpenWait, end: Output | RunError) -> Sequence[Write]:
        """A wait is over: its node ends with `end`."""
        output, error = (None, end) if isinstance(end, RunError) else (end, None)
        result = Result(output, error, 1, wait.since, datetime.now(UTC))
        self.memory.evolve(wait.node_id, message=None)
        return self.settle(self.compiled.plan.nodes[wait.node_id], self.memory.slots[wait.node_id], result, wait.prompt)

    def interrupt_running(self) -> None:
        """What was still running when the run paused: it is launched again on resume."""
        for node_id in self.memory.running:
            message = "Interrupted by the pause; runs again on resume"
            self.memory.note(self.memory.evolve(node_id, status=NodeStatus.IDLE, message=message))

    def tell_usage(self) -> None:
        """What was still running when the run was handed back has taken its share: whoever takes it up adds to it."""
        for node_id in self.memory.running:
            state = self.memory.state(node_id)
            if state.usage is not None:
                self.memory.note(state)

    def cancel_running(self) -> None:
        """What was still running or waiting when the run stopped: cancelled, its partial output kept."""
        for node_id in [*self.memory.running, *self.memory.waiting]:
            slot = self.memory.slots[node_id]
            self.memory.set_slot(node_id, slot.evolve(status=NodeStatus.CANCELLED))
            self.memory.note(self.memory.evolve(node_id, status=NodeStatus.CANCELLED, visits=slot.visits))

    def _note(
        self, node: PlanNode, slot: NodeRecord, result: Result, output: JSON, error: RunError | None, given: JSON
    ) -> None:
        state = self.memory.evolve(
            node.id,
            status=NodeStatus.FAILED if error else NodeStatus.COMPLETED,
            visits=slot.visits,
            attempt=result.attempts,
            message=None,
            progress=1.0,
            input=given,
            output=output,
            has_output=True,
            error=error,
            started_at=result.started_at,
            completed_at=result.ended_at,
        )
        self.memory.note(state, result.ended_at)

    def _loop_limit(self, node: PlanNode, visits: int) -> Sequence[Write]:
        message = f"node {node.id!r} has run {visits} times; its maxVisits is {node.spec.max_visits}"
        self.stopping.fail(RunError("LOOP_LIMIT", message, node.id))
        return ()

    def _holds(self, node: PlanNode, edge: PlanEdge) -> bool:
        return evaluator.truthy(edge.condition or "", self.scope((*self.compiled.works[node.id].names, node.id)))

    def scope(self, names: Sequence[str]) -> dict[str, Any]:
        return scope_of(self.info.id, self.info.inputs, self.memory.slots, names, self.info.names)


def _waits_for(wait: OpenWait) -> str:
    if wait.kind is WaitKind.INPUT:
        return "waits for an answer"
    if wait.kind is WaitKind.RUN:
        return f"waits for run {wait.child_run_id}"
    return f"until {wait.until:%Y-%m-%dT%H:%M:%SZ}"


def _meaning(node: PlanNode, result: Result) -> tuple[JSON, str | None, RunError | None]:
    """Output, port and error of a node, as its `onError` reads the result."""
    if result.error is None:
        assert isinstance(result.outcome, Output)
        return result.outcome.value, result.outcome.port, None
    if node.spec.on_error is OnError.BRANCH:
        return null_after_failure(result.error), ERROR_PORT, result.error
    return None, None, result.error
