"""What can be wrong with a graph of nodes and edges, all of it at once. Pure, and linear in its size."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from itertools import islice

from engine.graph.plan import strongly_connected
from engine.problems import FieldProblem, join_path
from engine.sdk.node import ERROR_PORT
from engine.spec.model import END, START, EdgeSpec, OnError, Spec
from engine.states import Severity

SHOWN = 20
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
    """A spec's graph without the edges that lead nowhere. `paths` are the places of the edges in the raw spec."""

    spec: Spec
    paths: Sequence[str]
    unread: Collection[str] = ()

    @cached_property
    def ids(self) -> set[str]:
        return {node.id for node in self.spec.nodes}

    @cached_property
    def pairs(self) -> set[tuple[str, str]]:
        ids = self.ids
        return {(edge.source, edge.target) for edge in self.spec.edges if edge.source in ids and edge.target in ids}


def check_ids(spec: Spec, node_at: Sequence[int], edge_paths: Sequence[str]) -> Iterator[FieldProblem]:
    """Node and edge ids that are taken, reserved or not well formed."""
    seen: set[str] = set()
    for node, at in zip(spec.nodes, node_at, strict=True):
        path = f"nodes[{at}].id"
        if node.id in seen:
            yield FieldProblem(path, "DUPLICATE_ID", f"there is another node {node.id!r}", node_id=node.id)
        elif node.id in RESERVED or node.id.startswith("__"):
            yield FieldProblem(path, "RESERVED_ID", f"{node.id!r} has a meaning of its own in a spec", node_id=node.id)
        elif not _ID.fullmatch(node.id):
            message = "a node id has 1 to 64 letters, digits, `_`, `-` or `.`, and begins with a letter, a digit or `_`"
            yield FieldProblem(path, "ID_FORMAT", message, node_id=node.id)
        seen.add(node.id)
    seen_edges: set[str] = set()
    for edge, place in zip(spec.edges, edge_paths, strict=True):
        if edge.id in seen_edges:
            yield FieldProblem(
                join_path(place, "id"), "DUPLICATE_ID", f"there is another edge {edge.id!r}", edge_id=edge.id
            )
        seen_edges.add(edge.id)


def check_edges(graph: Graph, ports: Mapping[str, Collection[str] | None]) -> Iterator[FieldProblem]:
    """Edges whose ends or port do not exist. `ports` has None for a node whose ports are not known."""
    known = graph.ids | set(graph.unread)
    on_error = {node.id: node.on_error for node in graph.spec.nodes}
    allowed = {node_id: frozenset(names) for node_id, names in ports.items() if names is not None}
    for edge, path in zip(graph.spec.edges, graph.paths, strict=True):
        own = path.startswith("edges")
        for end, node_id, may_be in (("source", edge.source, START), ("target", edge.target, END)):
            if node_id != may_be and node_id not in known:
                told = (
                    f"{node_id!r} is no {end} of an edge"
                    if node_id in (START, END)
                    else f"there is no node {node_id!r}"
                )
                yield _edge(path, end if own else "", "UNKNOWN_NODE", told, edge)
        if edge.port is None or (edge.source not in ports and edge.source != START):
            continue
        if edge.port == ERROR_PORT and edge.source != START:
            if on_error.get(edge.source) is not OnError.BRANCH:
                message = f"never taken: node {edge.source!r} needs `onError: branch` to leave by `error`"
                yield _edge(path, "port", "DEAD_EDGE", message, edge, Severity.WARNING)
        elif ports.get(edge.source, ()) is not None and edge.port not in allowed.get(edge.source, ()):
            message = f"{edge.source!r} has no port {edge.port!r}; its ports: {_names(ports.get(edge.source))}"
            yield _edge(path, "port", "UNKNOWN_PORT", message, edge)


def _names(ports: Collection[str] | None) -> str:
    names = [f"`{port}`" for port in islice(ports or (), SHOWN)]
    return ", ".join([*names, "…"] if len(ports or ()) > SHOWN else names) or "none but `error`"


