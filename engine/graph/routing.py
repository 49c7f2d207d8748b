"""What follows when a node has had its turn: which edges are taken or dead, and who is skipped by it. Pure: writes come out.

A dead edge into a node with one entry skips that node at once and goes on from there, so that a dead branch costs no waves.
"""

from collections.abc import Callable, Collection, Sequence

from langgraph.constants import TASKS
from langgraph.types import Send

from engine.graph.channels import JOIN_BARRIER, LOOP, EdgeToken, Signal, Write
from engine.graph.plan import EdgeKind, Plan, PlanEdge, PlanNode, Round
from engine.sdk.node import ERROR_PORT


def taken_edges(out: Sequence[PlanEdge], port: str | None, holds: Callable[[PlanEdge], bool]) -> set[int]:
    """The edges a node leaves by: those of its port and those without one, where their condition holds."""
    return {edge.index for edge in out if _leaves_by(edge, port) and (edge.condition is None or holds(edge))}


def _leaves_by(edge: PlanEdge, port: str | None) -> bool:
    return edge.port == port if edge.port is not None else port != ERROR_PORT


def settle_edges(
    plan: Plan,
    out: Sequence[PlanEdge],
    round_: Round,
    taken: Collection[int],
    skip: Callable[[PlanNode, Round], None],
) -> list[Write]:
    """Settles the edges `out` of a node for its `round_`. `skip` is told of each node that is skipped on the way."""
    writes: list[Write] = []
    work: list[tuple[Sequence[PlanEdge], Round, Collection[int]]] = [(out, round_, taken)]
    while work:
        edges, at, took = work.pop()
        for edge in edges:
            if edge.index in took:
                writes.append(_taken(plan, edge, at))
            elif edge.kind is EdgeKind.EXIT:
                continue  # dead only when its loop is over
            elif (dead := _dead(plan, edge, at)) is not None:
                writes.append(dead)
            else:
                target = plan.nodes[edge.target]
                entered = target.first_round(edge.round_at_target(at))
                skip(target, entered)
                work.append((target.out, entered, ()))
    return writes


def close_loop(plan: Plan, header: PlanNode, round_: Round) -> list[Write]:
    """No back edge was taken in this round: the exits that were never taken are dead now."""
    return [
        (JOIN_BARRIER + edge.target, EdgeToken(edge.index, edge.round_at_target(round_), False))
        for edge in header.exits
    ]


def _taken(plan: Plan, edge: PlanEdge, at: Round) -> Write:
    round_ = edge.round_at_target(at)
    if edge.kind is EdgeKind.BACK:
        return LOOP + edge.target, EdgeToken(edge.index, round_, True)
    target = plan.nodes[edge.target]
    if target.needs_gate:
        return JOIN_BARRIER + edge.target, EdgeToken(edge.index, round_, True)
    return TASKS, Send(edge.target, Signal(round_, True))


def _dead(plan: Plan, edge: PlanEdge, at: Round) -> Write | None:
    """The token of a dead edge; None where its target joins nothing and is skipped on the spot."""
    round_ = edge.round_at_target(at)
    if edge.kind is EdgeKind.BACK:
        return LOOP + edge.target, EdgeToken(edge.index, round_, False)
    if plan.nodes[edge.target].needs_gate:
        return JOIN_BARRIER + edge.target, EdgeToken(edge.index, round_, False)
    return None
