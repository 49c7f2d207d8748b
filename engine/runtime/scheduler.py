"""The callbacks of the graph for one run: run or start a due node, and settle it by its result.

The scheduler changes only the state and the position in memory and returns the Sends of the nodes
that are due. The executor commits them together, so a crash between them is not possible.
"""

from collections import ChainMap, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from langgraph.constants import TASKS
from langgraph.types import Send

from engine.errors import NodeInterrupted
from engine.events import SUPERFLUOUS, EdgeVisits, NodeState, RunError
from engine.expressions import evaluator
from engine.graph.channels import NodeRecord, Signal, Write
from engine.graph.compiler import CompiledGraph
from engine.graph.edge_states import edges_after
from engine.graph.plan import PlanEdge, PlanNode, Round
from engine.graph.position import Position, Progress
from engine.graph.routing import taken_edges
from engine.isolation.loop_share import loop_share
from engine.isolation.suspension import suspendable
from engine.runtime.attempts import NodeResult, interpret, run_attempt
from engine.runtime.node_context import scope_of
from engine.runtime.ports import AppendedMessage, OpenWait
from engine.runtime.run_info import RunInfo, StopReason
from engine.runtime.run_state import RunState
from engine.runtime.stretches import StepRecorder, StretchLimit
from engine.runtime.waits import Waits, message_of
from engine.sdk.node import Output, ThreadMessage, Wait
from engine.spec.model import OnError
from engine.states import NodeStatus, WaitKind
from engine.types import JSON

