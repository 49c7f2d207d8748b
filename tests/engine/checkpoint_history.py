"""Runs in memory that keep every checkpoint, and runs that begin at a frontier."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langgraph.constants import TASKS

from engine.errors import NodeFailure
from engine.events import EventData, NodeChange
from engine.fork.frontier import Frontier, channel_values, read_frontier
from engine.fork.history import RunHistory
from engine.graph.channels import NODE_RECORDS, NodeRecord, records_from
from engine.graph.compiler import CompiledGraph, compile_spec
from engine.graph.head import head_checkpoint
from engine.nodes.registry import load_node_types
from engine.runtime.executor import RunExecutor
from engine.runtime.memory_checkpointer import MemoryHeadStore
from engine.runtime.ports import AttachedRun, CheckpointRecord, CheckpointStep, ResumeState
from engine.runtime.run_info import RunInfo
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.sdk.node_types import NodeTypes
from engine.spec.parser import parse
from engine.states import IN_PROGRESS, RunStatus
from persistence.checkpoints.codec import apply_step
from persistence.events.steps import StoredStep
from tests.engine.memory_ports import RecordedJournal


class MixConfig(NodeConfig):
    sees: list[Any] = []
    pins: dict[int, Any] = {}
    turns: int = 0
    fails: int = 0


class MixNode(NodeType[MixConfig]):
    """Mixes the outputs that it sees into a number, so that each changed output changes it.

    `pins` are fixed outputs by visit. It fails its first `fails` attempts. `ran` gets the node and
    visit of every execution.
    """

    name = "mix"
    title = "MixNode"
    description = "For tests."
    Config = MixConfig
    inline = True

    def __init__(self, ran: list[tuple[str, int]]) -> None:
        self.ran = ran

    async def execute(self, config: MixConfig, ctx: NodeContext) -> Output:
        self.ran.append((ctx.node_id, ctx.visit))
        for _ in range(config.turns):
            await asyncio.sleep(0)
        if self.ran.count((ctx.node_id, ctx.visit)) <= config.fails:
            raise NodeFailure("TEST", "not yet")
        if ctx.visit in config.pins:
            return Output(config.pins[ctx.visit])
        values = [value["v"] if value else 0 for value in ctx.render(config.sees)]
        mixed = sum((index + 2) * value for index, value in enumerate(values)) + ctx.visit
        return Output({"v": (mixed * 31 + sum(map(ord, ctx.node_id))) % 997, "n": ctx.visit})


class SlowMixNode(MixNode):
    name = "slow"
    inline = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One checkpoint: its step, and its channel values with the outputs of the nodes."""

    step: int
    values: dict[str, Any]


class RecordingHeadStore(MemoryHeadStore):
    """A checkpoint saver that keeps a snapshot of every checkpoint, those of steps included.

    A run starts anew, or at the snapshot `start`.
    """

    keeps_steps = True

    def __init__(self, start: Snapshot | None = None) -> None:
        super().__init__()
        self._start = start
        self.snapshots: list[Snapshot] = [start] if start else []

    async def attach(self, run: AttachedRun) -> ResumeState | None:
        await super().attach(run)
        if self._start is None:
            return None
        values = dict(self._start.values)
        records, sends = values.pop(NODE_RECORDS), values.pop(TASKS, [])
        self._saved = (head_checkpoint(self._start.step, sends), {"source": "fork", "step": self._start.step})
        return ResumeState(dict(records), values, {send.node: send.arg for send in sends}, self._start.step)

    def save(self, run_id: str) -> CheckpointRecord | None:
        """Record a snapshot. Called for every checkpoint, of a superstep or not."""
        assert isinstance(self._run, RunExecutor)
        self._record_steps(self._run.take_steps(), self._run.state.events)
        values = self._run.take_changes(is_full=True)
        values[NODE_RECORDS] = dict(self._run.state.records)
        if self._saved is None:
            return None
        checkpoint, metadata = self._saved
        if sends := checkpoint["channel_values"].get(TASKS):
            values[TASKS] = list(sends)
        self.snapshots.append(Snapshot(self._next_step(), _copy(values)))
        return CheckpointRecord(checkpoint["id"], None, metadata["step"], True, b"", [])

    def _next_step(self) -> int:
        return self.snapshots[-1].step + 1 if self.snapshots else 0

    def _record_steps(self, steps: Sequence[CheckpointStep], events: Sequence[tuple[Any, EventData]]) -> None:
        """Record the snapshot after each step, derived from the one before it."""
        for step in steps:
            values = _copy(self.snapshots[-1].values) if self.snapshots else {}
            records: dict[str, NodeRecord] = dict(values.get(NODE_RECORDS, {}))
            outputs = {name: record.output for name, record in records.items()}
            for _, event in events[: step.event_count]:
                if isinstance(event, NodeChange) and event.state.has_output:
                    outputs[event.state.node_id] = event.state.output
            apply_step(values, StoredStep(0, step.values, step.due))
            for name, record in records_from(step.values[NODE_RECORDS]).items():
                records[name] = record.evolve(output=outputs.get(name))
            self.snapshots.append(Snapshot(self._next_step(), {**values, NODE_RECORDS: records}))


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if isinstance(value, list | dict) else value for name, value in values.items()}


