"""Warns of edges that leave a loop while it may go on. Pure.

An edge without a condition is taken in the first round, and starts its target once. So what follows
the loop runs beside it, and sees the values of a round that is not the last one.
"""

from collections.abc import Iterator, Sequence

from engine.graph.plan import Plan, PlanEdge
from engine.problems import FieldProblem
from engine.sdk.node import ERROR_PORT
from engine.states import Severity


def check_loop_exits(plan: Plan, paths: Sequence[str]) -> Iterator[FieldProblem]:
    """Find edges out of a loop that are taken in each round.

    `paths` are the paths of the edges in the raw spec.
    """
    for node in plan.nodes.values():
        for edge in node.out:
            if edge.leaves and not edge.closes and edge.condition is None and _may_repeat(edge, node.out):
                message = (
                    f"this edge is taken in the first round already, so {edge.target!r} starts while the loop around "
                    f"{edge.source!r} may go on: give it a condition, the opposite of that of the edge that repeats "
                    "the loop, or lead both out of a `conditional` by their ports"
                )
                yield FieldProblem(paths[edge.index], "EARLY_EXIT", message, Severity.WARNING, edge.source, edge.id)


def _may_repeat(leaving: PlanEdge, out: Sequence[PlanEdge]) -> bool:
    """Whether an edge that stays in a loop can be taken together with an edge that leaves it."""
    return any(edge.leaves < leaving.leaves and _share_a_port(edge.port, leaving.port) for edge in out)


def _share_a_port(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return ERROR_PORT not in (one, other)
    return one == other