if TYPE_CHECKING:
    from engine.runtime.stop import StopControl
    from engine.runtime.task_runner import TaskResult, TaskRunner


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
    position: Position
    steps: StepRecorder
    _cancelled_for: dict[str, str] = field(default_factory=dict)
    """The nodes that were cancelled because of a join, with the join."""

    async def start(self) -> Sequence[Write]:
        """Start the run: settle the edges of `__start__`, which may have conditions."""
        return await suspendable(self._start())

    async def _start(self) -> Sequence[Write]:
        starts = self.compiled.plan.starts
        try:
            taken = taken_edges(starts, None, lambda edge: evaluator.truthy(edge.condition or "", self._scope(())))
        except evaluator.ExpressionError as error:
            self.stop.fail(RunError("EXPRESSION", f"the condition of an edge out of __start__: {error}"))
            return ()
        return await self._run_stretch(self._advance(self.position.begin(taken)))

    def deliver(self, edge: int, round_: Round, taken: bool) -> Sequence[Write]:
        """Settle an edge that an older release has stored on top of the head."""
        return self._advance(self.position.deliver(edge, round_, taken))

    def wake(self) -> Sequence[Write]:
        """Start what the restored position makes due; see Position.wake."""
        return [*self._advance(self.position.wake()), *self._cancel_superfluous()]

    async def run_node(self, node: PlanNode, signal: Signal) -> Sequence[Write]:
        """Run or start a node that is due; see GraphCallbacks.run_node.

        At a breakpoint the node is sent to itself as `held`, and the run pauses before it. A step
        begins where the run has paused, so it does not stop before the same nodes again.
        """
        round_ = signal.round_of(node)
        is_passed = signal.held or (self.info.is_step and self.info.resumed_step >= 0)
        if node.id in self.breakpoints and not is_passed:
            self.stop.request(StopReason.BREAK)
            return [(TASKS, Send(node.id, Signal(round_, held=True)))]
        # LangGraph starts all due nodes at once, in one pass of the event loop.
        await loop_share().turn()
        return await suspendable(self._run_from(node, round_))

    async def _run_from(self, node: PlanNode, round_: Round) -> Sequence[Write]:
        return await self._run_stretch(await self._begin_visit(node, round_))

    async def _run_stretch(self, due: Sequence[Write]) -> Sequence[Write]:
        """Run the nodes that are due, and those that follow: a stretch.

        Inline nodes are pure, so they need neither a superstep nor a commit each. A stop request,
        a breakpoint and a single step end the stretch between two nodes.

        Returns:
            The Sends of the nodes that the next superstep runs.
        """
        pending, limit = deque(due), StretchLimit()
        while pending and self._may_continue(limit):
            self.steps.end_step()
            _, send = pending.popleft()
            pending += await self._begin_visit(self.compiled.plan.nodes[send.node], send.arg.round)
            await limit.count_visit()
        return list(pending)

    def _may_continue(self, limit: StretchLimit) -> bool:
        if self.info.is_step or self.breakpoints or self.stop.is_requested:
            return False
        # A task starts when the stretch is committed.
        return not limit.is_reached and not (limit.has_yielded and self.tasks.has_scheduled)

    async def _begin_visit(self, node: PlanNode, round_: Round) -> Sequence[Write]:
        """Run an inline node to its end, or schedule a task for any other node."""
        before = self.state.records.get(node.id)
        if self.compiled.liveness.cancels_others:
            join_id = self.compiled.liveness.cancelling_join(self.position, node.id)
            if join_id is not None:
                self.steps.begin_visit(node.id)
                return self._cancel_due(node.id, before or NodeRecord(NodeStatus.IDLE), round_, join_id)
        visits = before.visits + 1 if before else 1
        if visits > node.spec.max_visits:
            message = f"node {node.id!r} has run {visits - 1} times; its maxVisits is {node.spec.max_visits}"
            self.steps.begin_visit(node.id)
            self.stop.fail(RunError("LOOP_LIMIT", message, node.id))
            return ()
        record = NodeRecord(NodeStatus.RUNNING, visits, round_, before.output if before else None)
        bound_node = self.compiled.bound_nodes[node.id]
        if not bound_node.is_inline:
            self.steps.begin_visit(node.id)
            self.tasks.schedule(node, record)
            self.state.set_record(node.id, record)
            return ()
        context = self.tasks.new_context(bound_node, record)
        try:
            result = await run_attempt(bound_node, context)
            return self._settle(node, record, result, context.noted_input)
        except NodeInterrupted:
            # The run stops during a wait for a helper. Nothing has changed: the node stays due.
            return [(TASKS, Send(node.id, Signal(round_)))]

    async def settle_results(self) -> Sequence[Write]:
        """Settle the nodes whose tasks or waits have ended, and run the stretch that they make due.

        Returns:
            The Sends of the nodes that the next superstep runs.
        """
        return await suspendable(self._settle_results())

    async def _settle_results(self) -> Sequence[Write]:
        return await self._run_stretch(self._take_results())

    def _take_results(self) -> list[Write]:
        """Settle the nodes whose tasks or waits have ended, and return Sends of the nodes now due.

        Waits are left open if the run is to stop: they end after the next claim.
        """
        writes = list[Write]()
        for ended in self.tasks.take_results():
            with suppress(NodeInterrupted):  # The run ends, and this node is cancelled with it.
                writes += self._end_task(ended)
        if self.stop.ends_backoffs:
            for wait in self.waits.take_ended_backoffs():
                self.tasks.retry(self.compiled.plan.nodes[wait.node_id])
        if not self.stop.is_requested:
            for wait, end in self.waits.take_ended():
                with suppress(NodeInterrupted):
                    writes += self._end_wait(wait, end)
        return writes

    def _end_task(self, ended: "TaskResult") -> Sequence[Write]:
        if ended.result is not None:
            return self._settle(ended.node, ended.record, ended.result, ended.node_input)
        node_id = ended.node.id
        return self._set_cancelled(self.state.node_state(node_id, input=ended.node_input), self._cancelled_for[node_id])

    def _settle(
        self, node: PlanNode, record: NodeRecord, result: NodeResult, node_input: JSON = None
    ) -> Sequence[Write]:
        """Record the end of a visit and settle its edges.

        A failure that nothing handles ends the run instead. The conditions are evaluated before
        anything changes, because this may suspend the task: a checkpoint that another branch makes
        meanwhile has the node as due or as running.
        """
        if isinstance(result.outcome, Wait):
            self.steps.begin_visit(node.id)
            return self._begin_wait(node, record, result, result.outcome, node_input)
        if result.error is not None and result.backoff_s is not None:
            self.steps.begin_visit(node.id)
            return self._begin_backoff(node, record, result, result.error, result.backoff_s)
        output, port, error = interpret(result, node.spec.on_error)
        status = NodeStatus.FAILED if error else NodeStatus.COMPLETED
        ended = NodeRecord(status, record.visits, record.round, output)
        taken = self._taken_edges(node, ended, port, error)
        self.steps.begin_visit(node.id)
        self.state.set_record(node.id, ended)
        if isinstance(result.outcome, Output) and result.outcome.messages:
            self._append(node.id, record.visits, result.outcome.messages)
        edges = self._edges_after(node, record, port, set() if taken is None else taken)
        self._record_end(node, record, result, output, error, node_input, port, edges)
        if taken is None:
            return ()
        return [*self._advance(self.position.settle(node.id, taken)), *self._cancel_superfluous()]

    def _append(self, node_id: str, visit: int, messages: Sequence[ThreadMessage]) -> None:
        """Append messages to the thread of the run in the next commit, which stores the result as well."""
        if (key := self.info.thread_key) is not None:
            self.state.messages += [AppendedMessage(key, node_id, visit, message) for message in messages]

    def _taken_edges(
        self, node: PlanNode, record: NodeRecord, port: str | None, error: RunError | None
    ) -> set[int] | None:
        """Return the edges by which a node leaves; None if the run ends instead, because it fails."""
        if error is not None and node.spec.on_error is OnError.FAIL:
            self.stop.fail(error)
            return None
        try:
            return taken_edges(node.out, port, lambda edge: self._holds(node, record, edge))
        except evaluator.ExpressionError as problem:
            self.stop.fail(RunError("EXPRESSION", f"the condition of an edge out of {node.id!r}: {problem}", node.id))
            return None

    def _edges_after(
        self, node: PlanNode, record: NodeRecord, port: str | None, taken: set[int]
    ) -> tuple[EdgeVisits, ...] | None:
        """Return what the state of the node stores about its edges; see engine.graph.edge_states."""
        earlier = None if record.visits == 1 else self.state.earlier_edges(node.id)
        return edges_after(node.out, earlier, record.visits, port, taken)

    def _advance(self, progress: Progress) -> Sequence[Write]:
        """Skip and restore nodes as the position has decided. Return Sends of the due nodes."""
        restored = set(progress.restored)
        for node_id, round_ in progress.skipped:
            self.state.skip(node_id, round_, has_event=node_id not in restored)
        for node_id in progress.restored:
            self.state.unskip(node_id)
        self.steps.settle(progress.due)
        return [(TASKS, Send(node_id, Signal(round_))) for node_id, round_ in progress.due]

    def _begin_wait(
        self,
        node: PlanNode,
        record: NodeRecord,
        result: NodeResult,
        outcome: Wait,
        node_input: JSON,
    ) -> Sequence[Write]:
        """Open a wait. The node settles when it ends, and delays only the nodes behind it."""
        wait = self.waits.open(node.id, record.visits, outcome, node_input)
        state = self.state.visit_state(
            node.id,
            record.visits,
            result.started_at,
            status=NodeStatus.WAITING,
            attempt=result.attempts,
            input=node_input,
            message=message_of(wait),
        )
        self.state.add_change(state, result.ended_at)
        self.state.set_record(node.id, record.evolve(status=NodeStatus.WAITING))
        return self._cancel_superfluous()

    def _begin_backoff(
        self, node: PlanNode, record: NodeRecord, result: NodeResult, error: RunError, pause_s: float
    ) -> Sequence[Write]:
        """Open the wait for the next attempt. Its number and its time are durable with the failure."""
        self.waits.open_backoff(node.id, record.visits, pause_s)
        message = f"attempt {result.attempts} failed: {error.message}; the next begins in {pause_s:g} s"
        changes = {"status": NodeStatus.RETRYING, "attempt": result.attempts, "error": error, "message": message}
        state = self.state.visit_state(node.id, record.visits, result.started_at, **changes)
        self.state.add_change(state, result.ended_at)
        self.state.set_record(node.id, record.evolve(status=NodeStatus.RETRYING))
        return ()

    def _end_wait(self, wait: OpenWait, end: Output | RunError) -> Sequence[Write]:
        output, error = (None, end) if isinstance(end, RunError) else (end, None)
        result = NodeResult(output, error, 1, wait.since, datetime.now(UTC))
        self.state.evolve(wait.node_id, message=None)
        record = self.state.records[wait.node_id]
        return self._settle(self.compiled.plan.nodes[wait.node_id], record, result, wait.prompt)

    def _cancel_superfluous(self) -> list[Write]:
        """Cancel the nodes that have no effect any more, because a `join: any` has fired.

        The code of a running one is cancelled here, and the node when its code has stopped.
        """
        liveness, writes = self.compiled.liveness, list[Write]()
        if not self.waits and not liveness.cancels_others:
            return writes
        while superfluous := liveness.find_superfluous(
            self.position, self.waits.quiet, self._running_nodes() if liveness.cancels_others else ()
        ):
            for node_id, join_id in superfluous:
                self._cancelled_for[node_id] = join_id
                if not self.tasks.cancel_node(node_id):
                    writes += self._cancel_stopped(node_id, join_id)
        return writes

    def _running_nodes(self) -> list[str]:
        """Return the nodes that run, or wait for a child run or an attempt, and are not cancelled yet."""
        ending = self.tasks.ending_nodes
        return [*(name for name in self.state.running_nodes if name not in ending), *self.waits.busy]

    def _cancel_stopped(self, node_id: str, join_id: str) -> Sequence[Write]:
        """Cancel a node that waits, or whose code has not started."""
        wait, record = self.waits.cancel(node_id), self.state.records[node_id]
        state = self.state.node_state(node_id, visits=record.visits)
        if wait is not None and wait.kind is not WaitKind.RETRY:
            state = replace(state, attempt=1, input=wait.prompt, started_at=state.started_at or wait.since)
        return self._set_cancelled(state, join_id)

    def _cancel_due(self, node_id: str, before: NodeRecord, round_: Round, join_id: str) -> Sequence[Write]:
        """Cancel a node instead of starting it. `before` is its record."""
        self.state.set_record(node_id, before.evolve(status=NodeStatus.CANCELLED, round=round_, visited=None))
        edges = self.state.earlier_edges(node_id)
        return self._set_cancelled(NodeState(self.info.id, node_id, visits=before.visits, edges=edges), join_id)

    def _set_cancelled(self, state: NodeState, join_id: str) -> Sequence[Write]:
        """Set a node to CANCELLED, and settle its edges as not taken."""
        message = f"Cancelled: {join_id!r} {SUPERFLUOUS}"
        now = datetime.now(UTC)
        self.state.add_change(replace(state, status=NodeStatus.CANCELLED, message=message, completed_at=now), now)
        record = self.state.records[state.node_id]
        self.state.set_record(state.node_id, record.evolve(status=NodeStatus.CANCELLED))
        return self._advance(self.position.cancel(state.node_id))

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

    def cancel_unfinished(self, *, with_idle: bool) -> None:
        """Set the nodes that ran or waited when the run ended to CANCELLED.

        Their partial output stays. With `with_idle`, the nodes that have not started are CANCELLED
        as well; they have no record, so a retry of the run starts them.
        """
        now = datetime.now(UTC)
        for node_id in [*self.state.running_nodes, *self.state.retrying_nodes, *self.state.waiting_nodes]:
            record = self.state.records[node_id]
            self.state.set_record(node_id, record.evolve(status=NodeStatus.CANCELLED))
            state = self.state.node_state(node_id, visits=record.visits)
            cancelled = replace(state, status=NodeStatus.CANCELLED, completed_at=now)
            self.state.add_change(cancelled, now, ends_run=True)
        for node_id in self.compiled.plan.nodes if with_idle else ():
            if node_id not in self.state.records:
                cancelled = NodeState(self.info.id, node_id, NodeStatus.CANCELLED, completed_at=now)
                self.state.add_change(cancelled, now, ends_run=True)

    def _record_end(
        self,
        node: PlanNode,
        record: NodeRecord,
        result: NodeResult,
        output: JSON,
        error: RunError | None,
        node_input: JSON,
        port: str | None,
        edges: tuple[EdgeVisits, ...] | None,
    ) -> None:
        before = self.state.begun_visit(node.id, record.visits)
        failed_progress = 0.0 if before is None else before.progress
        ended = self.state.visit_state(
            node.id,
            record.visits,
            result.started_at,
            status=NodeStatus.FAILED if error else NodeStatus.COMPLETED,
            attempt=result.attempts,
            message=None,
            progress=failed_progress if error else 1.0,
            input=node_input,
            output=output,
            has_output=True,
            error=error,
            completed_at=result.ended_at,
            port=port,
            edges=edges,
        )
        ends_run = error is not None and node.spec.on_error is OnError.FAIL
        self.state.add_change(ended, result.ended_at, ends_run=ends_run)

    def _holds(self, node: PlanNode, record: NodeRecord, edge: PlanEdge) -> bool:
        names = (*self.compiled.bound_nodes[node.id].names, node.id)
        records = ChainMap({node.id: record}, self.state.records)
        return evaluator.truthy(edge.condition or "", self._scope(names, records))

    def _scope(self, names: Sequence[str], records: Mapping[str, NodeRecord] | None = None) -> Mapping[str, Any]:
        known = self.state.records if records is None else records
        return scope_of(self.info.id, self.info.inputs, known, names, self.info.outer_names)
