"""A stretch of inline nodes is one entry, and has a checkpoint after each of its visits."""

from random import Random
from typing import Any

import pytest

from engine.graph.channels import NODE_RECORDS
from engine.graph.compiler import CompiledGraph, compile_spec
from engine.isolation import loop_share
from engine.runtime import stretches
from engine.runtime.executor import RunExecutor
from engine.runtime.memory_checkpointer import MemoryHeadStore
from engine.runtime.run_info import RunInfo
from engine.runtime.stretches import MAX_VISITS
from engine.spec.parser import parse
from engine.states import NodeStatus, RunStatus
from tests.engine.checkpoint_history import PlayedRun, RecordingHeadStore, Snapshot, play
from tests.engine.graph.program_generator import draw_program
from tests.engine.graph.program_graph import graph_of
from tests.engine.memory_ports import TYPES, RecordedJournal
from tests.engine.memory_ports import play as play_inline
from tests.samples import sample

SIZE = 16
NODE_BY_NODE = frozenset({"no-such-node"})
"""A breakpoint that no node has. With it, each node runs in a superstep of its own."""


def chain(length: int) -> dict[str, Any]:
    nodes = [{"id": f"n{at}", "type": "mix", "config": {}} for at in range(length)]
    return {"nodes": nodes, "edges": [{"source": f"n{at}", "target": f"n{at + 1}"} for at in range(length - 1)]}


def position(snapshot: Snapshot) -> dict[str, Any]:
    """Return the state at a checkpoint, in a form that does not depend on the order of due nodes."""
    values = dict(snapshot.values)
    sends = {(send.node, send.arg.round) for send in values.pop("__pregel_tasks", ())}
    joins = {
        name: (value[0], dict(map(tuple, value[1])), value[2])
        for name, value in values.items()
        if name.startswith(("gate:", "loop:"))
    }
    return {"records": values[NODE_RECORDS], "due": sends, **joins}


def missing(reference: PlayedRun, stretched: PlayedRun) -> list[int]:
    """Return the checkpoints of a run node by node that the same run in stretches does not have."""
    known = [position(snapshot) for snapshot in stretched.snapshots]
    return [at for at, snapshot in enumerate(reference.snapshots) if position(snapshot) not in known]


@pytest.mark.parametrize("block", range(4))
async def test_a_random_program_has_the_checkpoints_of_a_run_node_by_node(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stretch that ends early changes the order of visits.
    monkeypatch.setattr(stretches, "YIELD_S", 3600.0)
    monkeypatch.setattr(loop_share.LoopShare, "is_used_up", False)
    for seed in range(7000 + block, sample(7024, 7400), 4):
        spec = graph_of(draw_program(seed, SIZE)[0])
        reference, stretched = await play(spec, breakpoints=NODE_BY_NODE), await play(spec)
        assert (stretched.status, stretched.output) == (reference.status, reference.output), seed
        assert missing(reference, stretched) == [], seed


@pytest.mark.parametrize("yield_s", [0.0, stretches.YIELD_S])
async def test_a_random_program_with_tasks_ends_the_same_from_each_checkpoint_of_a_stretch(
    yield_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "YIELD_S", yield_s)
    for seed in range(7300, sample(7305, 7360)):
        spec, random = graph_of(draw_program(seed, SIZE)[0]), Random(seed)
        for node in spec["nodes"]:
            if random.random() < 0.3:
                node["timeoutS"] = 60  # a node with a time limit is no inline node
        stretched = await play(spec)
        for at in random.sample(range(len(stretched.snapshots)), min(8, len(stretched.snapshots))):
            rest = await play(spec, (stretched.frontier(at), stretched.snapshots[at].step), stretched.outputs)
            assert (rest.status, rest.output) == (stretched.status, stretched.output), (seed, at)


async def test_a_chain_of_inline_nodes_is_one_entry() -> None:
    journal = RecordedJournal()
    nodes = [{"id": f"n{at}", "type": "transform", "config": {"output": at}} for at in range(10)]
    edges = [{"source": f"n{at}", "target": f"n{at + 1}"} for at in range(9)]
    executor, settled = await play_inline({"nodes": nodes, "edges": edges}, journal=journal)
    assert executor.final_status is RunStatus.COMPLETED
    assert [node_id for node_id, _ in settled] == [f"n{at}" for at in range(10)]
    assert len(journal.entries) == 1


async def test_each_visit_of_a_stretch_has_a_step_of_its_own() -> None:
    played = await play(chain(5))
    assert [snapshot.step for snapshot in played.snapshots] == list(range(6))
    assert [sorted(snapshot.values[NODE_RECORDS]) for snapshot in played.snapshots] == [
        [f"n{at}" for at in range(count)] for count in range(6)
    ]


async def test_a_step_in_which_no_visit_has_settled_is_not_recorded() -> None:
    head, node = RecordingHeadStore(), {"id": "n", "type": "transform", "config": {"output": 1}}
    graph = head.bind(compile_spec(parse({"nodes": [node], "edges": []}), TYPES))
    info = RunInfo("run_test", "prj_test", 1, 0, {})
    executor = RunExecutor(info, graph, journal=RecordedJournal(), head=head, resources={})
    executor._steps.end_step()
    assert executor._steps.take() == []
    assert await executor.run() is RunStatus.COMPLETED
    executor._steps.end_step()
    assert executor._steps.take() == []


async def test_a_stretch_ends_after_its_largest_number_of_visits() -> None:
    journal, head = RecordedJournal(), MemoryHeadStore()
    loop = {"id": "n", "type": "transform", "config": {"output": "{{ (n.last_output or 0) + 1 }}"}, "maxVisits": 2000}
    edges = [{"source": "n", "target": "n", "condition": "n.output < 1001"}]
    graph = head.bind(compile_spec(parse({"nodes": [loop], "edges": edges}), TYPES))
    info = RunInfo("run_test", "prj_test", 1, 0, {})
    executor = RunExecutor(info, graph, journal=journal, head=head, resources={})
    assert await executor.run() is RunStatus.COMPLETED
    sizes = [len([1 for _, event in entry.events_to_write if event.type == "NODE_STATE"]) for entry in journal.entries]
    assert sum(sizes) == 1001 and max(sizes) <= MAX_VISITS + 1


async def test_the_nodes_after_a_result_need_no_superstep(monkeypatch: pytest.MonkeyPatch) -> None:
    invocations = 0
    invoke = CompiledGraph.invoke

    def counted(self: CompiledGraph, *arguments: Any) -> Any:
        nonlocal invocations
        invocations += 1
        return invoke(self, *arguments)

    monkeypatch.setattr(CompiledGraph, "invoke", counted)
    spec = chain(7)
    for at in (2, 5):
        spec["nodes"][at]["timeoutS"] = 60  # a node with a time limit is no inline node
    played = await play(spec)
    assert (played.status, invocations) == (RunStatus.COMPLETED, 0)
    records = [snapshot.values[NODE_RECORDS] for snapshot in played.snapshots]
    settled = [sum(record.status is NodeStatus.COMPLETED for record in each.values()) for each in records]
    assert settled == sorted(settled) and set(settled) == set(range(8)), "a checkpoint between any two visits"
