"""Random programs with loops go on from every checkpoint, and forks of them repeat the same."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from engine.fork.frontier import channel_values, read_frontier, restart_unfinished
from engine.fork.migration import migrate_frontier
from engine.fork.patch import PatchRefused
from engine.states import NodeStatus
from tests.engine.checkpoint_history import play
from tests.engine.fork.test_patch import play_fork
from tests.engine.graph.program_generator import draw_program
from tests.engine.graph.program_graph import graph_of
from tests.samples import sample

PROGRAMS, BLOCKS = sample(4, 80), 2
SIZE, MAX_VISITS = 14, 60


def small_programs(block: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the seeds and the graphs of programs with few visits, of which some nodes are tasks."""
    for seed in range(3000 + block, 3000 + PROGRAMS * BLOCKS, BLOCKS):
        program, interpreter = draw_program(seed, SIZE)
        spec, random = graph_of(program), Random(seed)
        for node in spec["nodes"]:
            if random.random() < 0.5:
                node["timeoutS"] = 60  # a node with a time limit is no inline node
        if sum(map(len, interpreter.outputs.values())) <= MAX_VISITS:
            yield seed, spec


async def difference(seed: int, spec: dict[str, Any]) -> str:
    """Return the first checkpoint from which a run does not go on as before; empty if all do."""
    original = await play(spec)
    plan = original.compiled.plan
    for at in range(seed % 3, len(original.snapshots), 3):
        frontier = original.frontier(at)
        if read_frontier(plan, channel_values(plan, frontier)) != frontier:
            return f"seed {seed}: the frontier of checkpoint {at} is not what it was converted from"
        frontier = restart_unfinished(plan, frontier)
        if migrate_frontier(plan, plan, frontier) != frontier:
            return f"seed {seed}: a migration to the same plan changes the frontier of checkpoint {at}"
        rest = await play(spec, (frontier, original.snapshots[at].step), original.outputs)
        if (rest.status, rest.output) != (original.status, original.output):
            return f"seed {seed}: from checkpoint {at} {rest.output} instead of {original.output}"
    return ""


@pytest.mark.parametrize("block", range(BLOCKS))
async def test_a_random_program_goes_on_from_its_checkpoints(block: int) -> None:
    assert not [text for seed, spec in small_programs(block) if (text := await difference(seed, spec))]


async def patched_difference(seed: int, spec: dict[str, Any]) -> str:
    """Return the first fork with a patch that changes nothing and yet ends with another output."""
    original, random = await play(spec), Random(seed)
    for at in range(seed % 5, len(original.snapshots), 5):
        records = original.frontier(at).records
        names = [name for name, record in records.items() if record.status is NodeStatus.COMPLETED]
        for name in random.sample(names, min(2, len(names))):
            patch = {name: original.outputs[name, records[name].visits]}
            try:
                rest = await play_fork(original, at, patch)
            except PatchRefused as refused:
                return f"seed {seed}: {name} at checkpoint {at}: {refused}"
            if (rest.status, rest.output) != (original.status, original.output):
                return f"seed {seed}: {name} at checkpoint {at}: {rest.output} instead of {original.output}"
    return ""


@pytest.mark.parametrize("block", range(BLOCKS))
async def test_a_patch_with_the_same_output_changes_nothing_in_a_random_program(block: int) -> None:
    assert not [text for seed, spec in small_programs(block) if (text := await patched_difference(seed, spec))]
