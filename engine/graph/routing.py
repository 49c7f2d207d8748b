"""The edges by which a node leaves, by its port and the conditions of the edges.

Pure, so a crash before the result is durable loses nothing. The scheduler calls this module during
a run, and the forks call it for patched nodes. What follows from the taken edges is decided by
engine.graph.position.
"""

from collections.abc import Callable, Sequence

from engine.graph.plan import PlanEdge
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
    return {edge.index for edge in out if leaves_by(edge.port, port) and (edge.condition is None or holds(edge))}


def leaves_by(edge_port: str | None, port: str | None) -> bool:
    """Return whether an edge with the port `edge_port` is taken when its node leaves by `port`."""
    return edge_port == port if edge_port is not None else port != ERROR_PORT
