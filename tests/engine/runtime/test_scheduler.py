"""The scheduler by itself: the limits of a stretch, breakpoints and steps, conditions, and the states of its nodes."""

import asyncio
from typing import Any

import pytest
from langgraph.constants import TASKS
from langgraph.types import Send

from engine.graph.channels import NODE_RECORDS, Signal
from engine.graph.compiler import compile_spec
from engine.runtime import stretches
from engine.runtime.executor import RunExecutor
from engine.runtime.run_info import RunInfo, StopReason
from engine.runtime.stretches import StretchLimit
from engine.spec.parser import parse
from engine.states import NodeStatus, RunStatus
from tests.engine.checkpoint_history import RecordingHeadStore, Snapshot
from tests.engine.memory_ports import RecordedJournal
from tests.executor_worker import GatedNode, edges, node, node_types

TWO = {"nodes": [node("a"), node("b")], "edges": edges("a>b")}


def executor_of(
    spec: Any, journal: RecordedJournal, *, start: Snapshot | None = None, gate: GatedNode | None = None, **info: Any
) -> RunExecutor:
    """Return the executor of a new run, or of one that continues at the snapshot `start`."""
    head = RecordingHeadStore(start)
    graph = compile_spec(parse(spec), node_types(gate or GatedNode()), head)
    epoch = 1 if start is None else 2
    run_info = RunInfo("run_test", "prj_test", epoch, 0, {}, **info)
    return RunExecutor(run_info, graph, journal=journal, head=head, resources={})


async def play(spec: Any, **fields: Any) -> tuple[RunExecutor, RecordedJournal]:
    journal = RecordedJournal()
    executor = executor_of(spec, journal, **fields)
    await asyncio.wait_for(executor.run(), 60)
    return executor, journal


def completed(journal: RecordedJournal) -> list[str]:
    return [state.node_id for state in journal.states if state.status is NodeStatus.COMPLETED]


