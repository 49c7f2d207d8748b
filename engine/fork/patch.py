"""Patch the outputs of nodes in a frontier: invalidate what was computed from them, and route anew.

A fork of a run uses it. Everything here is pure and stores nothing. All problems that can be found
at the same time are reported together.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from engine.errors import NotStorable
from engine.events import EdgeVisits
from engine.expressions import evaluator
from engine.fork.frontier import Frontier, apply_progress, frontier_of, position_of
from engine.fork.history import RunHistory
from engine.fork.invalidation import DependentRoot, HistoryUnknown, Invalidation
from engine.graph.bound_node import BoundNode
from engine.graph.channels import NodeRecord
from engine.graph.edge_states import edges_after
from engine.graph.plan import Plan, PlanNode
from engine.graph.routing import taken_edges
from engine.problems import FieldProblem
from engine.runtime.node_context import scope_of
from engine.sdk.node import ERROR_PORT, PortUndecided
from engine.states import EXECUTED, IN_PROGRESS, NodeStatus
from engine.types import JSON
from engine.values.storable import check_storable

HAS_OUTPUT = IN_PROGRESS | EXECUTED
"""Statuses in which a node can be patched: it has an output, or would have one."""


class PatchRefused(Exception):
    """The run cannot be forked like this. `problems` are the reasons."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems[:3]))
        self.problems = list(problems)


class PatchedLeave(NamedTuple):
    """How a patched node leaves: its port, and its edges as `NodeState` stores them."""

    port: str | None
    edges: tuple[EdgeVisits, ...] | None


def apply_patch(plan: Plan, frontier: Frontier, history: RunHistory, patch: Mapping[str, JSON]) -> Frontier:
    """Replace outputs of nodes, and invalidate everything that was computed from them.

    Args:
        plan: The plan of the run's version.
        frontier: The state of the run.
        history: Its history up to that state.
        patch: The new outputs by node id.

    Returns:
        A frontier in which the patched nodes are COMPLETED and their edges are not settled yet; see
        `settle_patched`.

    Raises:
        PatchRefused: A node has no output to replace, a new output cannot be stored, one patched
            node was computed from another, or the history is unknown.
    """
    if problems := [problem for node_id in patch if (problem := _problem_of(plan, frontier, node_id, patch[node_id]))]:
        raise PatchRefused(problems)
    try:
        result = Invalidation(plan, history, list(patch)).apply(frontier)
    except DependentRoot as error:
        message = (
            f"node {error.node_id!r} is computed from {error.root!r}, which is patched too, so it would run again: "
            f"patch only {error.root!r}, and then patch {error.node_id!r} in a fork of the new run"
        )
        raise PatchRefused([_problem(error.node_id, "DEPENDS_ON_PATCH", message)]) from error
    except HistoryUnknown as error:
        message = (
            f"this run is a copy, and the visits of node {error.node_id!r} before it are not known: "
            "fork from a checkpoint of the original run"
        )
        raise PatchRefused([_problem(error.node_id, "PAST_UNKNOWN", message)]) from error
    for node_id, output in patch.items():
        result.records[node_id] = _with_output(result.records[node_id], output)
    return result


def _with_output(record: NodeRecord, output: JSON) -> NodeRecord:
    """Return a record whose latest visit has ended with the output, also if a skip followed."""
    if record.status is NodeStatus.SKIPPED and record.visited is not None:
        return record.evolve(visited=(NodeStatus.COMPLETED, record.visited[1]), output=output)
    return record.evolve(status=NodeStatus.COMPLETED, output=output)


def _problem_of(plan: Plan, frontier: Frontier, node_id: str, output: JSON) -> FieldProblem | None:
    if node_id not in plan.nodes:
        return _problem(node_id, "UNKNOWN_NODE", f"there is no node {node_id!r}")
    record = frontier.records.get(node_id)
    if record is None or record.status not in HAS_OUTPUT:
        return _problem(node_id, "NOT_RUN", f"node {node_id!r} has no output at this checkpoint")
    try:
        check_storable(output)
    except NotStorable as error:
        return _problem(node_id, "NOT_STORABLE", str(error))
    return None


def _problem(node_id: str, code: str, message: str) -> FieldProblem:
    return FieldProblem(f"input.patch.{node_id}", code, message, node_id=node_id)


def settle_patched(
    plan: Plan,
    bound_nodes: Mapping[str, BoundNode],
    frontier: Frontier,
    patch: Collection[str],
    run_id: str,
    inputs: JSON,
    leaves: dict[str, PatchedLeave] | None = None,
    earlier: Mapping[str, Sequence[EdgeVisits]] | None = None,
) -> Frontier:
    """Settle the edges of the patched nodes by their new outputs.

    Args:
        plan: The plan of the fork's version.
        bound_nodes: Its nodes.
        frontier: The result of `apply_patch`. The records of the nodes that edge conditions refer
            to must have their outputs.
        patch: The ids of the patched nodes.
        run_id: The id of the fork.
        inputs: The input of the fork.
        leaves: Gets how each patched node leaves.
        earlier: The edges that each patched node had taken before the patched visit.

    Raises:
        PatchRefused: An output does not determine the port of its node, or a condition fails.
    """
    position, records = position_of(plan, frontier), dict(frontier.records)
    apply_progress(records, position.wake())
    for node_id in patch:
        node, record = plan.nodes[node_id], records[node_id]
        port = _port(node, bound_nodes[node_id], record.output)
        scope = scope_of(run_id, inputs, records, (*bound_nodes[node_id].names, node_id))
        round_ = record.round if record.latest_round is None else record.latest_round
        taken = _taken(node, port, scope)
        apply_progress(records, position.settle_edges(node.out, round_, taken))
        if leaves is not None:
            edges = edges_after(node.out, (earlier or {}).get(node_id), record.visits, port, taken)
            if edges is None and record.status is NodeStatus.SKIPPED:
                edges = tuple(EdgeVisits(index, record.visits, True) for index in sorted(taken))
            leaves[node_id] = PatchedLeave(port, edges)
    return frontier_of(position, records, frontier.held)


def _taken(node: PlanNode, port: str | None, scope: Mapping[str, Any]) -> set[int]:
    try:
        return taken_edges(node.out, port, lambda edge: evaluator.truthy(edge.condition or "", scope))
    except evaluator.ExpressionError as error:
        message = f"the condition of an edge out of {node.id!r}: {error}"
        raise PatchRefused([_problem(node.id, "EXPRESSION", message)]) from error


def _port(node: PlanNode, bound_node: BoundNode, output: JSON) -> str | None:
    """Return the port by which a node leaves with this output; None if no edge names a port."""
    if not any(edge.port not in (None, ERROR_PORT) for edge in node.out):
        return None
    try:
        return bound_node.type.port_of(bound_node.config, output)
    except PortUndecided as error:
        names = ", ".join(f"`{port}`" for port in error.ports)
        example = "" if error.example is None else f"; an example that does is {error.example}"
        message = f"the output does not determine by which port ({names}) node {node.id!r} leaves{example}"
        raise PatchRefused([_problem(node.id, "PORT_UNKNOWN", message)]) from error
