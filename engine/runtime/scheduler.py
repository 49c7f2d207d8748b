"""The callbacks of the graph for one run: run, start or skip a due node, and route its result.

The scheduler changes only the state in memory and returns channel writes. The executor commits
both together, so a crash between them is not possible.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, assert_never

from langgraph.constants import TASKS
from langgraph.types import Send

from engine.events import RunError
from engine.expressions import evaluator
from engine.graph.channels import NODE_RECORDS, NodeRecord, Signal, Write
from engine.graph.compiler import CompiledGraph
from engine.graph.plan import PlanEdge, PlanNode, Round
from engine.graph.routing import close_loop, settle_edges, taken_edges
from engine.runtime.attempts import NodeResult, error_output, run_attempts
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
    """Implements engine.graph.compiler.GraphCallbacks for one claimed run."""

    info: RunInfo
    compiled: CompiledGraph
    state: RunState
    tasks: "TaskRunner"
    waits: Waits
    stop: "StopControl"
    breakpoints: frozenset[str]

    def start(self) -> Sequence[Write]:
        """Start the run: settle the edges of `__start__`, which may have conditions."""
        changed: dict[str, NodeRecord] = {}
        starts = self.compiled.plan.starts
        try:
            taken = taken_edges(starts, None, lambda edge: evaluator.truthy(edge.condition or "", self._scope(())))
        except evaluator.ExpressionError as error:
            self.stop.fail(RunError("EXPRESSION", f"the condition of an edge out of __start__: {error}"))
            return ()
        writes = self._settle_edges(starts, (), taken, changed)
        return [(NODE_RECORDS, changed), *writes]

    async def run_node(self, node: PlanNode, entry: Signal | None, back: Signal | None) -> Sequence[Write]:
        """Run, start or skip a node that is due; see GraphCallbacks.run_node.

        At a breakpoint the node is sent to itself as `held`, and the run pauses before it.
        """
        if back is not None and not back.live:
            return close_loop(self.compiled.plan, node, back.round)
        if back is not None:
            round_, is_live = (*back.round[:-1], back.round[-1] + 1), True
        elif entry is not None:
            round_, is_live = entry.round if entry.held else node.first_round(entry.round), entry.live
        else:
            return ()
        if not is_live:
            return self._skip(node, round_)
        if node.id in self.breakpoints and not (entry and entry.held):
            self.stop.request(StopReason.BREAK)
            return [(TASKS, Send(node.id, Signal(round_, True, held=True)))]
        return await self._begin_visit(node, round_)

    async def _begin_visit(self, node: PlanNode, round_: Round) -> Sequence[Write]:
        """Run an inline node to its end, or schedule a task for any other node."""
        before = self.state.records.get(node.id)
        visits = before.visits + 1 if before else 1
        if visits > node.spec.max_visits:
            message = f"node {node.id!r} has run {visits - 1} times; its maxVisits is {node.spec.max_visits}"
            self.stop.fail(RunError("LOOP_LIMIT", message, node.id))
            return ()
        record = NodeRecord(NodeStatus.RUNNING, visits, round_, before.output if before else None)
        bound_node = self.compiled.bound_nodes[node.id]
        if not bound_node.is_inline:
            self.tasks.schedule(node, record)
            return [(NODE_RECORDS, self.state.set_record(node.id, record))]
        context, reporter = self.tasks.new_context(bound_node, record)
        result = await run_attempts(bound_node, context, reporter.attempt_failed, reporter.attempt_started)
        return self._settle(node, record, result, context.noted_input)

    def _skip(self, node: PlanNode, round_: Round) -> Sequence[Write]:
        changed = self.state.skip(node.id, round_)
        writes = self._settle_edges(node.out, round_, (), changed)
        return [(NODE_RECORDS, changed), *writes]

    def take_results(self) -> list[Write]:
        """Settle the nodes whose tasks or waits have ended, and return the writes for the graph.

        Waits are left open if the run is to stop: they end after the next claim.
        """
        writes = [write for ended in self.tasks.take_results() for write in self._settle(*ended)]
        if not self.stop.is_requested:
            writes += [write for wait, end in self.waits.take_ended() for write in self._end_wait(wait, end)]
        return writes

    def _settle(
        self, node: PlanNode, record: NodeRecord, result: NodeResult, node_input: JSON = None
    ) -> Sequence[Write]:
        """Record the end of a visit and settle its edges.

        A failure that nothing handles ends the run instead.
        """
        if isinstance(result.outcome, WaitUntil | WaitForAnswer | WaitForRun):
            return self._begin_wait(node, record, result, result.outcome, node_input)
        output, port, error = _interpret(node, result)
        status = NodeStatus.FAILED if error else NodeStatus.COMPLETED
        changed = self.state.set_record(node.id, NodeRecord(status, record.visits, record.round, output))
        self._record_end(node, record, result, output, error, node_input)
        if error is not None and node.spec.on_error is OnError.FAIL:
            self.stop.fail(error)
            return [(NODE_RECORDS, changed)]
        try:
            taken = taken_edges(node.out, port, lambda edge: self._holds(node, edge))
        except evaluator.ExpressionError as problem:
            self.stop.fail(RunError("EXPRESSION", f"the condition of an edge out of {node.id!r}: {problem}", node.id))
            return [(NODE_RECORDS, changed)]
        writes = self._settle_edges(node.out, record.round, taken, changed)
        return [(NODE_RECORDS, changed), *writes]

    def _settle_edges(
        self, out: Sequence[PlanEdge], round_: Round, taken: Collection[int], changed: dict[str, NodeRecord]
    ) -> list[Write]:
        """Settle edges, and add the records of the nodes that are skipped at once to `changed`."""

        def skip(node: PlanNode, node_round: Round) -> None:
            changed.update(self.state.skip(node.id, node_round))

        return settle_edges(self.compiled.plan, out, round_, taken, skip)

    def _begin_wait(
        self,
        node: PlanNode,
        record: NodeRecord,
        result: NodeResult,
        outcome: WaitUntil | WaitForAnswer | WaitForRun,
        node_input: JSON,
    ) -> Sequence[Write]:
        """Open a wait. The node settles when it ends, and delays only the nodes behind it."""
        wait = self.waits.open(node.id, record.visits, outcome, node_input)
        state = self.state.evolve(
            node.id,
            status=NodeStatus.WAITING,
            visits=record.visits,
            attempt=result.attempts,
            input=node_input,
            message=_wait_message(wait),
            started_at=result.started_at,
        )
        self.state.add_change(state, result.ended_at)
        return [(NODE_RECORDS, self.state.set_record(node.id, record.evolve(status=NodeStatus.WAITING)))]

    def _end_wait(self, wait: OpenWait, end: Output | RunError) -> Sequence[Write]:
        output, error = (None, end) if isinstance(end, RunError) else (end, None)
        result = NodeResult(output, error, 1, wait.since, datetime.now(UTC))
        self.state.evolve(wait.node_id, message=None)
        record = self.state.records[wait.node_id]
        return self._settle(self.compiled.plan.nodes[wait.node_id], record, result, wait.prompt)

    def interrupt_running(self) -> None:
        """Set the nodes that ran when the run paused to IDLE. A resume starts them again."""
        for node_id in self.state.running_nodes:
            message = "Interrupted by the pause; runs again on resume"
            self.state.add_change(self.state.evolve(node_id, status=NodeStatus.IDLE, message=message))

    def record_usage(self) -> None:
        """Commit the usage of the nodes that were still running when the run is released.

        The next claim repeats their visits and adds to it.
        """
        for node_id in self.state.running_nodes:
            state = self.state.node_state(node_id)
            if state.usage is not None:
                self.state.add_change(state)

    def cancel_unfinished(self) -> None:
        """Set the nodes that ran or waited when the run ended to CANCELLED.

        Their partial output stays.
        """
        for node_id in [*self.state.running_nodes, *self.state.waiting_nodes]:
            record = self.state.records[node_id]
            self.state.set_record(node_id, record.evolve(status=NodeStatus.CANCELLED))
            self.state.add_change(self.state.evolve(node_id, status=NodeStatus.CANCELLED, visits=record.visits))

    def _record_end(
        self,
        node: PlanNode,
        record: NodeRecord,
        result: NodeResult,
        output: JSON,
        error: RunError | None,
        node_input: JSON,
    ) -> None:
        state = self.state.evolve(
            node.id,
            status=NodeStatus.FAILED if error else NodeStatus.COMPLETED,
            visits=record.visits,
            attempt=result.attempts,
            message=None,
            progress=1.0,
            input=node_input,
            output=output,
            has_output=True,
            error=error,
            started_at=result.started_at,
            completed_at=result.ended_at,
        )
        self.state.add_change(state, result.ended_at)

    def _holds(self, node: PlanNode, edge: PlanEdge) -> bool:
        names = (*self.compiled.bound_nodes[node.id].names, node.id)
        return evaluator.truthy(edge.condition or "", self._scope(names))

    def _scope(self, names: Sequence[str]) -> Mapping[str, Any]:
        return scope_of(self.info.id, self.info.inputs, self.state.records, names, self.info.outer_names)


def _wait_message(wait: OpenWait) -> str:
    match wait.kind:
        case WaitKind.INPUT:
            return "waits for an answer"
        case WaitKind.RUN:
            return f"waits for run {wait.child_run_id}"
        case WaitKind.TIMER:
            return f"until {wait.until:%Y-%m-%dT%H:%M:%SZ}"
        case _:
            assert_never(wait.kind)


def _interpret(node: PlanNode, result: NodeResult) -> tuple[JSON, str | None, RunError | None]:
    """Return the output, the port and the error of a visit, as `onError` of the node demands."""
    if result.error is None:
        assert isinstance(result.outcome, Output)
        return result.outcome.value, result.outcome.port, None
    if node.spec.on_error is OnError.BRANCH:
        return error_output(result.error), ERROR_PORT, result.error
    return None, None, result.error
