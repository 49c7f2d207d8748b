"""Checks of the graph of nodes and edges: ids, ports, reachability and cycles. Pure.

Every check takes time linear in the size of the graph and reports all of its problems.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from itertools import islice

from engine.graph.plan import find_starts, strongly_connected
from engine.problems import FieldProblem, join_path
from engine.sdk.node import ERROR_PORT
from engine.spec.model import END, START, EdgeSpec, OnError, Spec
from engine.states import Severity

MAX_NAMES = 20
"""Names that a message lists."""
# fmt: off
RESERVED = frozenset({
    "input", "nodes", "run", "secrets", "item", "index", "event", "loop", "self", "range", "dict", "true", "false",
    "none", "null", "True", "False", "None", "and", "or", "not", "in", "is", "if", "elif", "else", "for", "endif",
    "endfor", "set", "recursive",
})
# fmt: on
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Graph:
    """The graph of a spec.

    `paths` are the paths of the edges in the raw spec, `unparsed` the ids of nodes that could not
    be parsed.
    """

    spec: Spec
    paths: Sequence[str]
    unparsed: Collection[str] = ()

    @cached_property
    def ids(self) -> set[str]:
        """The ids of the nodes."""
        return {node.id for node in self.spec.nodes}

    @cached_property
    def pairs(self) -> set[tuple[str, str]]:
        """(source, target) of every edge whose two ends are nodes of the spec."""
        ids = self.ids
        return {(edge.source, edge.target) for edge in self.spec.edges if edge.source in ids and edge.target in ids}


def check_ids(spec: Spec, node_indexes: Sequence[int], edge_paths: Sequence[str]) -> Iterator[FieldProblem]:
    """Find node and edge ids that are duplicate, reserved or not well formed."""
    seen: set[str] = set()
    for node, index in zip(spec.nodes, node_indexes, strict=True):
        path = f"nodes[{index}].id"
        if node.id in seen:
            yield FieldProblem(path, "DUPLICATE_ID", f"there is another node {node.id!r}", node_id=node.id)
        elif node.id in RESERVED or node.id.startswith("__"):
            message = f"{node.id!r} is a reserved name of templates: choose another id"
            yield FieldProblem(path, "RESERVED_ID", message, node_id=node.id)
        elif not _ID.fullmatch(node.id):
            message = "a node id has 1 to 64 letters, digits, `_`, `-` or `.`, and begins with a letter, a digit or `_`"
            yield FieldProblem(path, "ID_FORMAT", message, node_id=node.id)
        seen.add(node.id)
    seen_edges: set[str] = set()
    for edge, path in zip(spec.edges, edge_paths, strict=True):
        if edge.id in seen_edges:
            message = f"there is another edge {edge.id!r}"
            yield FieldProblem(join_path(path, "id"), "DUPLICATE_ID", message, edge_id=edge.id)
        seen_edges.add(edge.id)


def check_edges(graph: Graph, ports: Mapping[str, Collection[str] | None]) -> Iterator[FieldProblem]:
    """Find edges whose source, target or port does not exist.

    `ports` maps node ids to port names; it has None for a node whose ports are not known.
    """
    known = graph.ids | set(graph.unparsed)
    on_error = {node.id: node.on_error for node in graph.spec.nodes}
    allowed = {node_id: frozenset(names) for node_id, names in ports.items() if names is not None}
    for edge, path in zip(graph.spec.edges, graph.paths, strict=True):
        is_written = path.startswith("edges")  # else it comes from the config of a conditional
        for end, node_id, terminal in (("source", edge.source, START), ("target", edge.target, END)):
            if node_id != terminal and node_id not in known:
                is_terminal = node_id in (START, END)
                message = (
                    f"{node_id!r} cannot be the {end} of an edge" if is_terminal else f"there is no node {node_id!r}"
                )
                yield _edge(path, end if is_written else "", "UNKNOWN_NODE", message, edge)
        if edge.port is None or (edge.source not in ports and edge.source != START):
            continue
        if edge.port == ERROR_PORT and edge.source != START:
            if on_error.get(edge.source) is not OnError.BRANCH:
                message = f"never taken: node {edge.source!r} uses the port `error` only with `onError: branch`"
                yield _edge(path, "port", "DEAD_EDGE", message, edge, Severity.WARNING)
        elif ports.get(edge.source, ()) is not None and edge.port not in allowed.get(edge.source, ()):
            message = f"{edge.source!r} has no port {edge.port!r}; its ports: {_port_names(ports.get(edge.source))}"
            yield _edge(path, "port", "UNKNOWN_PORT", message, edge)


def _port_names(ports: Collection[str] | None) -> str:
    names = [f"`{port}`" for port in islice(ports or (), MAX_NAMES)]
    return ", ".join([*names, "…"] if len(ports or ()) > MAX_NAMES else names) or "only `error`"


def check_branches(graph: Graph, node_indexes: Sequence[int]) -> Iterator[FieldProblem]:
    """Find nodes with `onError: branch` and no edge from `error`.

    A run would hide their failure.
    """
    handled = {edge.source for edge in graph.spec.edges if edge.port == ERROR_PORT}
    for node, index in zip(graph.spec.nodes, node_indexes, strict=True):
        if node.on_error is OnError.BRANCH and node.id not in handled:
            message = "no edge leaves by the port `error`: if this node fails, the run completes and does not show it"
            yield FieldProblem(f"nodes[{index}].onError", "UNHANDLED", message, Severity.WARNING, node.id)


def check_isolated(graph: Graph, node_indexes: Sequence[int]) -> Iterator[FieldProblem]:
    """Find nodes without any edge in a spec that has edges. They run by themselves."""
    if not graph.pairs:
        return
    ends = {end for edge in graph.spec.edges for end in (edge.source, edge.target)}
    reached = set(find_starts(graph.spec).node_ids)
    for node, index in zip(graph.spec.nodes, node_indexes, strict=True):
        if node.id not in ends and node.id in reached:  # one that is not reached is an error already
            message = (
                f"no edge leads to {node.id!r} or from it, so it runs by itself when the run starts: "
                "connect it with the other nodes, or remove it"
            )
            yield FieldProblem(f"nodes[{index}]", "ISOLATED", message, Severity.WARNING, node.id)


def check_reach(graph: Graph, node_indexes: Sequence[int]) -> Iterator[FieldProblem]:
    """Find nodes that no run can reach. Warn if nothing names the start of a run."""
    spec, starts = graph.spec, find_starts(graph.spec)
    if starts.is_fallback and spec.nodes:
        message = (
            f"every node has an incoming edge, so a run begins at the first node, {spec.nodes[0].id!r}: "
            "add a `start` node or an edge from `__start__` to name the start"
        )
        yield FieldProblem("nodes", "IMPLIED_START", message, Severity.WARNING, spec.nodes[0].id)
    reached = reachable(starts.node_ids, graph.pairs)
    for node, index in zip(spec.nodes, node_indexes, strict=True):
        if node.id not in reached:
            message = f"no path leads from the start to {node.id!r}"
            yield FieldProblem(f"nodes[{index}]", "UNREACHABLE", message, node_id=node.id)


def reachable(starts: Collection[str], pairs: Collection[tuple[str, str]]) -> set[str]:
    """Return the starts and every node to which a path of edges leads from them."""
    following: dict[str, list[str]] = {}
    for source, target in pairs:
        following.setdefault(source, []).append(target)
    reached, stack = set(starts), list(starts)
    while stack:
        for target in following.get(stack.pop(), ()):
            if target not in reached:
                reached.add(target)
                stack.append(target)
    return reached


def check_cycles(graph: Graph) -> Iterator[FieldProblem]:
    """Find cycles that never end, since every edge in them is always taken.

    They are the strongly connected components (Tarjan 1972) of the edges without condition and
    port.
    """
    ids = graph.ids
    always = {
        (edge.source, edge.target)
        for edge in graph.spec.edges
        if edge.condition is None and edge.port is None and edge.source in ids and edge.target in ids
    }
    order = [node.id for node in graph.spec.nodes]
    for component in strongly_connected(order, always):
        names = [node_id for node_id in order if node_id in component]
        path = " → ".join(names[:5]) + (" → …" if len(names) > 5 else "")
        message = f"the cycle {path} never ends: give one of its edges a condition or a port"
        yield FieldProblem("edges", "ENDLESS_CYCLE", message, node_id=names[0])


def ancestors(graph: Graph) -> dict[str, int]:
    """Return for each node the nodes that can have run before it, as bits in the order of the spec.

    A node in a cycle is among its own ancestors. Nodes are grouped by strongly connected
    components (Tarjan 1972), and the components are visited in topological order; bit sets keep
    this linear for graphs of 1,000 nodes.
    """
    order = list(dict.fromkeys(node.id for node in graph.spec.nodes))
    bit = {node_id: 1 << index for index, node_id in enumerate(order)}
    pairs = graph.pairs
    component_of = {node_id: node_id for node_id in order}
    members = {node_id: [node_id] for node_id in order}
    for component in strongly_connected(order, pairs):
        name = min(component)
        members[name] = sorted(component)
        component_of.update(dict.fromkeys(component, name))
    earlier: dict[str, set[str]] = {name: set() for name in component_of.values()}
    cyclic = {component_of[source] for source, target in pairs if component_of[source] == component_of[target]}
    for source, target in pairs:
        if component_of[source] != component_of[target]:
            earlier[component_of[target]].add(component_of[source])
    own_bits = {name: sum(bit[node_id] for node_id in members[name]) for name in earlier}
    before: dict[str, int] = {}
    for name in TopologicalSorter(earlier).static_order():
        before[name] = own_bits[name] if name in cyclic else 0
        for other in earlier[name]:
            before[name] |= before[other] | own_bits[other]
    return {node_id: before[component_of[node_id]] for node_id in order}


def _edge(
    path: str, part: str, code: str, message: str, edge: EdgeSpec, severity: Severity = Severity.ERROR
) -> FieldProblem:
    return FieldProblem(join_path(path, part) if part else path, code, message, severity, edge.source, edge.id)
