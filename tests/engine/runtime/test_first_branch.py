"""A `join: any` goes on with its first branch: what has no effect any more is cancelled, and the run ends."""

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from engine.errors import NodeFailure
from engine.events import NodeChange, NodeState
from engine.graph.compiler import compile_spec
from engine.nodes.registry import load_node_types
from engine.runtime import stretches
from engine.runtime.executor import RunExecutor
from engine.runtime.run_info import RunInfo
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.sdk.node_types import NodeTypes
from engine.spec.parser import parse
from engine.states import NodeStatus, RunStatus
from engine.types import JSON
from tests.engine.checkpoint_history import RecordingHeadStore
from tests.engine.graph.program_generator import draw_program
from tests.engine.graph.program_graph import graph_of
from tests.engine.graph.test_liveness import outside_of_branches
from tests.engine.memory_ports import RecordedJournal
from tests.engine.nodes.map.map_nodes import MemoryItems
from tests.engine.runtime.test_programs import outputs_of

LONG_S = 60
"""Seconds of a branch that must be cancelled: a run that waited for it would fail the test."""


class SlowConfig(NodeConfig):
    seconds: float = 0
    fails: bool = False
    cleanup: str = ""


class SlowNode(NodeType[SlowConfig]):
    """Takes some seconds. `cleanup` says what it does when it is cancelled: `fails`, or `ends` all the same."""

    name = "slow"
    title = "SlowNode"
    description = "For tests."
    Config = SlowConfig

    async def execute(self, config: SlowConfig, ctx: NodeContext) -> Output:
        try:
            await asyncio.sleep(config.seconds)
        except asyncio.CancelledError:
            if config.cleanup == "fails":
                raise NodeFailure("TEST", "the cleanup fails") from None
            if config.cleanup != "ends":
                raise
        if config.fails:
            raise NodeFailure("TEST", "fails", retryable=True)
        return Output(ctx.node_id)


TYPES = NodeTypes([*load_node_types().values(), SlowNode()])


@dataclass(frozen=True, slots=True)
class BranchRun:
    """The end of a run in memory, with all states of its nodes in order."""

    status: RunStatus | None
    output: JSON
    states: list[NodeState]
    journal: RecordedJournal

    @property
    def statuses(self) -> dict[str, str]:
        return {state.node_id: state.status.value for state in self.states}


async def play(spec: JSON, resources: Any = None) -> BranchRun:
    saver, journal = RecordingHeadStore(), RecordedJournal()
    info = RunInfo("run_test", "prj_test", 1, 0, {})
    graph = compile_spec(parse(spec), TYPES, saver)
    executor = RunExecutor(info, graph, journal=journal, head=saver, resources=resources or {})
    await asyncio.wait_for(executor.run(), 120)
    change = next((entry.change for entry in reversed(journal.entries) if entry.change), None)
    return BranchRun(executor.final_status, change and change.output, journal.states, journal)


def wait(node_id: str, seconds: float = LONG_S) -> dict[str, Any]:
    # A timer of less than five seconds is awaited in the process. A longer one would end the test as WAITING.
    return {"id": node_id, "type": "delay", "config": {"seconds": seconds}}


def slow(node_id: str, seconds: float = LONG_S, **fields: Any) -> dict[str, Any]:
    config = {name: fields.pop(name) for name in ("fails", "cleanup") if name in fields}
    return {"id": node_id, "type": "slow", "config": {"seconds": seconds, **config}, **fields}


def value(node_id: str, output: JSON = 1, **fields: Any) -> dict[str, Any]:
    return {"id": node_id, "type": "transform", "config": {"output": output}, **fields}


ANY = {"join": "any"}
FIRST = {"join": {"mode": "any", "cancelOthers": True}}
END: dict[str, Any] = {"id": "e", "type": "end", "config": {"output": "{{ j.output }}"}}
START: dict[str, Any] = {"id": "s", "type": "start", "config": {}}


def graph(edges: str, *nodes: dict[str, Any], outputs: JSON = None, **conditions: str) -> dict[str, Any]:
    """Return a spec of these nodes with the edges `a>b b>c`; `a_b` is the condition of the edge `a>b`."""
    pairs = [pair.split(">") for pair in edges.split()]
    listed = [{"source": s, "target": t, "condition": conditions.get(f"{s}_{t}")} for s, t in pairs]
    spec = {"nodes": [START, *nodes], "edges": listed}
    return spec if outputs is None else spec | {"outputs": outputs}


