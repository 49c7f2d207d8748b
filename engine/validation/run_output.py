"""Warns of parts of a graph whose end gives no output. Pure.

Without `outputs`, the output of a run is that of an `end` node, or of the nodes that no edge leaves.
An edge to `__end__` ends a path and names no output.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import and_

from engine.problems import FieldProblem
from engine.sdk.node_types import NodeTypes
from engine.spec.model import END, EdgeSpec
from engine.states import Severity
from engine.validation.graph_checks import MAX_NAMES, Graph, ancestors, reachable


def check_run_output(graph: Graph, node_indexes: Sequence[int], types: NodeTypes) -> Iterator[FieldProblem]:
    """Find nodes from which no output can be reached, and edges to `__end__` that leave none."""
    if graph.spec.outputs is not None or not graph.spec.nodes:
        return
    sources = {source for source, _ in graph.pairs}
    sinks = [
        node.id
        for node in graph.spec.nodes
        if node.id not in sources or (node.type in types and types[node.type].ends_run)
    ]
    with_output = reachable(sinks, {(target, source) for source, target in graph.pairs})
    yield from _check_nodes(graph, node_indexes, with_output)
    yield from _check_ends(graph, sinks, with_output)


def _check_nodes(graph: Graph, node_indexes: Sequence[int], with_output: set[str]) -> Iterator[FieldProblem]:
    without = [
        (node.id, index)
        for node, index in zip(graph.spec.nodes, node_indexes, strict=True)
        if node.id not in with_output
    ]
    if without:
        names = ", ".join([repr(node_id) for node_id, _ in without[:MAX_NAMES]] + ["…"] * (len(without) > MAX_NAMES))
        message = (
            f"no path leads from {names} to an `end` node or to a node without an outgoing edge, so the output has "
            "nothing of them, and is {} if nothing else runs: lead an edge out to an `end` node, or add `outputs`"
        )
        yield FieldProblem(f"nodes[{without[0][1]}]", "NO_OUTPUT", message, Severity.WARNING, without[0][0])


def _check_ends(graph: Graph, sinks: list[str], with_output: set[str]) -> Iterator[FieldProblem]:
    """Find edges to `__end__` that can be taken instead of every path to an output."""
    ends = [(edge, path) for edge, path in zip(graph.spec.edges, graph.paths, strict=True) if edge.target == END]
    ends = [(edge, path) for edge, path in ends if edge.source in with_output and _is_choice(edge)]
    always = {edge.source for edge in graph.spec.edges if edge.target in with_output and not _is_choice(edge)}
    if not ends or not sinks:
        return
    before = ancestors(graph)
    bits = {node_id: 1 << place for place, node_id in enumerate(before)}
    before_all = reduce(and_, (before[sink] for sink in sinks))
    for edge, path in ends:
        if edge.source not in always and before_all & bits[edge.source]:
            message = (
                "`__end__` ends this path without an output: the output is {} if no `end` node and no node without "
                "an outgoing edge has run. Lead the edge to an `end` node, or add `outputs`"
            )
            yield FieldProblem(path, "NO_OUTPUT", message, Severity.WARNING, edge.source, edge.id)


def _is_choice(edge: EdgeSpec) -> bool:
    return edge.port is not None or edge.condition is not None
