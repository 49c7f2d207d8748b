"""Drives one run from where it stands to where it rests: LangGraph decides what is next, in waves; launched nodes run beside.

A crash at any line loses what the journal has not committed and nothing else: the head checkpoint with the writes on top of
it says which nodes are launched and unsettled, and those are launched again. A wave's events, its outputs and its checkpoint
are one entry, and so are the results that started the wave: what it launches starts only after that commit.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from langgraph.errors import GraphDrained
from langgraph.types import Command

from engine.graph.channels import NODE_RECORDS, NodeRecord
from engine.graph.compiler import CompiledGraph
from engine.runtime.commit_buffer import CommitBuffer
from engine.runtime.outcome import RunOutcome
from engine.runtime.ports import CheckpointRecord, HeadStore, Journal, OpenWait, ResumeState, RunChange
from engine.runtime.run_info import RunInfo, StopReason
from engine.runtime.run_state import RunState
from engine.runtime.scheduler import NodeScheduler
from engine.runtime.stop import StopControl
from engine.runtime.task_runner import TaskRunner
from engine.runtime.waits import Waits
from engine.states import RunStatus

PATIENCE_S = 5.0
"""A timer that is over within this is waited for in the process; for a later one the run lets its worker go."""


class RunExecutor:
    """One take-up of one run. `run()` ends when the run rests or is given up, and answers with how it stands."""

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
        self.outcome: RunStatus | None = None
        self.memory, self.waits = RunState(info.id, len(compiled.plan.nodes), {}), Waits()
        self._launcher = TaskRunner(info, compiled.works, self.memory, journal, resources)
        self._stopping = StopControl(self._launcher, info.failure)
        self._turns = NodeScheduler(
            info, compiled, self.memory, self._launcher, self.waits, self._stopping, info.breakpoints
        )
        self._ledger = CommitBuffer(info, self.memory, self.waits, journal)
        self._ends = RunOutcome(info, compiled, self.memory)
        self._is_due = True
        """Whether a wave may follow."""

    async def run(self) -> RunStatus | None:
        """Drives the run to rest. None: given up without a word, because it is another worker's now."""
        standing = await self.head.attach(self)
        try:
            if standing is not None:
                self._recall(standing)
            await self._waves(True if standing is None else None)
            return self.outcome or await self._end()
        finally:
            await self._launcher.cancel()
            await self._ledger.close()
            self.head.detach(self.info.id)

    # What a worker asks of it.

    def request(self, stop: StopReason) -> None:
        self._stopping.request(stop)

    def interrupt(self) -> None:
        self._stopping.interrupt()

    @property
    def unresponsive_since(self) -> float | None:
        """The loop's time at which nodes were told to stop that still run; None where none does."""
        return self._launcher.unresponsive_since

    @property
    def is_waiting(self) -> bool:
        return bool(self.waits)

    @property
    def children(self) -> list[str]:
        """The runs that this one waits for."""
        return self.waits.children

    def answered(self, waits: Sequence[OpenWait]) -> None:
        """Waits of this run that have an answer now; told twice, it counts once."""
        self.waits.answered(waits)
        self._launcher.wake.set()

    def set_breakpoints(self, node_ids: frozenset[str]) -> None:
        self._turns.breakpoints = node_ids

    # engine.runtime.ports.AttachedRun, which the saver calls.

    @property
    def run_id(self) -> str:
        return self.info.id

    @property
    def is_new(self) -> bool:
        return self.info.is_new

    @property
    def records(self) -> dict[str, NodeRecord]:
        return self.memory.slots

    @property
    def running_nodes(self) -> list[str]:
        return self.memory.running

    async def commit_superstep(self, record: CheckpointRecord, *, has_next: bool) -> None:
        self._is_due = has_next
        await self._commit(record)
        if self._is_step_done(record.step):
            self._stopping.request(StopReason.BREAK)

    # The loop.

    def _recall(self, standing: ResumeState) -> None:
        """Takes over what the store remembers. Nodes that were launched and have not settled are launched again."""
        self.memory.recall(standing.slots, standing.usage)
        self.waits.recall(standing.waits)
        self._is_due = standing.is_due
        self._launcher.relaunch(self.compiled.plan, set(self.memory.waiting) - set(self.waits.nodes))
        was_resumed_here = standing.step == self.info.resumed_step
        if self._is_step_done(standing.step) or (standing.is_held and not was_resumed_here):
            self._stopping.request(StopReason.BREAK)

    async def _waves(self, command: Any) -> None:
        while True:
            if command is not _NOTHING and not self._stopping.is_asked:
                await self._invoke(command)
            await self._settle_outside()
            if self.outcome or self._stopping.is_at_once:
                return
            await self._ledger.land()
            if not self._launcher.is_busy and not self._launcher.has_results and not await self._rest():
                return
            await self._launcher.wait(None if self._stopping.is_asked else self.waits.next_due)
            command = self._enter_results()

    async def _rest(self) -> bool:
        """Nothing runs. True: a wait is over soon, so that it pays to stay; else the run stands where it is to rest."""
        if self._stopping.is_asked or not self.waits:
            return False
        due = self.waits.next_due
        if due is not None and due <= datetime.now(UTC) + timedelta(seconds=PATIENCE_S):
            return True
        if self.info.is_step:
            self._stopping.request(StopReason.BREAK)
            return False
        stands = self._stopping.stands
        await self._change(None, RunChange(RunStatus.WAITING, stands, self.waits.told(), wake_at=due))
        return False

    @property
    def _is_complete(self) -> bool:
        """Nothing is due, nothing runs, nothing waits, and nobody wants the run to stop."""
        return not (
            self._stopping.is_asked
            or self._is_due
            or self.memory.running
            or self.waits
            or self._launcher.is_busy
            or self._launcher.has_results
        )

    def _is_step_done(self, step: int) -> bool:
        # Step 0 only finds out where the run begins.
        return self.info.is_step and step > max(self.info.resumed_step, 0)

    async def _invoke(self, command: Any) -> None:
        control = self._stopping.new_control()
        self._launcher.on_result = control.request_drain
        try:
            await self.compiled.call(command, self.info.id, self._turns, control)
        except GraphDrained:
            return
        else:
            self._is_due = False
        finally:
            self._launcher.on_result = None

    def _enter_results(self) -> Any:
        """What has come from outside of the graph, as one Command; nothing while there is nothing."""
        writes = self._turns.results()
        if not writes:
            return _NOTHING
        self._is_due = self._is_due or any(channel != NODE_RECORDS for channel, _ in writes)
        entering, rows = self.head.enter(self.info.id, writes)
        self._ledger.gather(rows)
        return Command(update=entering)

    async def _settle_outside(self) -> None:
        """Commits results that no wave took along: there was nothing to run, or the run is stopping."""
        if self._ledger.has_gathered:
            await self._commit(None)

    async def _commit(self, record: CheckpointRecord | None) -> None:
        """One entry. Quick nodes are pure, so the graph may go on before it is durable; launches and ends wait for that."""
        if self._is_complete:
            await self._change(record, self._ends.completed(self._stopping.stands))
            return
        self._ledger.commit(record, self._stopping.failure)
        if self._launcher.has_pending or self._ledger.is_far_ahead:
            await self._ledger.land()
        self._start_pending()

    async def _change(self, record: CheckpointRecord | None, change: RunChange) -> None:
        """One entry that ends this take-up, unless somebody has changed the run's status before."""
        moved = await self._ledger.change(record, change, self._stopping.failure)
        if moved is None:
            self.outcome = change.status
        else:
            self._stopping.moved(moved)

    def _start_pending(self) -> None:
        """What a wave has launched starts with its commit; where the run goes elsewhere, whoever takes it up starts it."""
        if self._stopping.is_elsewhere:
            self._launcher.drop_pending()
        else:
            self._launcher.start_pending()

    async def _end(self) -> RunStatus | None:
        """The run stops before its end: its code first, then what is said of it."""
        await self._launcher.cancel()
        if self._stopping.stop is StopReason.LEASE_LOST:
            return None
        self._enter_results()
        has_more = bool(self._is_due or self.memory.running or self.waits)
        change = self._ends.stopped(self._stopping, has_more=has_more)
        if change.status is RunStatus.PAUSED:
            self._turns.interrupt_running()
        elif change.status.is_terminal:
            self._turns.cancel_running()
        else:
            self._turns.tell_usage()
        await self._change(None, change)
        return self.outcome or await self._end()


_NOTHING = object()
