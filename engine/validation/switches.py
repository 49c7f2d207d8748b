"""Warns of the ports of a `switch` that no edge leaves. Pure."""

from collections.abc import Iterator, Sequence

from engine.problems import FieldProblem
from engine.spec.model import NodeSpec
from engine.states import Severity
from engine.validation.graph_checks import Graph

SWITCH = "switch"
"""The node type that leaves by the port of a case."""


def check_switches(graph: Graph, node_indexes: Sequence[int]) -> Iterator[FieldProblem]:
    """Find the ports of switches that no edge leaves, and switches without `default`.

    A switch that no edge leaves ends its path, and is not reported. An edge without a port is taken
    for every port, also for none.
    """
    ports: dict[str, set[str | None]] = {}
    for edge in graph.spec.edges:
        ports.setdefault(edge.source, set()).add(edge.port)
    for node, index in zip(graph.spec.nodes, node_indexes, strict=True):
        leaving = ports.get(node.id, set())
        if node.type == SWITCH and leaving and None not in leaving:
            yield from _check_default(node, index)
            yield from _check_ports(node, index, leaving)


def _check_default(node: NodeSpec, index: int) -> Iterator[FieldProblem]:
    if node.config.get("default") is None:
        message = (
            "without `default`, no edge is taken if none of the conditions is true, and everything behind this "
            "node is skipped: name a port for that case, and add an edge from it"
        )
        yield FieldProblem(f"nodes[{index}].config.default", "NO_DEFAULT", message, Severity.WARNING, node.id)


def _check_ports(node: NodeSpec, index: int, leaving: set[str | None]) -> Iterator[FieldProblem]:
    for path, port in _declared(node).items():
        if port not in leaving:
            message = (
                f"no edge leaves by the port {port!r}: if the switch chooses it, everything behind this node is "
                f"skipped. Add an edge with `port: {port}`, or an edge without a port"
            )
            yield FieldProblem(f"nodes[{index}].config.{path}", "PORT_WITHOUT_EDGE", message, Severity.WARNING, node.id)


def _declared(node: NodeSpec) -> dict[str, str]:
    """Return the ports of a config by the path at which each occurs first."""
    found: dict[str, str] = {}
    cases = node.config.get("cases")
    named = [
        (f"cases[{place}].port", case.get("port"))
        for place, case in enumerate(cases if isinstance(cases, list) else [])
        if isinstance(case, dict)
    ]
    seen: set[str] = set()
    for path, port in [*named, ("default", node.config.get("default"))]:
        if isinstance(port, str) and port not in seen:
            seen.add(port)
            found[path] = port
    return found
