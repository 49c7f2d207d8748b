"""Routing after a node: which edges are taken or dead, and which nodes are skipped.

The functions are pure: they return the channel writes of the tokens and change no state. A crash
before the writes are durable loses nothing, because the same inputs give the same writes again.
The scheduler calls this module during a run, and the forks call it to build a frontier.

A dead edge sends a dead token, so that a join behind it does not wait forever. This is dead-path
elimination (WS-BPEL 2.0, section 12.5.1). A dead edge into a node without a barrier skips that node
at once and settles its edges too, so a dead branch costs no supersteps.
"""

from collections.abc import Callable, Collection, Sequence

from langgraph.constants import TASKS
from langgraph.types import Send

from engine.graph.channels import JOIN_BARRIER, LOOP, EdgeToken, Signal, Write
from engine.graph.plan import EdgeKind, Plan, PlanEdge, PlanNode, Round
from engine.sdk.node import ERROR_PORT


def taken_edges(out: Sequence[PlanEdge], port: str | None, holds: Callable[[PlanEdge], bool]) -> set[int]:
    """Return the indexes of the edges by which a node leaves.

    Args:
        out: The outgoing edges of the node.
        port: The port by which the node leaves; None for no port.
        holds: Evaluates the condition of an edge. Called only for edges that have one.

    Returns:
        The edges of `port` and the edges without a port whose condition holds or which have none.
        Edges without a port are not taken if the node leaves by `error`.
    """
    return {edge.index for edge in out if _matches_port(edge, port) and (edge.condition is None or holds(edge))}


def _matches_port(edge: PlanEdge, port: str | None) -> bool:
    return edge.port == port if edge.port is not None else port != ERROR_PORT


def settle_edges(
    plan: Plan,
    out: Sequence[PlanEdge],
    round_: Round,
    taken: Collection[int],
    skip: Callable[[PlanNode, Round], None],
) -> list[Write]:
    """Settle the outgoing edges of a node that has run or was skipped.

    Args:
        plan: The plan of the graph.
        out: The outgoing edges.
        round_: The round of the node.
        taken: The indexes of the taken edges. All others are dead, except EXIT edges, which stay
            open until their loop is over.
        skip: Called with each node that is skipped at once, and the round in which it is skipped.

    Returns:
        The writes to the channels: tokens for the barriers, and Sends for nodes without one.
    """
    writes: list[Write] = []
    pending: list[tuple[Sequence[PlanEdge], Round, Collection[int]]] = [(out, round_, taken)]
    while pending:
        edges, source_round, taken_here = pending.pop()
        for edge in edges:
            if edge.index in taken_here:
                writes.append(_taken_write(plan, edge, source_round))
            elif edge.kind is EdgeKind.EXIT:
                continue  # A later round may take it; `close_loop` makes it dead.
            elif (dead := _dead_write(plan, edge, source_round)) is not None:
                writes.append(dead)
            else:
                target = plan.nodes[edge.target]
                target_round = target.first_round(edge.round_at_target(source_round))
                skip(target, target_round)
                pending.append((target.out, target_round, ()))
    return writes


def close_loop(plan: Plan, header: PlanNode, round_: Round) -> list[Write]:
    """Return the dead tokens of the exits of a loop that is over.

    An exit that was taken in an earlier round stays taken: its barrier ignores the dead token.

    Args:
        plan: The plan of the graph.
        header: The header of the loop.
        round_: The last round of the loop, in which no BACK edge was taken.
    """
    return [
        (JOIN_BARRIER + edge.target, EdgeToken(edge.index, edge.round_at_target(round_), False))
        for edge in header.exits
    ]


def _taken_write(plan: Plan, edge: PlanEdge, source_round: Round) -> Write:
    """Return the taken token of an edge; a Send if the target has no barrier for it."""
    round_ = edge.round_at_target(source_round)
    if edge.kind is EdgeKind.BACK:
        return LOOP + edge.target, EdgeToken(edge.index, round_, True)
    if plan.nodes[edge.target].needs_barrier:
        return JOIN_BARRIER + edge.target, EdgeToken(edge.index, round_, True)
    return TASKS, Send(edge.target, Signal(round_, True))


def _dead_write(plan: Plan, edge: PlanEdge, source_round: Round) -> Write | None:
    """Return the dead token of an edge; None if the target has no barrier for it."""
    round_ = edge.round_at_target(source_round)
    if edge.kind is EdgeKind.BACK:
        return LOOP + edge.target, EdgeToken(edge.index, round_, False)
    if plan.nodes[edge.target].needs_barrier:
        return JOIN_BARRIER + edge.target, EdgeToken(edge.index, round_, False)
    return None