def check_branches(graph: Graph, node_at: Sequence[int]) -> Iterator[FieldProblem]:
    """Nodes whose failure leaves by `error` and gets nowhere: the run would be COMPLETED as if nothing had been."""
    handled = {edge.source for edge in graph.spec.edges if edge.port == ERROR_PORT}
    for node, at in zip(graph.spec.nodes, node_at, strict=True):
        if node.on_error is OnError.BRANCH and node.id not in handled:
            message = "no edge leaves by the port `error`: nobody would see this node fail"
            yield FieldProblem(f"nodes[{at}].onError", "UNHANDLED", message, Severity.WARNING, node.id)


def check_reach(graph: Graph, node_at: Sequence[int]) -> Iterator[FieldProblem]:
    """Nodes that no run can get to. Edges out of `__start__`, or else `start` nodes, are alone where a run begins."""
    spec, ids = graph.spec, graph.ids
    entered = {target for _, target in graph.pairs}
    starts = [edge.target for edge in spec.edges if edge.source == START and edge.target in ids]
    if not starts:
        starts = [node.id for node in spec.nodes if node.type == "start"]
    if not starts:
        starts = [node.id for node in spec.nodes if node.id not in entered]
    if spec.nodes and not starts:
        message = (
            "an edge enters every node, so that none begins: add a node of type `start`, or an edge from `__start__`"
        )
        yield FieldProblem("nodes", "UNREACHABLE", message)
        return
    following: dict[str, list[str]] = {}
    for source, target in graph.pairs:
        following.setdefault(source, []).append(target)
    reached, work = set(starts), list(starts)
    while work:
        for target in following.get(work.pop(), ()):
            if target not in reached:
                reached.add(target)
                work.append(target)
    for node, at in zip(spec.nodes, node_at, strict=True):
        if node.id not in reached:
            yield FieldProblem(
                f"nodes[{at}]", "UNREACHABLE", f"no way from the start leads to {node.id!r}", node_id=node.id
            )


def check_cycles(graph: Graph) -> Iterator[FieldProblem]:
    """Cycles that nothing can end: every edge on the way round is always taken."""
    ids = graph.ids
    always = {
        (edge.source, edge.target)
        for edge in graph.spec.edges
        if edge.condition is None and edge.port is None and edge.source in ids and edge.target in ids
    }
    order = [node.id for node in graph.spec.nodes]
    for part in strongly_connected(order, always):
        names = [node_id for node_id in order if node_id in part]
        shown = " → ".join(names[:5]) + (" → …" if len(names) > 5 else "")
        message = f"the cycle {shown} never ends: give an edge in it a condition or a port"
        yield FieldProblem("edges", "ENDLESS_CYCLE", message, node_id=names[0])


def ancestors(graph: Graph) -> dict[str, int]:
    """For each node, as bits in the order of the spec, those that can have run before it; in a cycle, itself too."""
    order = list(dict.fromkeys(node.id for node in graph.spec.nodes))
    bit = {node_id: 1 << index for index, node_id in enumerate(order)}
    pairs = graph.pairs
    part_of = {node_id: node_id for node_id in order}
    members = {node_id: [node_id] for node_id in order}
    for part in strongly_connected(order, pairs):
        name = min(part)
        members[name] = sorted(part)
        part_of.update(dict.fromkeys(part, name))
    earlier: dict[str, set[str]] = {part: set() for part in part_of.values()}
    cyclic = {part_of[source] for source, target in pairs if part_of[source] == part_of[target]}
    for source, target in pairs:
        if part_of[source] != part_of[target]:
            earlier[part_of[target]].add(part_of[source])
    inside = {part: sum(bit[node_id] for node_id in members[part]) for part in earlier}
    reach: dict[str, int] = {}
    for name in TopologicalSorter(earlier).static_order():
        reach[name] = inside[name] if name in cyclic else 0
        for other in earlier[name]:
            reach[name] |= reach[other] | inside[other]
    return {node_id: reach[part_of[node_id]] for node_id in order}


def _edge(
    path: str, part: str, code: str, message: str, edge: EdgeSpec, severity: Severity = Severity.ERROR
) -> FieldProblem:
    return FieldProblem(join_path(path, part) if part else path, code, message, severity, edge.source, edge.id)
