"""Drives one run from where it stands to where it rests: LangGraph decides what is next, in waves; launched nodes run beside.

A crash at any line loses what the journal has not committed and nothing else: the head checkpoint with the writes on top of
it says which nodes are launched and unsettled, and those are launched again. A wave's events, its outputs and its checkpoint
are one entry, and so are the results that started the wave: what it launches starts only after that commit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command, Durability

from engine.channels import Signal, Slot
from engine.compile import DRIVE, CompiledGraph, Write
from engine.events import JSON, CheckpointSaved, RunError, StatusChange
from engine.launch import Launcher
from engine.memory import Memory
from engine.plan import PlanNode
from engine.ports import CheckpointRecord, Entry, Journal, PendingWrite, RunChange, StatusMoved
from engine.settle import loop_over
from engine.states import RunStatus
from engine.turns import Turn, run_output


class Stop(StrEnum):
    """Why a drive is to stop before its end. Types, so that none is guessed from a CancelledError."""

    CANCEL = "cancel"
    PAUSE = "pause"
    DRAIN = "drain"
    """The worker is leaving: hand the run back at the next boundary."""
    LEASE_LOST = "lease lost"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a drive needs to know of the run it was given."""

    id: str
    epoch: int
    lineage: int
    inputs: JSON
    timeout_s: float | None = None