@dataclass(slots=True)
class PlayedRun:
    """One run that has ended or paused.

    `ran` has the node and visit of every execution, `snapshots` every checkpoint.
    """

    raw: dict[str, Any]
    compiled: CompiledGraph
    status: RunStatus | None
    output: Any
    ran: list[tuple[str, int]]
    snapshots: list[Snapshot]
    outputs: dict[tuple[str, int], Any] = field(default_factory=dict)
    """The outputs by node and visit, of this run and of those that it began from."""

    def frontier(self, at: int) -> Frontier:
        """Return the frontier at snapshot `at`."""
        return read_frontier(self.compiled.plan, self.snapshots[at].values)

    def head(self) -> Frontier:
        """Return the frontier at the end."""
        return self.frontier(-1)

    def history(self, at: int) -> RunHistory:
        """Return the history up to snapshot `at`."""
        return RunHistory([snapshot.values for snapshot in self.snapshots[: at + 1]])


def node_types(ran: list[tuple[str, int]]) -> NodeTypes:
    return NodeTypes([*load_node_types().values(), MixNode(ran), SlowMixNode(ran)])


def compile_mix(raw: dict[str, Any], saver: Any = None, ran: list[tuple[str, int]] | None = None) -> CompiledGraph:
    return compile_spec(parse(raw), node_types([] if ran is None else ran), saver)


async def play(
    raw: dict[str, Any],
    start: tuple[Frontier, int] | None = None,
    outputs: Mapping[tuple[str, int], Any] | None = None,
    ran_before: Sequence[tuple[str, int]] = (),
    breakpoints: frozenset[str] = frozenset(),
) -> PlayedRun:
    """Execute a run until it ends or pauses.

    Args:
        raw: The spec.
        start: A frontier and its step to begin at; None for a new run.
        outputs: The known outputs by node and visit.
        ran_before: The executions of earlier runs, so that nodes with `fails` count them.
        breakpoints: With any, also one that no node has, each node runs in a superstep of its own.
    """
    all_outputs, ran = dict(outputs or {}), list(ran_before)
    first = compile_mix(raw)
    snapshot = None
    if start is not None:
        frontier, step = start
        snapshot = Snapshot(step, channel_values(first.plan, with_outputs(frontier, all_outputs)))
    saver, journal = RecordingHeadStore(snapshot), RecordedJournal()
    graph = compile_mix(raw, saver, ran)
    executor = RunExecutor(
        RunInfo("run_test", "prj_test", 1, 0, {}, breakpoints=breakpoints),
        graph,
        journal=journal,
        head=saver,
        resources={},
    )
    await asyncio.wait_for(executor.run(), 20)
    output = next((e.change.output for e in reversed(journal.entries) if e.change), None)
    for state in journal.states:
        if state.has_output:
            all_outputs[state.node_id, state.visits] = state.output
    return PlayedRun(raw, graph, executor.final_status, output, ran[len(ran_before) :], saver.snapshots, all_outputs)


def with_outputs(frontier: Frontier, outputs: Mapping[tuple[str, int], Any]) -> Frontier:
    """Return the frontier with the outputs of the last finished visits.

    A patched node has its output already and keeps it.
    """

    def with_output(name: str, record: NodeRecord) -> NodeRecord:
        is_unfinished = record.status in IN_PROGRESS
        output = outputs.get((name, record.visits - is_unfinished))
        return record if record.output is not None and not is_unfinished else record.evolve(output=output)

    return replace(frontier, records={name: with_output(name, record) for name, record in frontier.records.items()})