class Clock:
    """A clock that the test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(0.0)
    monkeypatch.setattr(stretches, "perf_counter", clock)
    return clock


async def yields(limit: StretchLimit) -> bool:
    """Count a visit, and return whether another task could run meanwhile."""
    seen = asyncio.Event()
    asyncio.get_running_loop().call_soon(seen.set)
    async with asyncio.timeout(30):
        await limit.count_visit()
    return seen.is_set()


async def test_a_stretch_yields_after_five_milliseconds_of_work(clock: Clock) -> None:
    limit, seen = StretchLimit(), []
    for now in (0.0049, 0.005, 0.0099, 0.0101, 0.0150, 0.0152, 4.0):
        clock.now = now
        seen.append((await yields(limit), limit.has_yielded))
    assert seen == [
        (False, False),
        (True, True),
        (False, True),
        (True, True),
        (False, True),
        (True, True),
        (True, True),
    ]


@pytest.mark.parametrize(
    ("began", "times", "is_reached"),
    [(0.0, [0.02, 0.0499], False), (0.0, [0.02, 0.05], True), (8.0, [8.04], False), (8.0, [16.0], True)],
)
async def test_a_stretch_ends_after_fifty_milliseconds(
    clock: Clock, began: float, times: list[float], is_reached: bool
) -> None:
    clock.now = began
    limit = StretchLimit()
    for clock.now in times:
        await limit.count_visit()
    assert limit.is_reached is is_reached


@pytest.mark.parametrize(("resumed", "is_reached"), [(0.199, False), (0.2, True), (0.3, True)])
async def test_a_stretch_ends_after_two_hundred_milliseconds_with_its_waits(
    clock: Clock, resumed: float, is_reached: bool
) -> None:
    clock.now = 0.0
    limit = StretchLimit()
    clock.now = 0.005
    asyncio.get_running_loop().call_soon(setattr, clock, "now", resumed)
    await limit.count_visit()
    assert limit.is_reached is is_reached


async def test_a_stretch_ends_after_250_visits(clock: Clock) -> None:
    limit, seen = StretchLimit(), []
    for _ in range(252):
        await limit.count_visit()
        seen.append(limit.is_reached)
    assert seen == [False] * 249 + [True] * 3


FORK = {
    "nodes": [node("s"), node("t", "tick"), *(node(f"n{at}") for at in range(5))],
    "edges": edges("s>t s>n0 n0>n1 n1>n2 n2>n3 n3>n4"),
}
CHAIN = {"nodes": [node(f"n{at}") for at in range(5)], "edges": edges("n0>n1 n1>n2 n2>n3 n3>n4")}


@pytest.mark.parametrize(
    ("spec", "yield_s", "first"),
    [(FORK, 3600.0, 6), (FORK, 0.0, 1), (CHAIN, 3600.0, 5), (CHAIN, 0.0, 5)],
    ids=["a task, and no yield", "a task, and a yield", "no task, and no yield", "no task, and a yield"],
)
async def test_a_stretch_that_has_yielded_ends_if_a_task_waits_for_its_commit(
    spec: Any, yield_s: float, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "YIELD_S", yield_s)
    executor, journal = await play(spec)
    assert executor.final_status is RunStatus.COMPLETED
    events = [event for _, event in journal.entries[0].events_to_write]
    done = [event for event in events if event.type == "NODE_STATE" and event.state.status is NodeStatus.COMPLETED]
    assert len(done) == first


def at(step: int, *, held: bool) -> Snapshot:
    """Return a checkpoint in which `a` is due."""
    return Snapshot(step, {NODE_RECORDS: {}, TASKS: [Send("a", Signal((), held=held))]})


STOPS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a new run": ({}, []),
    "a new run in steps": ({"is_step": True}, []),
    "a step that begins here": ({"is_step": True, "resumed_step": 0, "start": at(0, held=False)}, ["a"]),
    "a later step that begins here": ({"is_step": True, "resumed_step": 5, "start": at(5, held=False)}, ["a"]),
    "a resumed run that comes here": ({"resumed_step": 0, "start": at(1, held=False)}, []),
    "a run that is resumed here": ({"resumed_step": 1, "start": at(1, held=True)}, ["a", "b"]),
}


@pytest.mark.parametrize("name", STOPS)
async def test_a_run_pauses_before_a_breakpoint_unless_it_goes_on_from_there(name: str) -> None:
    fields, expected = STOPS[name]
    executor, journal = await play(TWO, breakpoints=frozenset({"a"}), **fields)
    assert completed(journal) == expected
    assert executor.final_status is (RunStatus.COMPLETED if len(expected) == 2 else RunStatus.PAUSED)


CONDITIONS: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "of __start__": (
        {**TWO, "edges": [{"source": "__start__", "target": "a", "condition": "1 > 'x'"}]},
        "the condition of an edge out of __start__: ",
        None,
    ),
    "of a node": ({**TWO, "edges": edges("a>b", a_b="1 > 'x'")}, "the condition of an edge out of 'a': ", "a"),
}


@pytest.mark.parametrize("name", CONDITIONS)
async def test_a_condition_that_cannot_be_evaluated_fails_the_run(name: str) -> None:
    spec, message, node_id = CONDITIONS[name]
    executor, journal = await play(spec)
    change = journal.entries[-1].change
    assert executor.final_status is RunStatus.FAILED
    assert change is not None and change.error is not None
    assert (change.error.code, change.error.node_id) == ("EXPRESSION", node_id)
    assert change.error.message.startswith(message)
    assert "b" not in completed(journal)


@pytest.mark.parametrize(("on_error", "progress"), [("fail", 0.0), ("continue", 1.0), ("branch", 1.0)])
async def test_a_node_that_fails_at_once_shows_no_progress(on_error: str, progress: float) -> None:
    failing = {"id": "f", "type": "transform", "config": {"output": "{{ 1 > 'x' }}"}, "onError": on_error}
    executor, journal = await play({"nodes": [failing], "edges": []})
    [state] = journal.states
    assert (state.status, state.progress) == (NodeStatus.FAILED, 0.0)
    assert executor.state.progress == progress


@pytest.mark.parametrize("stop", [StopReason.CANCEL, StopReason.PAUSE])
async def test_a_node_that_is_interrupted_shows_why(stop: StopReason) -> None:
    """One of three nodes has ended. Those that a cancel ends count as not done."""
    gate, journal = GatedNode(), RecordedJournal()
    spec = {"nodes": [node("a"), {"id": "g", "type": "gated"}, node("z")], "edges": edges("a>g g>z")}
    executor = executor_of(spec, journal, gate=gate)
    running = asyncio.create_task(executor.run())
    await asyncio.wait_for(gate.running.wait(), 60)
    executor.request(stop)
    executor.interrupt()
    await asyncio.wait_for(running, 60)
    shown = {state.node_id: (state.status, state.message) for state in journal.states if state.node_id != "a"}
    assert executor.state.progress == 1 / 3
    if stop is StopReason.CANCEL:
        assert shown == {"g": (NodeStatus.CANCELLED, None), "z": (NodeStatus.CANCELLED, None)}
    else:
        assert shown == {"g": (NodeStatus.IDLE, "Interrupted by the pause; runs again on resume")}
