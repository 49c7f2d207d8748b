"""The execution plan of a graph: loops, kinds of edges and joins, computed from the spec only.

The compiler, the position of a run and the forks read the plan; no other module decides what may
follow what. A plan is pure data of a spec. It holds no state of a run, so a crash cannot damage it.

Loops
    A loop is a strongly connected component of the graph: two or more nodes, or one node with an
    edge to itself (Tarjan 1972). Its header is the only node that edges from outside the loop
    enter. Two such nodes are an error. Without the edges to the header, the nodes of the loop are
    decomposed again, which finds the inner loops. The result is the loop-nesting forest of
    Steensgaard (1993).

Kinds of edges
    A BACK edge leads from a node of a loop to the header of that loop. It may leave inner loops at
    the same time. An EXIT edge leads out of at least one loop and closes none. All other edges are
    FORWARD edges. The entries of a node are its incoming FORWARD and EXIT edges.

Rounds
    A node in k nested loops always runs in a round: a tuple of k counters, outermost loop first. A
    node outside all loops runs in round (). A header that is entered in round r of the outer loops
    runs in round (*r, 0). It runs in round (*r, n + 1) when a BACK edge is taken in round (*r, n).
    Tuples compare lexicographically, so the later of two rounds is the greater one.

docs/loops.md describes how edges settle, when a node runs and when a round is over. The state of a
run in its plan is engine.graph.position.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from engine.problems import FieldProblem
from engine.spec.model import END, START, EdgeSpec, Join, NodeSpec, Spec
from engine.states import Severity

MAX_DEPTH = 20
"""The greatest depth of nested loops. Each level costs one more pass over the rest of the graph."""
START_TYPE = "start"
"""The type of the nodes at which a run begins if no edge leaves `__start__`."""
Round = tuple[int, ...]
"""One counter for each enclosing loop of a node, outermost first."""


class EdgeKind(StrEnum):
    """The three kinds of edges; see the docstring of this module."""

    FORWARD = "forward"
    EXIT = "exit"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class PlanEdge:
    """An edge of the plan.

    `index` is its position in the spec, with the implied edges of `__start__` at the end. `shared`
    is the number of loops whose counters a token of this edge carries.
    """

    index: int
    id: str
    source: str
    target: str
    port: str | None
    condition: str | None
    kind: EdgeKind
    shared: int
    leaves: int = 0
    """The number of loops that the edge leaves; a BACK edge may leave some as well."""

    @property
    def closes(self) -> bool:
        """Whether the edge leads to the header of a loop that contains its source."""
        return self.kind is EdgeKind.BACK

    def round_at_target(self, round_: Round) -> Round:
        """Convert a round of the source to the round of the token that this edge sends."""
        return round_[: self.shared]


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node of the plan, with its loops and its edges."""

    id: str
    spec: NodeSpec
    loops: tuple[str, ...]
    """The headers of the enclosing loops, outermost first. A header is in its own loop."""
    is_header: bool
    entries: tuple[PlanEdge, ...]
    """The incoming FORWARD and EXIT edges."""
    back_edges: tuple[PlanEdge, ...]
    """The incoming BACK edges. Only a header has some."""
    out: tuple[PlanEdge, ...]
    exits: tuple[PlanEdge, ...]
    """For a header: the edges that are dead when its loop is over. These are the edges for which
    this loop is the outermost one that they leave. Some of them close a loop around it.
    """

    @property
    def needs_barrier(self) -> bool:
        """Whether the node joins its entries, so that the position must remember which have settled.

        A single FORWARD entry starts or skips the node at once. A single EXIT entry needs the
        barrier, because several rounds of the loop may take it and the node runs once.
        """
        return len(self.entries) != 1 or self.entries[0].kind is EdgeKind.EXIT

    @property
    def joins_any(self) -> bool:
        """Whether the first taken entry starts the node (`join: any`)."""
        return self.spec.join is Join.ANY

    def first_round(self, entry: Round) -> Round:
        """Return the round in which the node runs when its entries settle in round `entry`."""
        return (*entry, 0) if self.is_header else entry

    def entry_round(self, round_: Round) -> Round:
        """Return the round of the entries that led to `round_` of the node: undo `first_round`."""
        return round_[:-1] if self.is_header else round_

    @property
    def cancels_others(self) -> bool:
        """Whether the first taken entry cancels the other branches that lead only here."""
        return self.joins_any and self.spec.cancels_others

    @property
    def entry_loops(self) -> tuple[str, ...]:
        """The headers of the loops that contain the node and its entries, outermost first."""
        return self.loops[:-1] if self.is_header else self.loops