TWO = "s>a s>b a>j b>j j>e"
ROUNDS = value("h", "{{ (h.last_output or 0) + 1 }}")
CANCELLED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "the other of two waits": (
        graph(TWO, wait("a", 0), wait("b"), value("j", **ANY), END),
        {"b": "CANCELLED", "j": "COMPLETED", "e": "COMPLETED"},
    ),
    "the others of three": (
        graph(TWO + " s>c c>j", wait("a", 0), wait("b"), wait("c"), value("j", **ANY), END),
        {"b": "CANCELLED", "c": "CANCELLED"},
    ),
    "a wait that the join itself reads": (
        graph(TWO, wait("a", 0), wait("b"), value("j", "{{ a.output or b.output }}", **ANY), END),
        {"b": "CANCELLED"},
    ),
    "a wait that the end reads": (
        graph(TWO, wait("a", 0), wait("b"), value("j", **ANY), END | {"config": {"output": "{{ b.output }}"}}),
        {"b": "CANCELLED", "e": "COMPLETED"},
    ),
    "a wait before an end that joins by any": (
        graph("s>a s>b a>e b>e", wait("a", 0), wait("b"), {"id": "e", "type": "end", **ANY}),
        {"b": "CANCELLED", "e": "COMPLETED"},
    ),
    "a wait with pure nodes before the join": (
        graph("s>a s>b a>j b>t t>u u>j j>e", wait("a", 0), wait("b"), value("t"), value("u"), value("j", **ANY), END),
        {"b": "CANCELLED", "t": "SKIPPED", "u": "SKIPPED"},
    ),
    "a wait that a pure node without effect follows": (
        graph(TWO + " b>t", wait("a", 0), wait("b"), value("j", **ANY), value("t"), END),
        {"b": "CANCELLED", "t": "SKIPPED"},
    ),
    "a wait in a loop of its own": (
        graph(
            "s>a s>b b>c c>b c>j a>j j>e",
            wait("a", 0),
            wait("b"),
            value("c"),
            value("j", **ANY),
            END,
            c_b="c.last_output == 2",
            c_j="c.last_output == 1",
        ),
        {"b": "CANCELLED", "c": "SKIPPED"},
    ),
    "a wait before two joins that have both gone on": (
        graph("s>a s>b a>j b>j a>k b>k j>e k>e", wait("a", 0), wait("b"), value("j", **ANY), value("k", **ANY), END),
        {"b": "CANCELLED"},
    ),
    "a wait that begins after the join has gone on": (
        graph(
            "s>a s>b b>c a>j c>j j>e j>z",
            wait("a", 0),
            slow("b", 0.1),
            wait("c"),
            value("j", **ANY),
            END,
            wait("z", 0.5),
        ),
        {"b": "COMPLETED", "c": "CANCELLED", "z": "COMPLETED"},
    ),
    "two waits that read each other": (
        graph(
            "s>a s>b s>c b>t c>u t>j u>j a>j j>e",
            wait("a", 0),
            wait("b"),
            wait("c"),
            value("t", "{{ c.output }}"),
            value("u", "{{ b.output }}"),
            value("j", **ANY),
            END,
        ),
        {"b": "CANCELLED", "c": "CANCELLED"},
    ),
    "a slow node, if the join says so": (
        graph(TWO, slow("a", 0), slow("b"), value("j", **FIRST), END),
        {"b": "CANCELLED", "e": "COMPLETED"},
    ),
    "a wait whose output is an output of the run, if the join says so": (
        graph(TWO, wait("a", 0), wait("b"), value("j", **FIRST), END, outputs={"b": "{{ b.output }}"}),
        {"b": "CANCELLED"},
    ),
    "a whole branch, if the join says so": (
        graph(
            "s>a s>b b>c c>d d>j a>j j>e", slow("a", 0.05), slow("b", 0), slow("c"), slow("d"), value("j", **FIRST), END
        ),
        {"b": "COMPLETED", "c": "CANCELLED", "d": "SKIPPED"},
    ),
    "a node that is due when the join goes on": (
        graph(
            "s>u u>v v>b b>j s>t t>w w>j j>e",
            *map(value, "uvtw"),
            slow("b"),
            value("j", **FIRST),
            END,
        ),
        {"b": "CANCELLED", "v": "COMPLETED", "e": "COMPLETED"},
    ),
    "a node whose code has not started": (
        graph("s>b s>a b>j a>j j>e", slow("b"), value("a"), value("j", **FIRST), END),
        {"b": "CANCELLED", "e": "COMPLETED"},
    ),
    "a node before one that is due": (
        graph("s>u u>v v>b b>j s>t t>j j>e", *map(value, "utv"), slow("b"), value("j", **FIRST), END),
        {"b": "SKIPPED", "v": "CANCELLED", "e": "COMPLETED"},
    ),
    "a node whose other entries have ended": (
        graph(
            "s>a s>b s>c b>m c>m m>j a>j j>e",
            slow("a", 0.05),
            slow("b", 0),
            slow("c"),
            slow("m"),
            value("j", **FIRST),
            END,
        ),
        {"b": "COMPLETED", "c": "CANCELLED", "m": "CANCELLED", "e": "COMPLETED"},
    ),
    "a node between two attempts": (
        graph(
            TWO,
            slow("a", 0.05),
            slow("b", 0, fails=True, retry={"backoffS": LONG_S}),
            value("j", **FIRST),
            END,
        ),
        {"b": "CANCELLED", "e": "COMPLETED"},
    ),
    "a node that fails because it is cancelled": (
        graph(TWO, slow("a", 0.05), slow("b", cleanup="fails"), value("j", **FIRST), END),
        {"b": "CANCELLED", "e": "COMPLETED"},
    ),
    "the branches of an inner join": (
        graph(
            "s>a s>b s>c b>i c>i i>j a>j j>e",
            slow("a", 0.05),
            slow("b"),
            slow("c"),
            slow("i", join="any"),
            value("j", **FIRST),
            END,
        ),
        {"b": "CANCELLED", "c": "CANCELLED", "i": "SKIPPED"},
    ),
    "a loop that polls": (
        graph(
            "s>a s>b b>p p>b p>j a>j j>e",
            slow("a", 0.1),
            slow("b", 0.01),
            wait("p", 0.01),
            value("j", **FIRST),
            END,
            p_b="true",
            p_j="false",
        ),
        {"e": "COMPLETED"},
    ),
}


