"""The states of a node's outgoing edges: which were taken, and how often.

Most of it follows from the port by which the node left and from the number of its visits, so that a
node state stores the edges only where conditions or several visits make a difference. Pure: the
scheduler calls it when a visit ends, and the API when it shows a node.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.events import EdgeState, EdgeVisits, NodeState
from engine.graph.routing import leaves_by
from engine.sdk.node import ERROR_PORT
from engine.spec.model import END, OnError
from engine.states import EXECUTED, FINISHED, EdgeStatus, NodeStatus


class OutgoingEdge(Protocol):
    """An edge of a plan, or of a spec with its index."""

    @property
    def index(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def port(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class SpecEdge:
    """An edge of a spec with its index."""

    index: int
    id: str
    source: str
    target: str
    port: str | None
    condition: str | None


def edge_visits(out: Sequence[OutgoingEdge], state: NodeState, on_error: OnError) -> dict[int, EdgeVisits]:
    """Return the outgoing edges of a node that were taken so far, by index.

    Args:
        out: The outgoing edges of the node.
        state: The state of the node.
        on_error: Its error handling: a failure that ends the run takes no edge.
    """
    if state.edges is not None:
        return {one.edge: one for one in state.edges}
    taken = (edge.index for edge in out if _leaves(state, on_error) and leaves_by(edge.port, state.port))
    return {index: EdgeVisits(index, state.visits, True) for index in taken}


def edges_before(out: Sequence[OutgoingEdge], state: NodeState, on_error: OnError) -> dict[int, EdgeVisits]:
    """Return the edges that were taken before the visit of a state. The arguments are those of `edge_visits`."""
    before = {
        index: EdgeVisits(index, one.visits - one.taken, False)
        for index, one in edge_visits(out, state, on_error).items()
    }
    return {index: one for index, one in before.items() if one.visits}


def _leaves(state: NodeState, on_error: OnError) -> bool:
    """Whether the node has ended its visit and left it by its edges."""
    return state.status in EXECUTED and not (state.status is NodeStatus.FAILED and on_error is OnError.FAIL)


def edges_after(
    out: Sequence[OutgoingEdge],
    earlier: Sequence[EdgeVisits] | None,
    visits: int,
    port: str | None,
    taken: set[int],
) -> tuple[EdgeVisits, ...] | None:
    """Return what a node state stores about its edges at the end of a visit.

    Args:
        out: The outgoing edges of the node.
        earlier: The edges that were taken before this visit.
        visits: The number of this visit.
        port: The port by which the node leaves; None for no port.
        taken: The indexes of the edges by which it leaves.

    Returns:
        None if `port` and `visits` say it all; see `edge_visits`.
    """
    if visits == 1 and all(leaves_by(edge.port, port) == (edge.index in taken) for edge in out):
        return None
    implied = {edge.index for edge in out if leaves_by(edge.port, port)}
    counts = {one.edge: one.visits for one in earlier or ()}
    for index in taken:
        counts[index] = counts.get(index, 0) + 1
    if taken == implied and counts == dict.fromkeys(taken, visits):
        return None
    return tuple(EdgeVisits(index, count, index in taken) for index, count in sorted(counts.items()))


def edge_states(out: Sequence[OutgoingEdge], state: NodeState, on_error: OnError) -> list[EdgeState]:
    """Return the state of each outgoing edge of a node. The arguments are those of `edge_visits`.

    An edge to `__end__` is no edge of the plan: only the port decides whether it is taken. A state
    that an older release has stored has no port, so edges with a port stay PENDING.
    """
    taken = edge_visits(out, state, on_error)
    if _leaves(state, on_error):
        ends = [edge.index for edge in out if edge.target == END and leaves_by(edge.port, state.port)]
        taken |= {index: EdgeVisits(index, state.visits, True) for index in ends}
    lacks_port = state.status is NodeStatus.COMPLETED and state.port is None and state.edges is None
    return [_edge_state(edge, state.status, taken.get(edge.index), lacks_port=lacks_port) for edge in out]


def _edge_state(edge: OutgoingEdge, status: NodeStatus, taken: EdgeVisits | None, *, lacks_port: bool) -> EdgeState:
    visits = 0 if taken is None else taken.visits
    if status not in FINISHED or (lacks_port and edge.port not in (None, ERROR_PORT)):
        return EdgeState(edge.id, EdgeStatus.PENDING, visits)
    is_taken = status in EXECUTED and taken is not None and taken.taken
    return EdgeState(edge.id, EdgeStatus.TAKEN if is_taken else EdgeStatus.SKIPPED, visits)
