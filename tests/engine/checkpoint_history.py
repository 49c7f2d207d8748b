"""Execute runs in memory from the start or from a frontier, and record every checkpoint."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.base.id import uuid6

from engine.errors import NodeFailure
from engine.fork.frontier import Frontier, apply_writes, channel_values, find_due, read_frontier
from engine.fork.history import RunHistory
from engine.graph.channels import NODE_RECORDS, NodeRecord, Write
from engine.graph.compiler import CompiledGraph, compile_spec
from engine.graph.plan import Plan
from engine.nodes.registry import load_node_types
from engine.runtime.executor import RunExecutor
from engine.runtime.memory_checkpointer import MemoryHeadStore
from engine.runtime.ports import AttachedRun, PendingWrite, ResumeState
from engine.runtime.run_info import RunInfo
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.sdk.node_types import NodeTypes
from engine.spec.parser import parse
from engine.states import NodeStatus, RunStatus
from tests.engine.memory_ports import RecordedJournal


class MixConfig(NodeConfig):
    sees: list[Any] = []
    pins: dict[int, Any] = {}
    turns: int = 0
    fails: int = 0


class Mix(NodeType[MixConfig]):
    """Computes a number from the values of `sees`.

    `pins` are fixed outputs by visit. `ran` records every execution. The node fails `fails` times.
    """

    name = "mix"
    title = "Mix"
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
        seen = [value["v"] if value else 0 for value in ctx.render(config.sees)]
        mixed = sum((index + 2) * value for index, value in enumerate(seen)) + ctx.visit
        return Output({"v": (mixed * 31 + sum(map(ord, ctx.node_id))) % 997, "n": ctx.visit})


class SlowMix(Mix):
    name = "slow"
    inline = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The channels of one checkpoint, with the node records and their outputs."""

    step: int
    values: dict[str, Any]


class RecordingHeadStore(MemoryHeadStore):
    """The head store of one run, empty or starting at `start`.

    Records a snapshot of every checkpoint.
    """

    def __init__(self, start: Snapshot | None = None, plan: Plan | None = None) -> None:
        super().__init__()
        self._plan = plan
        self.snapshots: list[Snapshot] = [start] if start else []
        self.waiting: list[Write] = []
        """Outside writes that the last snapshot does not contain."""
        self._start = start

    async def attach(self, run: AttachedRun) -> ResumeState | None:
        await super().attach(run)
        if self._start is None or self._plan is None:
            return None
        values = dict(self._start.values)
        nodes, updated = find_due(self._plan, values)
        self._saved = (_checkpoint(values, updated), {"source": "fork", "step": self._start.step, "parents": {}})
        return ResumeState(dict(self._start.values[NODE_RECORDS]), self._start.step, bool(nodes), False, [])

    def enter(self, run_id: str, writes: Sequence[Write]) -> tuple[list[Write], list[PendingWrite]]:
        entering, rows = super().enter(run_id, writes)
        self.waiting += entering
        return entering, rows

    async def aput(self, config: RunnableConfig, checkpoint: Checkpoint, metadata: Any, new_versions: Any) -> Any:
        if metadata["source"] == "input":
            return await super().aput(config, checkpoint, metadata, new_versions)
        values = {**checkpoint["channel_values"], NODE_RECORDS: dict(self._run.records)}
        self.snapshots.append(Snapshot(metadata["step"], _copy(values)))
        place = await super().aput(config, checkpoint, metadata, new_versions)
        self.waiting = []
        return place


def _checkpoint(values: dict[str, Any], updated: list[str]) -> Checkpoint:
    return Checkpoint(
        v=4,
        id=str(uuid6()),
        ts="2026-01-01T00:00:00+00:00",
        channel_values=values,
        channel_versions=dict.fromkeys(values, 1),
        versions_seen={},
        updated_channels=updated,
    )


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, list) else value for name, value in values.items()}


@dataclass(slots=True)
class PlayedRun:
    """An executed run: its result, its executions and its checkpoints."""

    raw: dict[str, Any]
    compiled: CompiledGraph
    status: RunStatus | None
    output: Any
    ran: list[tuple[str, int]]
    snapshots: list[Snapshot]
    waiting: list[Write]
    outputs: dict[tuple[str, int], Any] = field(default_factory=dict)
    """The outputs by node and visit, of this run and of the run that it started from."""

    def frontier(self, at: int) -> Frontier:
        return read_frontier(self.compiled.plan, self.snapshots[at].values)

    def head(self) -> Frontier:
        """The frontier at the end, with the results that no superstep has processed."""
        plan = self.compiled.plan
        return read_frontier(plan, apply_writes(plan, self.snapshots[-1].values, self.waiting))

    def history(self, at: int) -> RunHistory:
        return RunHistory([snapshot.values for snapshot in self.snapshots[: at + 1]])


def node_types(ran: list[tuple[str, int]]) -> NodeTypes:
    return NodeTypes([*load_node_types().values(), Mix(ran), SlowMix(ran)])


def compiled(raw: dict[str, Any], saver: Any = None, ran: list[tuple[str, int]] | None = None) -> CompiledGraph:
    return compile_spec(parse(raw), node_types([] if ran is None else ran), saver)


async def play(
    raw: dict[str, Any],
    start: tuple[Frontier, int] | None = None,
    outputs: Mapping[tuple[str, int], Any] | None = None,
    ran_before: Sequence[tuple[str, int]] = (),
) -> PlayedRun:
    """Execute a run until it is idle.

    Args:
        raw: The spec.
        start: A frontier and its step, or None to start a new run.
        outputs: The outputs by node and visit that are known before.
        ran_before: The executions before the start.
    """
    known_outputs, ran = dict(outputs or {}), list(ran_before)
    first = compiled(raw)
    snapshot = None
    if start is not None:
        frontier, step = start
        snapshot = Snapshot(step, channel_values(first.plan, with_outputs(frontier, known_outputs)))
    saver, journal = RecordingHeadStore(snapshot, first.plan), RecordedJournal()
    graph = compiled(raw, saver, ran)
    executor = RunExecutor(RunInfo("run_test", "prj_test", 1, 0, {}), graph, journal=journal, head=saver, resources={})
    await asyncio.wait_for(executor.run(), 20)
    output = next((e.change.output for e in reversed(journal.entries) if e.change), None)
    for state in journal.states:
        if state.has_output:
            known_outputs[state.node_id, state.visits] = state.output
    return PlayedRun(
        raw, graph, executor.final_status, output, ran[len(ran_before) :], saver.snapshots, saver.waiting, known_outputs
    )


def with_outputs(frontier: Frontier, outputs: Mapping[tuple[str, int], Any]) -> Frontier:
    """Add the outputs of the last finished visits to the node records.

    A record that has an output already, by a patch, keeps it.
    """

    def fill(name: str, record: NodeRecord) -> NodeRecord:
        is_open = record.status in (NodeStatus.RUNNING, NodeStatus.WAITING)
        output = outputs.get((name, record.visits - is_open))
        return record if record.output is not None and not is_open else record.evolve(output=output)

    return replace(frontier, records={name: fill(name, record) for name, record in frontier.records.items()})
