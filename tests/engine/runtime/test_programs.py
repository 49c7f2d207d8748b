"""Random structured programs, run by the real executor, give what a plain interpreter says."""

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from engine.states import NodeStatus, RunStatus
from tests.engine.graph.program_generator import draw_program
from tests.engine.graph.program_graph import graph_of
from tests.engine.graph.program_interpreter import Interpreter
from tests.engine.graph.programs import Guard, Jump, Loop, Parallel, all_statements, jumps_in
from tests.engine.memory_ports import RecordedJournal, play
from tests.engine.memory_runs import run
from tests.engine.nodes.map.map_nodes import MemoryItems

BLOCKS, PROGRAMS = 8, 225
SIZE = 18
TASKS, MAPS = range(1800, 1900), range(1900, 2000)
"""The seeds of programs whose nodes run as tasks, and of programs inside a map."""


def kinds_in(program: list[Any]) -> Iterator[str]:
    """Yield the kinds of loops and exits of a program."""
    for one in all_statements(program):
        inside = all_statements([one])[1:]
        match one:
            case Jump():
                yield f"{'break' if one.is_break else 'continue'} of {one.level + 1} levels"
                yield "steps on the way out" if one.before else "a direct exit"
            case Loop():
                yield "a self-loop" if one.test is one.head else "a loop"
                yield from ("a nested loop" for inner in inside if isinstance(inner, Loop))
                yield from ("a parallel block in a loop" for inner in inside if isinstance(inner, Parallel))
                yield from ("an error branch in a loop" for inner in inside if isinstance(inner, Guard))
                yield from (
                    "an edge that leaves several loops" for jump, depth in jumps_in(one.body) if jump.leaves > depth
                )
            case Parallel():
                yield from ("a loop in a parallel block" for inner in inside if isinstance(inner, Loop))


KINDS = {
    *(f"{jump} of {levels} levels" for jump in ("break", "continue") for levels in (1, 2)),
    *("steps on the way out", "a direct exit", "a self-loop", "a loop", "a nested loop", "a parallel block in a loop"),
    *("an error branch in a loop", "an edge that leaves several loops", "a loop in a parallel block"),
}


@pytest.mark.parametrize("seeds", [range(100), TASKS, MAPS], ids=["inline", "tasks", "maps"])
def test_the_programs_have_loops_and_exits_of_every_kind(seeds: range) -> None:
    assert {kind for seed in seeds for kind in kinds_in(draw_program(seed, SIZE)[0])} >= KINDS


def outputs_of(journal: RecordedJournal) -> dict[str, list[Any]]:
    """Return the outputs of each node by visit.

    A visit counts once, also if the end of a loop shows it again.
    """
    visits: dict[tuple[str, int], Any] = {}
    for state in journal.states:
        if state.status in (NodeStatus.COMPLETED, NodeStatus.FAILED):
            visits.setdefault((state.node_id, state.visits), value_of(state.output))
    outputs: dict[str, list[Any]] = {}
    for node_id, visit in sorted(visits):
        outputs.setdefault(node_id, []).append(visits[node_id, visit])
    return outputs


def value_of(output: Any) -> Any:
    """Return the value of a visit; None if it failed, because its output is the error then."""
    return None if isinstance(output, dict) and "error" in output else output


async def difference(seed: int) -> str:
    """Return where the executor and the interpreter differ; empty if they agree."""
    program, interpreter = draw_program(seed, SIZE)
    journal = RecordedJournal()
    executor, _ = await asyncio.wait_for(play(graph_of(program), journal=journal), 60)
    change = journal.entries[-1].change
    if executor.final_status is not RunStatus.COMPLETED or change is None:
        return f"seed {seed}: {executor.final_status}, {change}"
    outputs = outputs_of(journal)
    outputs.pop("end", None)
    if outputs != interpreter.outputs:
        return f"seed {seed}: visits {outputs} instead of {interpreter.outputs}"
    return output_difference(seed, change.output, interpreter)


def output_difference(seed: int, output: Any, interpreter: Interpreter) -> str:
    """Return where the output, which reads all nodes at the end, is not what the nodes show."""
    values = {name: value_of(value) for name, value in output.items()}
    expected = {name: interpreter.shown(name) for name in output}
    return "" if values == expected else f"seed {seed}: output {values} instead of {expected}"


@pytest.mark.parametrize("block", range(BLOCKS))
async def test_a_random_program_runs_as_the_interpreter_says(block: int) -> None:
    seeds = range(block * PROGRAMS, block * PROGRAMS + PROGRAMS)
    assert not [text for seed in seeds if (text := await difference(seed))]


async def difference_with_tasks(seed: int) -> str:
    """Return the same as `difference` for a program of which some nodes run as tasks."""
    program, interpreter = draw_program(seed, SIZE)
    spec, random = graph_of(program), Random(seed)
    for node in spec["nodes"]:
        if random.random() < 0.6:
            node["timeoutS"] = 60  # a node with a time limit is no inline node
    ended = await run(spec)
    if ended.status is not RunStatus.COMPLETED:
        return f"seed {seed}: {ended}"
    return output_difference(seed, ended.output, interpreter)


@pytest.mark.parametrize("block", range(2))
async def test_a_random_program_of_tasks_runs_as_the_interpreter_says(block: int) -> None:
    assert not [text for seed in TASKS[block::2] if (text := await difference_with_tasks(seed))]


async def difference_in_map(seed: int) -> str:
    """Return the same as `difference` for a program that is the spec of a map of two items."""
    program, interpreter = draw_program(seed, SIZE)
    config = {"items": [1, 2], "spec": graph_of(program)}
    ended = await run({"nodes": [{"id": "m", "type": "map", "config": config}]}, resources={"items": MemoryItems()})
    if ended.status is not RunStatus.COMPLETED or not isinstance(ended.output, dict):
        return f"seed {seed}: {ended}"
    items = ended.output["m"]["items"]
    texts = [output_difference(seed, item, interpreter) for item in items]
    return "".join(texts) if len(items) == 2 else f"seed {seed}: {ended.output}"


@pytest.mark.parametrize("block", range(2))
async def test_a_random_program_in_a_map_runs_as_the_interpreter_says(block: int) -> None:
    assert not [text for seed in MAPS[block::2] if (text := await difference_in_map(seed))]
