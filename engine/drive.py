"""Drives one run from where it stands to where it rests: LangGraph decides what is next, in waves; launched nodes run beside.

A crash at any line loses what the journal has not committed and nothing else: the head checkpoint with the writes on top of
it says which nodes are launched and unsettled, and those are launched again. A wave's events, its outputs and its checkpoint
are one entry, and so are the results that started the wave: what it launches starts only after that commit.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.constants import TASKS
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command, Durability, Send

from engine.channels import SLOTS, Signal
from engine.compile import DRIVE, CompiledGraph, Write
from engine.events import CheckpointSaved, RunError, StatusChange
from engine.launch import Launcher
from engine.memory import Memory
from engine.plan import PlanNode
from engine.ports import CheckpointRecord, Entry, Journal, OpenWait, PendingWrite, RunChange, Standing, StatusMoved
from engine.settle import loop_over
from engine.states import RunStatus
from engine.takeup import Head, RunFacts, Stop
from engine.turns import Turn, run_output
from engine.waits import Waits

MAX_AHEAD = 50
"""Waves that the graph may be ahead of the journal: bounds what a crash loses of pure work, and what is kept in memory."""
PATIENCE_S = 5.0
"""A timer that is over within this is waited for in the process; for a later one the run lets its worker go."""


class Drive:
    """One take-up of one run. `run()` ends when the run rests or is given up, and answers with how it stands."""

    def __init__(
        self,
        facts: RunFacts,
        compiled: CompiledGraph,
        *,
        journal: Journal,
        head: Head,
        resources: Mapping[str, Any],
    ) -> None:
        self.facts, self.compiled, self.journal, self.head = facts, compiled, journal, head
        self.stopped: Stop | None = None
        self.failure = facts.failure
        self.outcome: RunStatus | None = None
        self.memory = Memory(facts.id, len(compiled.plan.nodes), {})
        self.waits = Waits()
        self._breakpoints = facts.breakpoints
        self._launcher = Launcher(facts, compiled.works, self.memory, journal, resources)
        self._turns = Turn(facts, compiled, self.memory, self._launcher, self.waits, self._fail)
        self._rows: list[PendingWrite] = []
        self._control = RunControl()
        self._stands = RunStatus.RUNNING
        """What the run's row says, as far as this drive has been told."""
        self._is_due = True
        """Whether a wave may follow."""
        self._is_interrupted = False
        self._under_way: list[Awaitable[int]] = []
        """Entries given to the journal and not known to be durable yet."""

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
            await asyncio.gather(*self._under_way, return_exceptions=True)
            self.head.detach(self.facts.id)

    # What a worker asks of it.

    def request(self, stop: Stop) -> None:
        """Asks to stop; of several reasons the one that demands most counts."""
        if self.stopped is None or stop.outranks(self.stopped):
            self.stopped = stop
        if stop is Stop.PAUSE and self._stands is RunStatus.RUNNING:
            self._stands = RunStatus.PAUSING
        elif stop is Stop.CANCEL:
            self._stands = RunStatus.CANCELLING
        self._control.request_drain(stop)
        if stop.is_at_once:
            self._launcher.cancel_soon()
        self._launcher.wake.set()

    def interrupt(self) -> None:
        """It has been waited for long enough: what still runs is cancelled, and launched again by who takes the run up."""
        self._launcher.cancel_soon()
        self._launcher.wake.set()
        self._is_interrupted = True

    @property
    def clings_since(self) -> float | None:
        """The loop's time at which nodes were told to stop that still run; None where none does."""
        return self._launcher.clings_since

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
        self._breakpoints = node_ids

    # What a compiled graph calls back.

    def begin(self) -> Sequence[Write]:
        return self._turns.begin()

    async def turn(self, node: PlanNode, signal: Signal | None, again: Signal | None) -> Sequence[Write]:
        if again is not None and not again.live:
            return loop_over(self.compiled.plan, node, again.round)
        if again is not None:
            round_, live = (*again.round[:-1], again.round[-1] + 1), True
        elif signal is not None:
            round_, live = signal.round if signal.held else node.first_round(signal.round), signal.live
        else:
            return ()
        if not live:
            return self._turns.skip(node, round_)
        if node.id in self._breakpoints and not (signal and signal.held):
            self.request(Stop.BREAK)
            return [(TASKS, Send(node.id, Signal(round_, True, held=True)))]
        return await self._turns.take(node, round_)

    @property
    def starts_afresh(self) -> bool:
        """LangGraph saves the input before anything runs: without it, a crash starts the run afresh and loses nothing."""
        return True

    async def commit_wave(self, record: CheckpointRecord, *, has_next: bool) -> None:
        """Called by the saver for every checkpoint: one entry for all that the wave did, the run's end included."""
        self.memory.wave.append((datetime.now(UTC), CheckpointSaved(record.id, record.step)))
        self._is_due = has_next
        await self._commit(record, self._completion() if self._is_complete else None)
        if self._is_step_done(record.step):
            self.request(Stop.BREAK)

    # The loop.

    def _recall(self, standing: Standing) -> None:
        """Takes over what the store remembers. Nodes that were launched and have not settled are launched again."""
        memory = self.memory = self.memory.recalled(standing.slots)
        self.waits = Waits(standing.waits)
        self._launcher.memory = self._turns.memory = memory
        self._turns.waits = self.waits
        self._is_due = standing.is_due
        self._launcher.relaunch(self.compiled.plan, set(memory.waiting) - set(self.waits.nodes))
        was_resumed_here = standing.step == self.facts.resumed_step
        if self._is_step_done(standing.step) or (standing.is_held and not was_resumed_here):
            self.request(Stop.BREAK)

    async def _waves(self, command: Any) -> None:
        while True:
            if command is not _NOTHING and not self._is_stopping:
                await self._invoke(command)
            await self._settle_outside()
            if self.outcome or self.failure or self._is_interrupted or (self.stopped and self.stopped.is_at_once):
                return
            await self._land()
            if not self._launcher.is_busy and not self._launcher.has_results and not await self._rest():
                return
            await self._launcher.wait(None if self._is_stopping else self.waits.next_due)
            command = self._enter_results()

    async def _rest(self) -> bool:
        """Nothing runs. True: a wait is over soon, so that it pays to stay; else the run stands where it is to rest."""
        if self._is_stopping or not self.waits:
            return False
        due = self.waits.next_due
        if due is not None and due <= datetime.now(UTC) + timedelta(seconds=PATIENCE_S):
            return True
        if self.facts.is_step:
            self.request(Stop.BREAK)
            return False
        await self._commit(None, RunChange(RunStatus.WAITING, self._stands, self.waits.told(), wake_at=due))
        return False

    @property
    def _is_stopping(self) -> bool:
        return self.stopped is not None or self.failure is not None

    @property
    def _is_complete(self) -> bool:
        """Nothing is due, nothing runs, nothing waits, and nobody wants the run to stop."""
        return not (
            self._is_stopping
            or self._is_due
            or self.memory.running
            or self.waits
            or self._launcher.is_busy
            or self._launcher.has_results
        )

    def _is_step_done(self, step: int) -> bool:
        # Step 0 only finds out where the run begins.
        return self.facts.is_step and step > max(self.facts.resumed_step, 0)

    async def _invoke(self, command: Any) -> None:
        self._control = RunControl()
        self._launcher.on_result = self._control.request_drain
        config: RunnableConfig = {
            "configurable": {"thread_id": self.facts.id, DRIVE: self},
            "recursion_limit": 2**31,
        }
        durability: Durability | None = "sync" if self.compiled.graph.checkpointer else None
        try:
            # What the graph would answer is in our memory already: it is asked for nothing.
            await self.compiled.graph.ainvoke(
                command, config, output_keys=[], durability=durability, control=self._control
            )
        except GraphDrained:
            return
        else:
            self._is_due = False
        finally:
            self._launcher.on_result = None

    def _enter_results(self) -> Any:
        """What launched nodes answered and which waits are over, as one Command; nothing while there is neither."""
        writes = [
            write
            for node, slot, result, context in self._launcher.results()
            for write in self._turns.settle(node, slot, result, context.noted_input)
        ]
        if not self._is_stopping:
            writes += [write for wait, end in self.waits.over() for write in self._turns.end_wait(wait, end)]
        if not writes:
            return _NOTHING
        self._is_due = self._is_due or any(channel != SLOTS for channel, _ in writes)
        entering_, rows = self.head.enter(self.facts.id, writes)
        self._rows += rows
        return Command(update=entering_)

    async def _settle_outside(self) -> None:
        """Commits results that no wave took along: there was nothing to run, or the run is stopping."""
        if self.memory.wave or self._rows:
            await self._commit(None, self._completion() if self._is_complete else None)

    async def _commit(self, record: CheckpointRecord | None, change: RunChange | None) -> None:
        """One entry. Quick nodes are pure, so the graph may go on before it is durable; launches and ends wait for that."""
        entry = self._entry(record, change)
        if change is not None:
            await self._commit_change(entry, change)
            return
        self._under_way.append(self.journal.commit(entry))
        if self._launcher.has_pending or len(self._under_way) >= MAX_AHEAD:
            await self._land()
        self._start_pending()

    async def _commit_change(self, entry: Entry, change: RunChange) -> None:
        """A status change that loses is left out and the rest of the entry committed: it did happen."""
        told = StatusChange(change.status, change.expected, change.message or "")
        entry.happenings.append((datetime.now(UTC), told))
        self._under_way.append(self.journal.commit(entry))
        try:
            await self._land()
            self.outcome = change.status
        except StatusMoved as moved:
            self._under_way = []
            entry.happenings.pop()
            entry.change = None
            await self.journal.commit(entry)
            self._stands = moved.status
            if moved.status is not RunStatus.RUNNING:
                self.request(Stop.CANCEL if moved.status is RunStatus.CANCELLING else Stop.PAUSE)

    async def _land(self) -> None:
        """Waits until all that happened so far is durable. In order: when one fails, all after it have failed too."""
        for landed in self._under_way:
            await landed
        self._under_way = []

    def _entry(self, record: CheckpointRecord | None, change: RunChange | None) -> Entry:
        facts = self.facts
        if change is not None and change.status.is_terminal:
            self.waits.abandon()
        opened, settled = self.waits.take()
        rows, self._rows = self._rows, []
        return Entry(
            facts.id,
            facts.epoch,
            facts.lineage,
            self.memory.take(),
            record,
            rows,
            opened,
            settled,
            change,
            self.memory.progress,
            self.failure,
        )

    def _start_pending(self) -> None:
        """What a wave has launched starts with its commit; where the run goes elsewhere, whoever takes it up starts it."""
        stopped = self.stopped
        if self.failure is not None or (stopped and (stopped.is_at_once or stopped is Stop.DRAIN)):
            self._launcher.drop_pending()
        else:
            self._launcher.start_pending()

    def _completion(self) -> RunChange:
        output, error = run_output(self.facts, self.compiled, self.memory)
        if error is not None:
            return RunChange(RunStatus.FAILED, self._stands, error.message, None, error)
        return RunChange(RunStatus.COMPLETED, self._stands, None, output)

    async def _end(self) -> RunStatus | None:
        """The run stops before its end: its code first, then what is said of it."""
        await self._launcher.cancel()
        if self.stopped is Stop.LEASE_LOST:
            return None
        self._enter_results()
        change = self._stopped_change()
        if change.status is RunStatus.PAUSED:
            self._turns.interrupt_running()
        elif change.status.is_terminal:
            self._turns.cancel_running()
        await self._commit(None, change)
        return self.outcome or await self._end()

    def _stopped_change(self) -> RunChange:
        stopped, error = self.stopped, self.failure
        if stopped is Stop.CANCEL:
            return RunChange(RunStatus.CANCELLED, self._stands)
        if stopped is Stop.TIMEOUT:
            error = RunError("TIMEOUT", f"the run did not finish within {self.facts.timeout_s} s", retryable=True)
        if error is not None:
            return RunChange(RunStatus.FAILED, self._stands, error.message, None, error)
        if not (self._is_due or self.memory.running or self.waits):
            return self._completion()
        if stopped in (Stop.PAUSE, Stop.BREAK):
            return RunChange(RunStatus.PAUSED, self._stands, self._pause_message())
        return RunChange(RunStatus.QUEUED, self._stands, "Handed back: the worker is stopping")

    def _pause_message(self) -> str:
        if self.stopped is not Stop.BREAK:
            return "Paused"
        return "Paused after a step" if self.facts.is_step else "Paused at a breakpoint"

    def _fail(self, error: RunError) -> None:
        self.failure = self.failure or error
        self._control.request_drain("a node failed")


_NOTHING = object()
