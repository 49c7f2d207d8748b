"""Random graphs that nobody would draw: they end, every node settles, and stops in between change nothing."""

import asyncio
from collections import Counter
from random import Random
from typing import Any

import pytest

from engine.fork.frontier import channel_values, restart_unfinished
from engine.graph.plan import PlanError, PlanNode, make_plan
from engine.runtime.executor import RunExecutor
from engine.runtime.run_info import RunInfo
from engine.spec.parser import parse
from engine.states import RunStatus
from tests.engine.checkpoint_history import (
    PlayedRun,
    RecordingHeadStore,
    Snapshot,
    compile_mix,
    play,
    with_outputs,
)
from tests.engine.memory_ports import RecordedJournal
from tests.samples import sample

MAX_VISITS = 12


def draw_graph(seed: int, *, is_racy: bool = False) -> dict[str, Any]:
    """Draw a graph of nested loops, self-loops and error branches, with conditions on most edges.

    Args:
        seed: The seed.
        is_racy: Whether nodes that run as tasks, and joins by `any`, may be in one graph. Then
            their order decides what runs.
    """
    random = Random(seed)
    while True:
        spec = _draw(random, is_racy)
        try:
            plan = make_plan(parse(spec))
        except PlanError:
            continue
        for node in spec["nodes"]:
            node["config"]["sees"] = [_seen(name) for name in _settled_sources(plan.nodes[node["id"]])]
        return spec


def _settled_sources(node: PlanNode) -> list[str]:
    """Return the nodes before a node that have certainly ended when it runs, so that no order decides what it sees.

    After an exit that was taken in an earlier round, the loop may still run.
    """
    edges = [] if node.joins_any else [edge for edge in node.entries if not edge.leaves]
    return list(dict.fromkeys(edge.source for edge in (*edges, *node.back_edges) if edge.source != "__start__"))


def _draw(random: Random, is_racy: bool) -> dict[str, Any]:
    size, has_tasks = random.randint(3, 8), is_racy or random.random() < 0.5
    nodes: list[dict[str, Any]] = [{"id": f"n{at}", "type": "mix", "config": {}} for at in range(size)]
    pairs = [(random.randrange(at), at) for at in range(1, size)]
    pairs += [(random.randrange(size), random.randrange(size)) for _ in range(random.randint(1, size))]
    edges = []
    for source, target in dict.fromkeys(pairs):
        edge: dict[str, Any] = {"source": f"n{source}", "target": f"n{target}"}
        visit = f"n{source}.last_output.n"
        if target <= source:
            edge["condition"] = f"{visit} % {random.randint(2, 4)} != 0"
        elif random.random() < 0.6:
            every = random.randint(2, 3)
            edge["condition"] = f"{visit} % {every} {random.choice(['==', '!='])} {random.randrange(every)}"
        edges.append(edge)
    for node in nodes:
        node["maxVisits"] = MAX_VISITS
        if has_tasks:
            node["type"] = random.choice(["mix", "slow"])
        if (is_racy or not has_tasks) and random.random() < 0.3:
            node["join"] = random.choice(["any", {"mode": "any", "cancelOthers": True}])
        if random.random() < 0.15:
            _fail(node, edges, random)
    return {"nodes": nodes, "edges": edges}


def _seen(name: str) -> str:
    """Return a template for the output of a node, which is an error if the node has failed."""
    return f"{{{{ {{'v': {name}.output.v | default(0)}} if {name}.output is not none else none }}}}"


def _fail(node: dict[str, Any], edges: list[dict[str, Any]], random: Random) -> None:
    """Let a node fail at every visit, and lead some of its edges out of the port `error`."""
    node["config"]["fails"], node["onError"] = 10**6, random.choice(["branch", "continue"])
    for edge in edges:
        if edge["source"] == node["id"]:
            edge.pop("condition", None)
            if node["onError"] == "branch" and random.random() < 0.7:
                edge["port"] = "error"
                if int(edge["target"][1:]) <= int(node["id"][1:]):
                    edge["condition"] = f"{random.choice(['true', 'false'])}"


