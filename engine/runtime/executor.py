"""Execute one claimed run until it is terminal, PAUSED, WAITING or released to the queue.

The first stretch of a run and the stretch after the result of a task or a wait are executed here
(engine.runtime.stretches). What is due after them, LangGraph runs in supersteps (Pregel, Malewicz et al.
2010), each with the stretch that follows. Tasks run beside them.
The position of the run (engine.graph.position) decides which nodes are due. A crash at any line
loses only what the journal has not committed: the head checkpoint says which tasks were running,
and the next claim starts those again. Every entry that changes the state has a checkpoint with
everything that has finished, also outside of supersteps. The events, outputs and checkpoint of a
superstep are one entry, together with the results that started it, and tasks scheduled in a
superstep start only after that commit. Every entry carries the epoch of the claim as a fencing
token (Chubby, Burrows 2006), so a worker that lost its lease writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from langgraph.errors import GraphDrained

from engine.errors import NodeInterrupted
from engine.graph.channels import NODE_RECORDS, NodeRecord
from engine.graph.compiler import CompiledGraph
from engine.graph.position import Position
from engine.isolation import suspension
from engine.isolation.turns import Owner, working_for
from engine.runtime.commit_buffer import CommitBuffer
from engine.runtime.outcome import RunOutcome
from engine.runtime.ports import CheckpointRecord, CheckpointStep, HeadStore, Journal, OpenWait, ResumeState, RunChange
from engine.runtime.run_info import RunInfo, StopReason
from engine.runtime.run_state import RunState
from engine.runtime.scheduler import NodeScheduler
from engine.runtime.stop import StopControl
from engine.runtime.stretches import StepRecorder
from engine.runtime.task_runner import TaskRunner
from engine.runtime.waits import Waits
from engine.states import IN_PROGRESS, RunStatus

PATIENCE_S = 5.0
"""A timer that ends within this many seconds is awaited in the process. For a later one the run
becomes WAITING and its worker is free.
"""


class RunExecutor:
    """The execution of one run under one claim. `final_status` is the status at its end."""

    def __init__(
        self,
        info: RunInfo,
        compiled: CompiledGraph,
        *,
        journal: Journal,
        head: HeadStore,
        resources: Mapping[str, Any],
    ) -> None:
        self.info, self.compiled, self.head = info, compiled, head
        self.final_status: RunStatus | None = None
        self.state, self.waits = RunState(info.id, len(compiled.plan.nodes), compiled.plan.nodes), Waits()
        self.position = Position(compiled.plan)
        self._tasks = TaskRunner(info, compiled.bound_nodes, self.state, journal, resources)
        self._stop = StopControl(self._tasks, info.failure)
        self._steps = StepRecorder(self.state, self.position, is_enabled=head.keeps_steps)
        self._scheduler = NodeScheduler(
            info,
            compiled,
            self.state,
            self._tasks,
            self.waits,
            self._stop,
            info.breakpoints,
            self.position,
            self._steps,
        )
        self._buffer = CommitBuffer(info, self.state, self.waits, journal)
        self._outcome = RunOutcome(info, compiled, self.state)
        self._has_next = True
        """Whether a superstep may follow."""

    async def run(self) -> RunStatus | None:
        """Execute the run.

        Returns:
            The status with which this claim ends; None if the lease is lost, because then the run
            belongs to another worker and this one writes nothing.

        Raises:
            Fenced: The run has a newer claim.
            EntryRefused: The database refuses what the run wants to store.
        """
        with working_for(Owner(self.info.project_id, self.info.id)), self._tasks.waits_for_helpers.current():
            return await self._run()

    async def _run(self) -> RunStatus | None:
        resume_state = await self.head.attach(self)
        try:
            if resume_state is not None:
                await suspension.call(self._restore, resume_state)
            elif not self._stop.is_requested:
                await self._start()
            await self._loop()
            return self.final_status or await self._stop_early()
        finally:
            await self._tasks.cancel()
            await self._buffer.close()
            self.head.detach(self.info.id)

    # Called by the worker.

    def request(self, reason: StopReason) -> None:
        """Request a stop. Running nodes are awaited unless the reason is immediate."""
        self._stop.request(reason)

    def interrupt(self) -> None:
        """Cancel the running nodes, because the time to wait for them is over."""
        self._stop.interrupt()

    @property
    def unresponsive_since(self) -> float | None:
        """The event loop time of the first cancel request, if a node still runs after it."""
        return self._tasks.unresponsive_since

    @property
    def has_open_waits(self) -> bool:
        return bool(self.waits)

    @property
    def has_event_waits(self) -> bool:
        return self.waits.has_events

    @property
    def child_run_ids(self) -> list[str]:
        """The runs that this run waits for."""
        return self.waits.child_run_ids

    def receive_answers(self, waits: Sequence[OpenWait]) -> None:
        """Adopt waits that have an answer now. The same answer may be passed several times."""
        self.waits.add_answers(waits)
        self._tasks.wake.set()

    def set_breakpoints(self, node_ids: frozenset[str]) -> None:
        self._scheduler.breakpoints = node_ids

    # engine.runtime.ports.AttachedRun, called by the checkpoint saver.

    @property
    def run_id(self) -> str:
        return self.info.id

    @property
    def is_new(self) -> bool:
        return self.info.is_new

    def take_changes(self, *, is_full: bool) -> dict[str, Any]:
        records = self.state.take_changes(is_full=is_full)
        return {NODE_RECORDS: records, **self.position.take_changes(is_full=is_full)}

    def take_steps(self) -> list[CheckpointStep]:
        return self._steps.take()

    @property
    def record_count(self) -> int:
        return len(self.state.records)

    @property
    def event_count(self) -> int:
        return len(self.state.events)

    @property
    def running_nodes(self) -> list[str]:
        return [*self.state.running_nodes, *self.state.retrying_nodes]

    def needs_state(self, node_id: str, record: NodeRecord) -> bool:
        is_in_loop = node_id in self.compiled.plan.nodes and bool(self.compiled.plan.nodes[node_id].loops)
        return record.status in IN_PROGRESS or (is_in_loop and record.visits > 0)

    async def commit_superstep(self, record: CheckpointRecord, *, has_next: bool) -> None:
        self._has_next = has_next
        await self._commit(record)
        if self._is_step_done(record.step):
            self._stop.request(StopReason.BREAK)

    # The loop.

    def _restore(self, resume_state: ResumeState) -> None:
        """Adopt the stored state, and schedule the tasks that ran when the last claim ended.

        A clone, and a head of an older release, may have joins that are complete and have not
        fired: the nodes behind them become due here.
        """
        self.state.restore(resume_state.records, resume_state.states, resume_state.before_skip)
        self.waits.restore(resume_state.waits)
        nodes = self.compiled.plan.nodes
        due = {node_id: signal.round_of(nodes[node_id]) for node_id, signal in resume_state.due.items()}
        self.position.load(resume_state.values, resume_state.records, due)
        sends = [send for token in resume_state.tokens for _, send in self._scheduler.deliver(*token)]
        sends += [send for _, send in self._scheduler.wake()]
        if sends:
            self.head.enter(self.info.id, sends)
        self._has_next = bool(due or sends)
        orphans = {*self.state.waiting_nodes, *self.state.retrying_nodes} - set(self.waits.node_ids)
        self._tasks.restart(self.compiled.plan, orphans)
        was_resumed_here = resume_state.step == self.info.resumed_step
        has_held_node = any(signal.held for signal in resume_state.due.values())
        if self._is_step_done(resume_state.step) or (has_held_node and not was_resumed_here):
            self._stop.request(StopReason.BREAK)

    async def _start(self) -> None:
        """Run the first stretch, and commit it with the first checkpoint.

        No node is due before it, so it needs no superstep. A run of inline nodes often ends here.
        """
        try:
            sends = [send for _, send in await self._scheduler.start()]
        except NodeInterrupted:
            return  # Nothing has begun, so there is nothing to commit.
        await self.commit_superstep(self.head.begin(self.info.id, sends), has_next=bool(sends))

    async def _loop(self) -> None:
        """Alternate between the graph and waiting for tasks, until the run ends or stops."""
        while True:
            if self._has_next and not self._stop.is_requested:
                await self._invoke()
            await self._commit_changes()
            if self.final_status or self._stop.is_immediate:
                return
            await self._buffer.flush()
            is_idle = not self._tasks.is_busy and not self._tasks.has_results
            if is_idle and not await self._stays_for_wait():
                return
            await self._tasks.wait(self._next_due)
            await self._enter_results()

    async def _stays_for_wait(self) -> bool:
        """Decide what an idle run does.

        Returns:
            True if a wait ends so soon that the run keeps its worker. Otherwise the run stops; if
            it has waits and no stop was requested, it is WAITING or paused at the end of its step.
        """
        due = self._next_due
        if due is not None and due <= datetime.now(UTC) + timedelta(seconds=PATIENCE_S):
            return True
        if self._stop.is_requested or not self.waits:
            return False
        if self.info.item_scope is not None and self.waits.next_retry is not None:
            return True  # An item of a map lives in memory, so it cannot release its worker.
        if self.info.is_step:
            self._stop.request(StopReason.BREAK)
            return False
        message, expected = self.waits.describe(), self._stop.run_status
        await self._commit_status(None, RunChange(RunStatus.WAITING, expected, message, wake_at=due))
        return False

    @property
    def _next_due(self) -> datetime | None:
        """The time at which the next wait ends in this process; None if none does."""
        if not self._stop.is_requested:
            return self.waits.next_due
        return self.waits.next_retry if self._stop.ends_backoffs else None

    @property
    def _is_complete(self) -> bool:
        """Whether no node is due, running or waiting, and no stop was requested."""
        return not (
            self._stop.is_requested
            or self._has_next
            or self.state.running_nodes
            or self.waits
            or self._tasks.is_busy
            or self._tasks.has_results
        )

    def _is_step_done(self, step: int) -> bool:
        # Step 0 only settles the edges of `__start__`.
        return self.info.is_step and step > max(self.info.resumed_step, 0)

    async def _invoke(self) -> None:
        """Run supersteps until no node is due, a task ends or a stop is requested."""
        control = self._stop.new_control()
        self._tasks.on_result = control.request_drain
        try:
            await self.compiled.invoke(self.info.id, self._scheduler, control)
        except GraphDrained:
            return
        else:
            self._has_next = False
        finally:
            self._tasks.on_result = None

    async def _enter_results(self) -> None:
        """Settle ended tasks and waits, and run the stretch that they make due.

        It needs no superstep. The nodes that are due after it enter the head, and LangGraph runs them.
        """
        sends = [send for _, send in await self._scheduler.settle_results()]
        if sends:
            self.head.enter(self.info.id, sends)
            self._has_next = True

    async def _commit_changes(self) -> None:
        """Commit results that no superstep has committed: no node was due, or the run stops."""
        if self._buffer.has_changes or self._has_unsaved_state:
            await self._commit(self._new_checkpoint())

    @property
    def _has_unsaved_state(self) -> bool:
        """Whether the state is newer than the last checkpoint."""
        return self.state.has_changes or self.position.has_changes

    def _new_checkpoint(self) -> CheckpointRecord | None:
        """Make a checkpoint of the state; None if the last one contains everything."""
        return self.head.save(self.info.id) if self._has_unsaved_state else None

    async def _commit(self, record: CheckpointRecord | None) -> None:
        """Commit one entry.

        Inline nodes are pure, so the graph may go on before the entry is durable. The start of a
        task and the end of the run wait for it.
        """
        if self._is_complete:
            change = await suspension.call(self._outcome.completed, self._stop.run_status)
            await self._commit_status(record, change)
            return
        self._buffer.commit(record, self._stop.failure)
        if self._tasks.has_scheduled or self._buffer.is_full:
            await self._buffer.flush()
        if self._stop.blocks_tasks:
            self._tasks.drop_scheduled()
        else:
            self._tasks.start_scheduled()

    async def _commit_status(self, record: CheckpointRecord | None, change: RunChange) -> None:
        """Commit an entry that ends this claim.

        If somebody else has changed the status of the run before, adopt that status instead.
        """
        actual_status = await self._buffer.commit_status(record, change, self._stop.failure)
        if actual_status is None:
            self.final_status = change.status
        else:
            self._stop.set_run_status(actual_status)

    async def _stop_early(self) -> RunStatus | None:
        """Stop the run before its end: first its code, then its status."""
        await self._tasks.cancel()
        if self._stop.reason is StopReason.LEASE_LOST:
            return None
        await self._enter_results()
        has_more = bool(self._has_next or self.state.running_nodes or self.waits)
        change = await suspension.call(self._outcome.stopped, self._stop, has_more=has_more)
        if change.status is RunStatus.PAUSED:
            self._scheduler.interrupt_running()
            change = replace(change, wake_at=self.waits.next_due)
        elif change.status.is_terminal:
            self._scheduler.cancel_unfinished(with_idle=change.status is RunStatus.CANCELLED)
        else:
            self._scheduler.record_usage()
        await self._commit_status(self._new_checkpoint(), change)
        return self.final_status or await self._stop_early()
