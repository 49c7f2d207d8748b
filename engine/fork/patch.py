"""A fork's frontier: node outputs replaced by a patch, what was computed from them taken back, and their edges settled anew.

Pure: problems come out as Refused, all of those that stand beside each other at once.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import NotStorable
from engine.expressions import evaluator
from engine.fork.frontier import Edges, Frontier, let_in, passed
from engine.fork.history import RunHistory
from engine.fork.invalidation import Dependent, Invalidation, Unknown
from engine.graph.bound_node import BoundNode
from engine.graph.channels import NodeRecord, Write
from engine.graph.plan import Plan, PlanEdge, PlanNode, Round
from engine.graph.routing import settle_edges, taken_edges
from engine.problems import FieldProblem
from engine.runtime.node_context import scope_of
from engine.sdk.node import ERROR_PORT, PortUndecided
from engine.states import EXECUTED, UNFINISHED, NodeStatus
from engine.types import JSON
from engine.values.storable import check_storable

HAS_OUTPUT = UNFINISHED | EXECUTED
"""What can be patched: a node that has an output, or is on its way to one."""


class PatchRefused(Exception):
    """This cannot be forked so; `problems` says why."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems[:3]))
        self.problems = list(problems)


def patched(plan: Plan, frontier: Frontier, past: RunHistory, patch: Mapping[str, JSON]) -> Frontier:
    """The frontier with the patched outputs, before their edges are settled. Raises Refused."""
    if problems := [problem for node_id in patch if (problem := _wrong(plan, frontier, node_id, patch[node_id]))]:
        raise PatchRefused(problems)
    try:
        rest = Invalidation(plan, past, list(patch)).rest(frontier)
    except Dependent as both:
        message = (
            f"node {both.node_id!r} is computed from {both.root!r}, which is patched too and makes it run anew: "
            f"patch {both.root!r} alone, and {both.node_id!r} in a fork of the run that comes out"
        )
        raise PatchRefused([_problem(both.node_id, "DEPENDS_ON_PATCH", message)]) from both
    except Unknown as unknown:
        message = (
            f"the visits of node {unknown.node_id!r} before this run began as a copy are not known here: "
            "fork from a checkpoint of the run that it was made from"
        )
        raise PatchRefused([_problem(unknown.node_id, "PAST_UNKNOWN", message)]) from unknown
    for node_id, output in patch.items():
        rest.slots[node_id] = replace(rest.slots[node_id], status=NodeStatus.COMPLETED, output=output)
    return rest


def _wrong(plan: Plan, frontier: Frontier, node_id: str, output: JSON) -> FieldProblem | None:
    if node_id not in plan.nodes:
        return _problem(node_id, "UNKNOWN_NODE", f"there is no node {node_id!r}")
    slot = frontier.slots.get(node_id)
    if slot is None or slot.status not in HAS_OUTPUT:
        return _problem(node_id, "NOT_RUN", f"node {node_id!r} has no output at this checkpoint")
    try:
        check_storable(output)
    except NotStorable as wrong:
        return _problem(node_id, "NOT_STORABLE", str(wrong))
    return None


def _problem(node_id: str, code: str, message: str) -> FieldProblem:
    return FieldProblem(f"input.patch.{node_id}", code, message, node_id=node_id)


@dataclass(frozen=True, slots=True)
class Settling:
    """Settles edges in a frontier of `plan`, which it changes."""

    plan: Plan
    frontier: Frontier
    edges: Edges

    @classmethod
    def of(cls, plan: Plan, frontier: Frontier) -> "Settling":
        return cls(plan, frontier, Edges(plan))

    def settle(self, out: Sequence[PlanEdge], round_: Round, taken: Collection[int]) -> None:
        self.enter(settle_edges(self.plan, out, round_, taken, self.skip))

    def enter(self, writes: Sequence[Write]) -> None:
        for write in writes:
            let_in(self.edges, self.frontier, self.plan, write)

    def skip(self, node: PlanNode, round_: Round) -> None:
        before = self.frontier.slots.get(node.id) or NodeRecord(NodeStatus.SKIPPED)
        slot = self.frontier.slots[node.id] = replace(before, status=NodeStatus.SKIPPED, round=round_)
        self.frontier.doors[node.id] = passed(node, self.edges, slot)


def settled(
    plan: Plan, works: Mapping[str, BoundNode], frontier: Frontier, patch: Collection[str], run_id: str, inputs: JSON
) -> Frontier:
    """Follows the edges of the patched nodes, in place. The slots of what they ask for have their outputs. Raises Refused."""
    settling = Settling.of(plan, frontier)
    for node_id in patch:
        node, slot = plan.nodes[node_id], frontier.slots[node_id]
        port = _port(node, works[node_id], slot.output)
        scope = scope_of(run_id, inputs, frontier.slots, (*works[node_id].names, node_id))
        settling.settle(node.out, slot.round, _taken(node, port, scope))
    return frontier


def _taken(node: PlanNode, port: str | None, scope: Mapping[str, Any]) -> set[int]:
    try:
        return taken_edges(node.out, port, lambda edge: evaluator.truthy(edge.condition or "", scope))
    except evaluator.ExpressionError as wrong:
        message = f"the condition of an edge out of {node.id!r}: {wrong}"
        raise PatchRefused([_problem(node.id, "EXPRESSION", message)]) from wrong


def _port(node: PlanNode, work: BoundNode, output: JSON) -> str | None:
    """The port that a node with this output leaves by. Raises Refused where the output does not tell."""
    if not any(edge.port not in (None, ERROR_PORT) for edge in node.out):
        return None
    try:
        return work.type.port_of(work.config, output)
    except PortUndecided as undecided:
        names = ", ".join(f"`{port}`" for port in undecided.ports)
        example = "" if undecided.example is None else f": give it as {undecided.example}"
        message = f"the output does not tell by which of its ports ({names}) node {node.id!r} is left{example}"
        raise PatchRefused([_problem(node.id, "PORT_UNKNOWN", message)]) from undecided