async def play_with_stops(spec: dict[str, Any], **stops: Any) -> tuple[RunStatus | None, Any, list[tuple[str, int]]]:
    """Execute a run that pauses again and again, each time with a new executor as after a resume."""
    ran: list[tuple[str, int]] = []
    graph = compile_mix(spec, ran=ran)
    start: Snapshot | None = None
    for epoch in range(1, 500):
        saver, journal = RecordingHeadStore(start), RecordedJournal()
        resumed = {} if start is None else {"resumed_step": start.step}
        info = RunInfo("run_test", "prj_test", epoch, 0, {}, **resumed, **stops)
        executor = RunExecutor(info, saver.bind(graph), journal=journal, head=saver, resources={})
        status = await asyncio.wait_for(executor.run(), 60)
        if status is not RunStatus.PAUSED:
            output = next((entry.change.output for entry in reversed(journal.entries) if entry.change), None)
            return status, output, ran
        start = saver.snapshots[-1]
    raise AssertionError("the run does not end")


async def resume_difference(spec: dict[str, Any], original: PlayedRun) -> str:
    """Return the first checkpoint from which the run does not go on as before."""
    plan = original.compiled.plan
    for at, snapshot in enumerate(original.snapshots):
        frontier = restart_unfinished(plan, original.frontier(at))
        assert channel_values(plan, frontier)
        rest = await play(
            spec, (with_outputs(frontier, original.outputs), snapshot.step), original.outputs, original.ran
        )
        if (rest.status, rest.output) != (original.status, original.output):
            return f"from checkpoint {at}: {rest.status} {rest.output} instead of {original.output}"
        repeated = set(rest.ran) & finished_at(original, at)
        if repeated:
            return f"from checkpoint {at}: {repeated} ran again"
    return ""


def finished_at(original: PlayedRun, at: int) -> set[tuple[str, int]]:
    """Return the visits that had finished at a checkpoint."""
    visits = original.history(at).visits.items()
    return {(name, visit.visits) for name, past in visits for visit in past if visit.ended is not None and visit.visits}


def unsettled(seed: int, played: PlayedRun) -> str:
    """Return which nodes have neither run nor been skipped in a run; empty if all have.

    A run may only fail because a node has reached its maxVisits.
    """
    if played.status is RunStatus.FAILED:
        most = max(Counter(name for name, _ in played.ran).values())
        return "" if most == MAX_VISITS else f"seed {seed}: failed after {most} visits"
    records = played.head().records
    names = {node["id"] for node in played.raw["nodes"]}
    unfinished = {name for name in names if name not in records or not records[name].status.is_finished}
    return f"seed {seed}: {unfinished} have not ended" if unfinished else ""


async def difference(seed: int) -> str:
    """Return what is wrong with a random graph; empty if nothing is."""
    spec = draw_graph(seed)
    original = await play(spec)
    if (text := unsettled(seed, original)) or original.status is RunStatus.FAILED:
        return text
    expected = (original.status, original.output, sorted(original.ran))
    names = frozenset(node["id"] for node in spec["nodes"])
    for stops in ({"is_step": True}, {"breakpoints": names}):
        status, output, ran = await play_with_stops(spec, **stops)
        if (status, output, sorted(ran)) != expected:
            return f"seed {seed}: with {stops} {status} {output} {ran} instead of {expected}"
    text = await resume_difference(spec, original)
    return text and f"seed {seed} {text}"


@pytest.mark.parametrize("block", range(4))
async def test_a_random_graph_ends_and_stops_change_nothing(block: int) -> None:
    assert not [text for seed in range(block, sample(24, 80), 4) if (text := await difference(seed))]


async def test_a_random_graph_whose_order_decides_ends_as_well() -> None:
    played = [(seed, await play(draw_graph(seed, is_racy=True))) for seed in range(7000, sample(7060, 7200))]
    assert not [text for seed, run in played if (text := unsettled(seed, run))]


def test_random_graphs_have_loops_of_every_kind() -> None:
    plans = [make_plan(parse(draw_graph(seed))) for seed in range(240)]
    loops = [loop for plan in plans for loop in plan.loops.values()]
    assert sum(loop.parent is not None for loop in loops) > 20
    assert sum(len(loop.body) == 1 for loop in loops) > 20
    assert (
        sum(edge.closes and edge.leaves > 0 for plan in plans for node in plan.nodes.values() for edge in node.out) > 10
    )
    assert sum(bool(loop.any_joins) for loop in loops) > 5