@dataclass(frozen=True, slots=True)
class PlanLoop:
    """A loop of the plan, with the parts that have to settle before a round of it is over."""

    header: str
    parent: str | None
    """The header of the loop directly around it."""
    body: tuple[str, ...]
    """Its nodes, with those of the loops inside."""
    exits: tuple[PlanEdge, ...]
    """The edges for which it is the outermost loop that they leave."""
    inner: tuple[str, ...]
    """The headers of the loops directly inside."""
    any_joins: tuple[str, ...]
    """The nodes directly inside with several entries and `join: any`. The first taken entry starts
    such a node, and the round has to wait for the others.
    """
    part_count: int
    """The number of parts of a round: the BACK edges, the inner loops and the `any_joins`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a whole graph."""

    nodes: dict[str, PlanNode]
    starts: tuple[PlanEdge, ...]
    """The edges of `__start__`."""
    leaves: tuple[str, ...]
    """The nodes that no edge leaves."""
    steps: tuple[tuple[str, ...], ...] = field(default=())
    """The nodes by the earliest step in which they can run."""
    loops: Mapping[str, PlanLoop] = field(default_factory=dict)
    """The loops by header."""


class PlanError(Exception):
    """The graph cannot be planned. `problems` are all reasons, with their place in the spec."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


def make_plan(spec: Spec) -> Plan:
    """Compute the plan of a spec.

    Args:
        spec: A spec in which both ends of every edge exist.

    Raises:
        PlanError: A loop has two entries, or loops are nested deeper than MAX_DEPTH.
    """
    edges = _edges_with_starts(spec)
    loops = _LoopForest([node.id for node in spec.nodes], edges)
    planned = [loops.plan_edge(index, edge) for index, edge in enumerate(edges) if edge.target != END]
    incoming: dict[str, list[PlanEdge]] = {node.id: [] for node in spec.nodes}
    out: dict[str, list[PlanEdge]] = {node.id: [] for node in spec.nodes}
    for edge in planned:
        incoming[edge.target].append(edge)
        if edge.source != START:
            out[edge.source].append(edge)
    exits = loops.exits(planned)
    nodes = {
        node.id: PlanNode(
            node.id,
            node,
            loops.headers[node.id],
            node.id in loops.bodies,
            tuple(edge for edge in incoming[node.id] if edge.kind is not EdgeKind.BACK),
            tuple(edge for edge in incoming[node.id] if edge.kind is EdgeKind.BACK),
            tuple(out[node.id]),
            tuple(exits.get(node.id, ())),
        )
        for node in spec.nodes
    }
    return Plan(
        nodes,
        tuple(edge for edge in planned if edge.source == START),
        tuple(node_id for node_id, node in nodes.items() if not node.out),
        _steps(nodes),
        loops.describe(nodes, exits),
    )


class Starts(NamedTuple):
    """The nodes at which a run begins.

    `is_fallback` means that the spec names no start: every node has an incoming edge, so the run begins
    at the first node of the spec.
    """

    node_ids: list[str]
    is_fallback: bool = False


def find_starts(spec: Spec) -> Starts:
    """Find the nodes at which a run begins.

    These are the targets of the edges from `__start__`; without any, the nodes of type `start`;
    without any, the nodes that no edge enters; without any, the first node.
    """
    ids = [node.id for node in spec.nodes]
    known = set(ids)
    targets = {edge.target for edge in spec.edges if edge.source == START}
    if named := [node_id for node_id in ids if node_id in targets]:
        return Starts(named)
    if named := [node.id for node in spec.nodes if node.type == START_TYPE]:
        return Starts(named)
    entered = {edge.target for edge in spec.edges if edge.source in known}
    if free := [node_id for node_id in ids if node_id not in entered]:
        return Starts(free)
    return Starts(ids[:1], is_fallback=True)


def _edges_with_starts(spec: Spec) -> list[EdgeSpec]:
    """Return the edges of the spec, and the implied edges from `__start__`.

    These lead to the nodes that no edge enters. If the spec has no edge from `__start__`, they lead
    to all nodes at which a run begins.
    """
    entered = {edge.target for edge in spec.edges}
    has_start_edge = any(edge.source == START for edge in spec.edges)
    starts = set() if has_start_edge else set(find_starts(spec).node_ids)
    implied = [
        EdgeSpec(id=f"{START}->{node.id}", source=START, target=node.id)
        for node in spec.nodes
        if node.id not in entered or node.id in starts
    ]
    return [*spec.edges, *implied]


class _LoopForest:
    """The loop-nesting forest of a graph.

    `headers` maps a node to the headers of its loops, outermost first. `bodies` maps a header to
    the nodes of its loop, itself included.
    """

    def __init__(self, nodes: Sequence[str], edges: Sequence[EdgeSpec]) -> None:
        self.headers: dict[str, tuple[str, ...]] = dict.fromkeys(nodes, ())
        self.headers[START] = ()
        self.bodies: dict[str, set[str]] = {}
        self._back_pairs: set[tuple[str, str]] = set()
        self._problems: list[FieldProblem] = []
        self._decompose(list(nodes), {(edge.source, edge.target) for edge in edges if edge.target != END})
        if self._problems:
            raise PlanError(self._problems)

    def _decompose(self, nodes: list[str], pairs: set[tuple[str, str]]) -> None:
        """Find the loops, and again the loops inside each of them without its back edges."""
        pending = [(nodes, pairs, 1)]
        while pending:
            nodes, pairs, depth = pending.pop()
            for body in strongly_connected(nodes, pairs):
                header = self._header(body, pairs, nodes)
                if depth > MAX_DEPTH:
                    message = f"loops are nested more than {MAX_DEPTH} deep"
                    self._problems.append(FieldProblem("edges", "LOOP_DEPTH", message, node_id=header))
                    continue
                self.bodies[header] = body
                for node in body:
                    self.headers[node] += (header,)
                inside = {(s, t) for s, t in pairs if s in body and t in body}
                back = {pair for pair in inside if pair[1] == header}
                self._back_pairs |= back
                pending.append(([n for n in nodes if n in body], inside - back, depth + 1))

    def _header(self, body: set[str], pairs: set[tuple[str, str]], order: list[str]) -> str:
        """Return the node by which the loop is entered; the first node of the spec if none is."""
        entries = {t for s, t in pairs if t in body and s not in body}
        if len(entries) > 1:
            names = ", ".join(repr(node_id) for node_id in sorted(entries))
            message = (
                f"the loop can be entered at {names}, so its rounds cannot be told apart: put a node before "
                "these, lead all edges from outside and all edges that repeat the loop to it, and choose there"
            )
            self._problems.append(
                FieldProblem("edges", "LOOP_ENTRIES", message, Severity.ERROR, node_id=sorted(entries)[0])
            )
        return min(entries) if entries else next(node for node in order if node in body)

    def plan_edge(self, index: int, edge: EdgeSpec) -> PlanEdge:
        """Classify an edge by the loops of its two ends."""
        source, target = self.headers[edge.source], self.headers[edge.target]
        shared = next((i for i, (a, b) in enumerate(zip(source, target, strict=False)) if a != b), None)
        shared = min(len(source), len(target)) if shared is None else shared
        kind = EdgeKind.EXIT if len(source) > shared else EdgeKind.FORWARD
        if (edge.source, edge.target) in self._back_pairs:
            kind, shared = EdgeKind.BACK, source.index(edge.target) + 1
        leaves = len(source) - shared
        return PlanEdge(index, edge.id, edge.source, edge.target, edge.port, edge.condition, kind, shared, leaves)

    def describe(self, nodes: Mapping[str, PlanNode], exits: Mapping[str, Sequence[PlanEdge]]) -> dict[str, PlanLoop]:
        """Return every loop by its header."""
        around = {header: self.headers[header][:-1] for header in self.bodies}
        parents = {header: outer[-1] if outer else None for header, outer in around.items()}
        any_joins: dict[str, list[str]] = {header: [] for header in self.bodies}
        for node in nodes.values():
            if node.entry_loops and node.joins_any and len(node.entries) > 1:
                any_joins[node.entry_loops[-1]].append(node.id)
        loops = {}
        for header, parent in parents.items():
            inner = tuple(other for other, outer in parents.items() if outer == header)
            part_count = len(nodes[header].back_edges) + len(inner) + len(any_joins[header])
            body = tuple(node for node in nodes if node in self.bodies[header])
            own_exits = tuple(exits.get(header, ()))
            loops[header] = PlanLoop(header, parent, body, own_exits, inner, tuple(any_joins[header]), part_count)
        return loops

    def exits(self, edges: Iterable[PlanEdge]) -> dict[str, list[PlanEdge]]:
        """Group the edges that leave loops by the header of the outermost loop that they leave."""
        by_header: dict[str, list[PlanEdge]] = {}
        for edge in edges:
            if edge.leaves:
                by_header.setdefault(self.headers[edge.source][edge.shared], []).append(edge)
        return by_header


def strongly_connected(nodes: Sequence[str], pairs: Collection[tuple[str, str]]) -> list[set[str]]:
    """Find the cycles of a graph by the algorithm of Tarjan (1972), without recursion.

    Args:
        nodes: The ids of the nodes.
        pairs: The edges as (source, target). Edges to or from other nodes are ignored.

    Returns:
        The strongly connected components of two or more nodes, and each single node with an edge to
        itself. Takes O(nodes + edges) time, plus the time to sort the edges.
    """
    successors: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in sorted(pairs):
        if source in successors and target in successors:
            successors[source].append(target)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    components: list[set[str]] = []
    for root in nodes:
        if root in index:
            continue
        path = [(root, iter(successors[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while path:
            node, children = path[-1]
            child = next(children, None)
            if child is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[node])
                if low[node] == index[node]:
                    component = _pop_component(node, stack, on_stack)
                    if len(component) > 1 or node in successors[node]:
                        components.append(component)
            elif child not in index:
                index[child] = low[child] = len(index)
                stack.append(child)
                on_stack.add(child)
                path.append((child, iter(successors[child])))
            elif child in on_stack:
                low[node] = min(low[node], index[child])
    return components


def _pop_component(root: str, stack: list[str], on_stack: set[str]) -> set[str]:
    component: set[str] = set()
    while root not in component:
        node = stack.pop()
        on_stack.discard(node)
        component.add(node)
    return component


def _steps(nodes: dict[str, PlanNode]) -> tuple[tuple[str, ...], ...]:
    """Group the nodes by the length of the longest path from the start, without BACK edges."""
    depth: dict[str, int] = {}
    unsettled = {node_id: len(node.entries) for node_id, node in nodes.items()}
    for node in nodes.values():
        unsettled[node.id] -= sum(edge.source == START for edge in node.entries)
    ready = [node_id for node_id, count in unsettled.items() if count == 0]
    for node_id in ready:
        depth.setdefault(node_id, 0)
        for edge in nodes[node_id].out:
            if edge.kind is EdgeKind.BACK:
                continue
            depth[edge.target] = max(depth.get(edge.target, 0), depth[node_id] + 1)
            unsettled[edge.target] -= 1
            if unsettled[edge.target] == 0:
                ready.append(edge.target)
    steps = defaultdict[int, list[str]](list)
    for node_id, step in depth.items():
        steps[step].append(node_id)
    return tuple(tuple(steps[step]) for step in sorted(steps))