class Head(Protocol):
    """Where runs stand in the store: the checkpoint saver, seen from the engine."""

    async def attach(self, drive: "Drive") -> dict[str, Slot] | None:
        """Loads the run's head; None where it has none yet. From now on its checkpoints go through `drive.commit_wave`."""
        ...

    def detach(self, run_id: str) -> None: ...
    def enter(self, run_id: str, writes: Sequence[Write]) -> tuple[list[Write], list[PendingWrite]]:
        """Adds outside writes to the head. Answers with what a Command has to bring in, and the rows that make it durable."""
        ...


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
        self.failure: RunError | None = None
        self.outcome: RunStatus | None = None
        self.memory = Memory(facts.id, len(compiled.plan.nodes), {})
        self._launcher = Launcher(facts, compiled.works, self.memory, journal, resources)
        self._turns = Turn(facts, compiled, self.memory, self._launcher, self._fail)
        self._rows: list[PendingWrite] = []
        self._control = RunControl()
        self._is_interrupted = False

    async def run(self) -> RunStatus | None:
        """Drives the run to rest. None: given up without a word, because it is another worker's now."""
        slots = await self.head.attach(self)
        try:
            command: Any = True
            if slots is not None:
                self.memory = self._launcher.memory = self._turns.memory = self.memory.recalled(slots)
                self._launcher.relaunch(self.compiled.plan)
                command = None
            await self._waves(command)
            return self.outcome or await self._end()
        finally:
            await self._launcher.cancel()
            self.head.detach(self.facts.id)

    def request(self, stop: Stop) -> None:
        """Asks to stop; the first reason stands, but a cancel and a lost lease go before a pause or a drain."""
        if self.stopped is None or stop in (Stop.CANCEL, Stop.LEASE_LOST):
            self.stopped = stop
        self._control.request_drain(stop)
        if stop in (Stop.CANCEL, Stop.LEASE_LOST, Stop.TIMEOUT):
            self._launcher.cancel_soon()
        self._launcher.wake.set()

    def interrupt(self) -> None:
        """A drain has waited long enough: what still runs is cancelled, and launched again by who takes the run up."""
        self._launcher.cancel_soon()
        self._launcher.wake.set()
        self._is_interrupted = True

    # What a compiled graph calls back.

    def begin(self) -> Sequence[Write]:
        return self._turns.begin()

    async def turn(self, node: PlanNode, signal: Signal | None, again: Signal | None) -> Sequence[Write]:
        if again is not None and not again.live:
            return loop_over(self.compiled.plan, node, again.round)
        if again is not None:
            round_, live = (*again.round[:-1], again.round[-1] + 1), True
        elif signal is not None:
            round_, live = node.first_round(signal.round), signal.live
        else:
            return ()
        return await self._turns.take(node, round_) if live else self._turns.skip(node, round_)

    @property
    def starts_afresh(self) -> bool:
        """LangGraph saves the input before anything runs: without it, a crash starts the run afresh and loses nothing."""
        return True

    async def commit_wave(self, record: CheckpointRecord, *, has_next: bool) -> None:
        """Called by the saver for every checkpoint: one entry for all that the wave did, the run's end included."""
        self.memory.wave.append((datetime.now(UTC), CheckpointSaved(record.id, record.step)))
        is_end = not has_next and not self.memory.running and self.stopped is None and self.failure is None
        await self._commit(record, self._completion() if is_end else None)
        self._rows = []

    # The loop.

    async def _waves(self, command: Any) -> None:
        while True:
            if command is not _NOTHING and not self._is_stopping:
                await self._invoke(command)
            await self._settle_outside()
            if self.outcome or self.failure or self.stopped in _AT_ONCE or self._is_interrupted:
                return
            if not self._launcher.is_busy and not self._launcher.has_results:
                return
            await self._launcher.wait()
            command = self._enter_results()

    @property
    def _is_stopping(self) -> bool:
        return self.stopped is not None or self.failure is not None

    async def _invoke(self, command: Any) -> None:
        self._control = RunControl()
        self._launcher.on_result = self._control.request_drain
        config: RunnableConfig = {
            "configurable": {"thread_id": self.facts.id, DRIVE: self},
            "recursion_limit": 2**31,
        }
        durability: Durability | None = "sync" if self.compiled.graph.checkpointer else None
        try:
            await self.compiled.graph.ainvoke(command, config, durability=durability, control=self._control)
        except GraphDrained:
            return
        finally:
            self._launcher.on_result = None

    def _enter_results(self) -> Any:
        """What launched nodes answered, as one Command; nothing while nobody has."""
        writes = [
            write
            for node, slot, result, context in self._launcher.results()
            for write in self._turns.settle(node, slot, result, context.noted_input)
        ]
        if not writes:
            return _NOTHING
        entering_, self._rows = self.head.enter(self.facts.id, writes)
        return Command(update=entering_)

    async def _settle_outside(self) -> None:
        """Commits results that no wave took along: there was nothing to run, or the run is stopping."""
        if self.memory.wave or self._rows:
            is_end = not self._is_stopping and not self._launcher.is_busy and not self._launcher.has_results
            await self._commit(None, self._completion() if is_end and not self.memory.running else None)
            self._rows = []

    async def _commit(self, record: CheckpointRecord | None, change: RunChange | None) -> None:
        """One entry. A status change that loses is left out and the rest of the entry committed: it did happen."""
        facts = self.facts
        entry = Entry(facts.id, facts.epoch, facts.lineage, self.memory.take(), record, self._rows, change)
        entry.progress = self.memory.progress
        if change is None:
            await self.journal.commit(entry)
            self._launcher.start_pending()
            return
        told = StatusChange(change.status, change.expected, change.message or "")
        entry.happenings.append((datetime.now(UTC), told))
        try:
            await self.journal.commit(entry)
            self.outcome = change.status
        except StatusMoved as moved:
            entry.happenings.pop()
            entry.change = None
            await self.journal.commit(entry)
            self.request(Stop.CANCEL if moved.status is RunStatus.CANCELLING else Stop.PAUSE)

    def _completion(self) -> RunChange:
        output, error = run_output(self.facts, self.compiled, self.memory)
        if error is not None:
            return RunChange(RunStatus.FAILED, self._status, error.message, None, error)
        return RunChange(RunStatus.COMPLETED, self._status, None, output)

    @property
    def _status(self) -> RunStatus:
        """What the run's row says, as far as this drive has been told."""
        if self.stopped is Stop.CANCEL:
            return RunStatus.CANCELLING
        return RunStatus.PAUSING if self.stopped is Stop.PAUSE else RunStatus.RUNNING

    async def _end(self) -> RunStatus | None:
        """The run stops before its end: its code first, then what is said of it."""
        await self._launcher.cancel()
        if self.stopped is Stop.LEASE_LOST:
            return None
        if self.stopped is Stop.DRAIN:
            change = RunChange(RunStatus.QUEUED, RunStatus.RUNNING, "handed back: the worker is stopping")
        else:
            self._turns.cancel_running()
            change = self._stopped_change()
        await self._commit(None, change)
        return self.outcome or await self._end()

    def _stopped_change(self) -> RunChange:
        if self.stopped is Stop.CANCEL:
            return RunChange(RunStatus.CANCELLED, RunStatus.CANCELLING)
        error = self.failure
        if self.stopped is Stop.TIMEOUT:
            error = RunError("TIMEOUT", f"the run did not finish within {self.facts.timeout_s} s", retryable=True)
        if error is not None:
            return RunChange(RunStatus.FAILED, self._status, error.message, None, error)
        if self.stopped is Stop.PAUSE:
            return RunChange(RunStatus.PAUSED, RunStatus.PAUSING)
        return self._completion()

    def _fail(self, error: RunError) -> None:
        self.failure = self.failure or error
        self._control.request_drain("a node failed")


_NOTHING = object()
_AT_ONCE = (Stop.CANCEL, Stop.LEASE_LOST, Stop.TIMEOUT)