@pytest.mark.parametrize("yield_s", [0.0, stretches.YIELD_S])
@pytest.mark.parametrize("name", CANCELLED)
async def test_a_node_without_effect_is_cancelled_and_the_run_ends(
    name: str, yield_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stretch that yields after each node can cancel a task before the first step of its coroutine.
    monkeypatch.setattr(stretches, "YIELD_S", yield_s)
    spec, statuses = CANCELLED[name]
    played = await play(spec)
    assert played.status is RunStatus.COMPLETED
    assert {node_id: played.statuses[node_id] for node_id in statuses} == statuses
    for state in played.states:
        if state.status is NodeStatus.CANCELLED:
            assert state.message is not None
            assert "join: any" in state.message
            assert not state.has_output
            assert state.completed_at is not None


SHORT_S = 0.3
KEPT: dict[str, dict[str, Any]] = {
    "an output of the run is read from it": graph(
        TWO, wait("a", 0), wait("b", SHORT_S), value("j", **ANY), END, outputs={"b": "{{ b.output }}"}
    ),
    "the output of the run reads all nodes": graph(
        TWO, wait("a", 0), wait("b", SHORT_S), value("j", **ANY), END, outputs={"b": "{{ nodes | length }}"}
    ),
    "a task follows": graph(TWO + " b>t", wait("a", 0), wait("b", SHORT_S), value("j", **ANY), slow("t", 0), END),
    "a pure node follows whose output is that of the run": graph(
        "s>a s>b a>j b>j b>t", wait("a", 0), wait("b", SHORT_S), value("j", **ANY), value("t")
    ),
    "another end follows": graph(
        TWO + " b>f",
        wait("a", 0),
        wait("b", SHORT_S),
        value("j", **ANY),
        END,
        {"id": "f", "type": "end", "config": {"output": 1}},
    ),
    "a join of all branches follows": graph(
        TWO + " b>k a>k k>t",
        wait("a", 0),
        wait("b", SHORT_S),
        value("j", **ANY),
        value("k"),
        slow("t", 0),
        END,
    ),
    "a node that has another entry reads it": graph(
        "s>a s>b a>j a>m b>m m>j j>e",
        wait("a", 0),
        wait("b", SHORT_S),
        value("m", "{{ b.output.until }}"),
        value("j", **ANY),
        END,
    ),
    "a node that can still run reads it": graph(
        TWO + " j>y y>z",
        wait("a", 0),
        wait("b", 0.1),
        value("j", **ANY),
        wait("y", SHORT_S),
        value("z", "{{ nodes['b'].status }}"),
        END,
    ),
    "a condition that is still to come reads it": graph(
        TWO + " j>y y>z",
        wait("a", 0),
        wait("b", 0.1),
        value("j", **ANY),
        wait("y", SHORT_S),
        value("z"),
        END,
        y_z="b.output.until",
    ),
    "no join has gone on": graph(TWO, wait("a", 0), wait("b", SHORT_S), value("j", **ANY), END, a_j="a.output is none"),
    "the join waits for all": graph(TWO, wait("a", 0), wait("b", SHORT_S), value("j"), END),
    "nothing follows": graph("s>a s>b a>e", wait("a", 0), wait("b", SHORT_S), {"id": "e", "type": "end"}),
    "it is a task, and the join does not cancel": graph(TWO, slow("a", 0), slow("b", SHORT_S), value("j", **ANY), END),
    "a node with effects follows outside of the join": graph(
        TWO + " b>t", slow("a", 0), slow("b", SHORT_S), value("j", **FIRST), slow("t", 0), END
    ),
    "its code ends all the same": graph(TWO, slow("a", 0.05), slow("b", cleanup="ends"), value("j", **FIRST), END),
}


@pytest.mark.parametrize("name", KEPT)
async def test_a_node_with_an_effect_is_not_cancelled_because(name: str) -> None:
    played = await play(KEPT[name])
    assert played.status is RunStatus.COMPLETED
    assert played.statuses["b"] == "COMPLETED"
    assert "CANCELLED" not in played.statuses.values()


@pytest.mark.parametrize("kind", [wait, slow])
async def test_in_a_loop_the_first_branch_of_each_round_counts(kind: Any) -> None:
    """The first branch can end before the other one waits, so that `b` is RUNNING or WAITING then."""
    seen = "{{ (j.last_output or []) + [[h.output, b.output, b.status in ['RUNNING', 'WAITING']]] }}"
    spec = graph(
        "s>h h>a h>b a>j b>j j>t t>h t>e",
        ROUNDS,
        kind("a", 0),
        kind("b"),
        value("j", seen, **(ANY if kind is wait else FIRST)),
        value("t"),
        END,
        t_h="h.output < 3",
        t_e="h.output >= 3",
    )
    played = await play(spec)
    assert played.status is RunStatus.COMPLETED
    assert played.output == [[1, None, True], [2, None, True], [3, None, True]]
    counts = [(state.node_id, state.visits) for state in played.states if state.status is NodeStatus.CANCELLED]
    assert counts == [("b", 1), ("b", 2), ("b", 3)]


async def test_the_cancel_is_in_the_entry_in_which_the_join_goes_on() -> None:
    played = await play(CANCELLED["the other of two waits"][0])
    [entry] = [entry for entry in played.journal.entries if entry.settled_wait_ids]
    assert len(entry.settled_wait_ids) == 2
    changes = [event.state for _, event in entry.events_to_write if isinstance(event, NodeChange)]
    ended = [(state.node_id, state.status.value) for state in changes if state.status.is_finished]
    assert ended[:2] == [("a", "COMPLETED"), ("b", "CANCELLED")]


async def test_a_cancelled_node_shows_no_output_of_an_earlier_visit() -> None:
    """In the second round `b` is cancelled: templates see null, as its NodeState does."""
    first = graph(
        "s>h h>a h>b a>j b>j j>h j>e",
        ROUNDS,
        {"id": "a", "type": "delay", "config": {"seconds": "{{ 0.2 if h.output == 1 else 0 }}"}},
        {"id": "b", "type": "delay", "config": {"seconds": "{{ 0 if h.output == 1 else 60 }}"}},
        value("j", **FIRST),
        END,
        j_h="h.output < 2",
        j_e="h.output >= 2",
        outputs={"b": ["{{ b.status }}", "{{ b.output }}", "{{ b.last_output is none }}"]},
    )
    played = await play(first)
    assert played.output == {"b": ["CANCELLED", None, False]}


async def test_the_first_branch_wins_inside_a_map() -> None:
    inner = graph(TWO, slow("a", 0), slow("b"), value("j", "{{ item }}", **FIRST), END)
    spec = {"nodes": [{"id": "m", "type": "map", "config": {"items": [1, 2, 3], "spec": inner}}]}
    played = await play(spec, {"items": MemoryItems()})
    assert played.output == {"m": {"items": [1, 2, 3], "errors": []}}


async def test_a_stopped_run_cancels_its_branches_once() -> None:
    """The run fails while the code of a cancelled branch still runs."""
    spec = graph(TWO + " j>f", slow("a", 0), slow("b"), value("j", **FIRST), slow("f", 0, fails=True), END)
    played = await play(spec)
    assert (played.status, played.statuses["b"]) == (RunStatus.FAILED, "CANCELLED")
    assert sum(state.status is NodeStatus.CANCELLED for state in played.states if state.node_id == "b") == 1


async def random_difference(seed: int) -> str:
    """Return where a random program of tasks differs whose joins cancel the other branches."""
    program, interpreter = draw_program(seed, 18, any_joins=1.0)
    spec, random = graph_of(program) | {"outputs": {}}, Random(seed)
    for node in spec["nodes"]:
        if node.get("join") == "any":
            node["join"] = FIRST["join"]
        if random.random() < 0.6:
            node["timeoutS"] = 60
    played = await play(spec)
    names = outside_of_branches(program)
    outputs = {name: values for name, values in outputs_of(played.journal).items() if name in names}
    expected = {name: values for name, values in interpreter.outputs.items() if name in names}
    return "" if outputs == expected else f"seed {seed}: {played.status} {outputs} instead of {expected}"


async def test_random_programs_whose_joins_cancel_the_other_branches_end_as_before() -> None:
    assert not [text for seed in range(6000, 6120) if (text := await random_difference(seed))]
