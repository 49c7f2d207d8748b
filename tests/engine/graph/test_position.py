"""Positions: random programs run as an interpreter says, in whatever order parallel nodes end."""

from random import Random
from typing import Any

import pytest

from engine.graph.plan import make_plan
from engine.graph.position import Position
from engine.spec.parser import parse
from tests.engine.graph.program_generator import draw_program
from tests.engine.graph.program_graph import graph_of


class SeenNode:
    """What an expression sees of a node."""

    def __init__(self, value: Any) -> None:
        self.output = self if value is not None else None
        if value is not None:
            self.__dict__.update(value)
            self.output = type("Value", (), value)()


class Simulation:
    """Runs the graph of a program by its position, with the values that its nodes would have."""

    def __init__(self, spec: dict[str, Any], random: Random) -> None:
        self.plan = make_plan(parse(spec))
        self.nodes = {node["id"]: node for node in spec["nodes"]}
        self.position = Position(self.plan)
        self.random, self.finished = random, ""
        self.values: dict[str, Any] = {}
        self.outputs: dict[str, list[Any]] = {}

    def run(self) -> None:
        progress = self.position.begin({edge.index for edge in self.plan.starts})
        due = [node_id for node_id, _ in progress.due]
        while due:
            node_id = due.pop(self.random.randrange(len(due)))
            port = self.visit(node_id)
            self.finished = node_id
            out = self.plan.nodes[node_id].out
            taken = {edge.index for edge in out if self.leaves(edge, port)}
            due += [node for node, _ in self.position.settle(node_id, taken).due]
            self.finished = ""
            due = self.cancel_due(due)
        assert not self.position.active

    def cancel_due(self, due: list[str]) -> list[str]:
        """Cancel some of the nodes that are due. Return the others."""
        return due

    def shown(self, node_id: str) -> Any:
        is_hidden = self.position.is_skipped(node_id) and node_id != self.finished
        return None if is_hidden else self.values.get(node_id)

    def leaves(self, edge: Any, port: str | None) -> bool:
        if (edge.port != port) if edge.port is not None else port == "error":
            return False
        return edge.condition is None or self.evaluate(edge.condition)

    def evaluate(self, expression: str) -> Any:
        names = {node_id: SeenNode(self.shown(node_id)) for node_id in self.nodes}
        return eval(expression, {"__builtins__": {}}, names)  # conditions of our own generator

    def visit(self, node_id: str) -> str | None:
        node = self.nodes[node_id]
        port = None
        if node["type"] == "conditional":
            value: Any = {"result": self.evaluate(node["config"]["condition"])}
            port = "true" if value["result"] else "false"
        elif node["type"] == "end":
            return None
        elif node.get("onError"):
            counter, every = node["config"]["output"]["v"].split(" if ")[1].split(" == ")[0].split(" % ")
            count = self.values[counter.removesuffix(".output.v")]["v"]
            value = None if count % int(every) == 0 else {"v": count, "reads": []}
            port = "error" if value is None else None
        else:
            reads = [
                self.shown(text.split()[1].removesuffix(".output.v")) for text in node["config"]["output"]["reads"]
            ]
            before = self.outputs.get(node_id, [])
            value = {"v": len(before) + 1, "reads": [-1 if one is None else one["v"] for one in reads]}
        self.values[node_id] = value
        self.outputs.setdefault(node_id, []).append(value)
        return port


def differences(seed: int, any_joins: float, order: int) -> str:
    """Return where the position and the interpreter differ; empty if they agree."""
    program, interpreter = draw_program(seed, 18, any_joins)
    simulation = Simulation(graph_of(program), Random(order))
    simulation.run()
    if simulation.outputs != interpreter.outputs:
        return f"seed {seed}: visits {simulation.outputs} instead of {interpreter.outputs}"
    shown = {name: (simulation.shown(name), interpreter.shown(name)) for name in interpreter.outputs}
    wrong = {name: pair for name, pair in shown.items() if pair[0] != pair[1]}
    return f"seed {seed}: at the end (position, interpreter) {wrong}" if wrong else ""


@pytest.mark.parametrize("block", range(8))
def test_a_random_program_runs_as_the_interpreter_says(block: int) -> None:
    assert not [text for seed in range(block * 250, block * 250 + 250) if (text := differences(seed, 0.0, seed))]


@pytest.mark.parametrize("block", range(4))
def test_a_join_by_any_ends_with_its_round_in_every_order_of_its_branches(block: int) -> None:
    seeds = range(block * 150, block * 150 + 150)
    assert not [text for seed in seeds for order in range(3) if (text := differences(seed, 0.6, order))]
