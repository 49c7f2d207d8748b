"""Random programs in which nodes are cancelled as soon as they have no effect: the rest runs as before."""

from random import Random
from typing import Any

import pytest

from engine.graph.bound_node import bind_nodes
from engine.graph.liveness import Liveness
from engine.nodes.registry import load_node_types
from engine.spec.parser import parse
from tests.engine.graph.program_generator import draw_program
from tests.engine.graph.program_graph import graph_of
from tests.engine.graph.programs import Parallel, all_statements, names_in
from tests.engine.graph.test_position import Simulation

TYPES = load_node_types()


class CancellingSimulation(Simulation):
    """Cancels nodes that are due and have no effect, as if they waited or ran for a long time."""

    def __init__(self, spec: dict[str, Any], random: Random, *, as_waits: bool) -> None:
        super().__init__(spec, random)
        parsed = parse(spec)
        self.liveness = Liveness(parsed, self.plan, bind_nodes(parsed, TYPES))
        self.as_waits, self.cancelled = as_waits, 0

    def cancel_due(self, due: list[str]) -> list[str]:
        while found := self.liveness.find_superfluous(self.position, *((due, ()) if self.as_waits else ((), due))):
            for node_id, join_id in found:
                assert self.position.joins[join_id].is_fired
                due.remove(node_id)
                due += [name for name, _ in self.position.cancel(node_id).due]
                self.cancelled += 1
        return due


def outside_of_branches(program: list[Any]) -> set[str]:
    """Return the nodes that are in no branch of a join by `any`. Their visits do not depend on its order."""
    parallels = [one for one in all_statements(program) if isinstance(one, Parallel) and one.first is not None]
    inside = {name for one in parallels for branch in one.branches for name in names_in(branch)}
    return {*names_in(program)} - inside


def difference(seed: int, *, as_waits: bool) -> tuple[str, int]:
    """Return where a program with cancelled branches differs, and how many nodes were cancelled."""
    program, interpreter = draw_program(seed, 18, any_joins=1.0)
    spec = graph_of(program) | {"outputs": {}}
    for node in spec["nodes"]:
        if node.get("join") == "any" and not as_waits:
            node["join"] = {"mode": "any", "cancelOthers": True}
    simulation = CancellingSimulation(spec, Random(seed), as_waits=as_waits)
    simulation.run()
    names = outside_of_branches(program)
    outputs = {name: values for name, values in simulation.outputs.items() if name in names}
    expected = {name: values for name, values in interpreter.outputs.items() if name in names}
    return (f"seed {seed}: {outputs} instead of {expected}" if outputs != expected else ""), simulation.cancelled


@pytest.mark.parametrize("as_waits", [True, False], ids=["waits", "cancelOthers"])
def test_a_random_program_whose_superfluous_nodes_are_cancelled_runs_as_before(as_waits: bool) -> None:
    results = [difference(seed, as_waits=as_waits) for seed in range(5000, 5400)]
    assert not [text for text, _ in results if text]
    assert sum(count for _, count in results) > 100
