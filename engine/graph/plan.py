"""What can follow what: joins, dead branches and loops, worked out from the spec alone.

Every edge gets one of three kinds. A `back` edge goes to the only entry (the header) of a loop it lies in and ends a round;
an `exit` edge leaves a loop and is dead only when that loop is over; all others settle as soon as their source has run.
Rounds are vectors, one counter per enclosing loop, outermost first: a token of an older round is late and means nothing.
The decomposition is the loop-nesting forest of Steensgaard (1993): strongly connected parts, their header, and again inside.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from engine.problems import FieldProblem
from engine.spec.model import END, START, EdgeSpec, Join, NodeSpec, Spec
from engine.states import Severity

MAX_DEPTH = 20
"""Loops inside loops: each level looks through what is left of the graph once more."""
Round = tuple[int, ...]
"""One counter per enclosing loop, outermost first."""


class EdgeKind(StrEnum):
    FORWARD = "forward"
    EXIT = "exit"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class PlanEdge:
    """An edge as the plan sees it. `shared` is how many enclosing loops its two ends have in common."""

    index: int
    id: str
    source: str
    target: str
    port: str | None
    condition: str | None
    kind: EdgeKind
    shared: int

    def round_at_target(self, round_: Round) -> Round:
        """The round vector of the source cut to what the target's gate counts."""
        return round_[: self.shared]


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node with its place in the loops. `entries` are its forward and exit edges in, `needs_gate` says whether it joins."""

    id: str
    spec: NodeSpec
    loops: tuple[str, ...]
    is_header: bool
    entries: tuple[PlanEdge, ...]
    back_edges: tuple[PlanEdge, ...]
    out: tuple[PlanEdge, ...]
    exits: tuple[PlanEdge, ...]
    """For a header: the edges that leave its loop, dead when the loop is over."""

    @property
    def needs_gate(self) -> bool:
        """A single forward entry fires at once; anything else must remember what it has seen."""
        return len(self.entries) != 1 or self.entries[0].kind is EdgeKind.EXIT

    def first_round(self, entry: Round) -> Round:
        """The round a node runs in when it is entered from outside its own loop."""
        return (*entry, 0) if self.is_header else entry


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole graph. `starts` are the edges of `__start__`; `leaves` the nodes that no edge leaves."""

    nodes: dict[str, PlanNode]
    starts: tuple[PlanEdge, ...]
    leaves: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...] = field(default=())


class PlanError(Exception):
    """The graph cannot be planned; `problems` says where."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


def make_plan(spec: Spec) -> Plan:
    """Plans a spec whose edges all have known ends. Raises PlanError for a loop that can be entered at two nodes."""
    edges = _edges_with_starts(spec)
    loops = _Loops([node.id for node in spec.nodes], edges)
    planned = [loops.plan_edge(index, edge) for index, edge in enumerate(edges) if edge.target != END]
    into: dict[str, list[PlanEdge]] = {node.id: [] for node in spec.nodes}
    out: dict[str, list[PlanEdge]] = {node.id: [] for node in spec.nodes}
    for edge in planned:
        into[edge.target].append(edge)
        if edge.source != START:
            out[edge.source].append(edge)
    exits = loops.exits(planned)
    nodes = {
        node.id: PlanNode(
            node.id,
            node,
            loops.of[node.id],
            node.id in loops.bodies,
            tuple(edge for edge in into[node.id] if edge.kind is not EdgeKind.BACK),
            tuple(edge for edge in into[node.id] if edge.kind is EdgeKind.BACK),
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
    )


def _edges_with_starts(spec: Spec) -> list[EdgeSpec]:
    """The spec's edges; every node that none of them enters gets one from `__start__`."""
    entered = {edge.target for edge in spec.edges}
    missing = [
        EdgeSpec(id=f"{START}->{node.id}", source=START, target=node.id)
        for node in spec.nodes
        if node.id not in entered
    ]
    return [*spec.edges, *missing]


class _Loops:
    """The loop-nesting forest: for each node its enclosing headers, for each header its body."""

    def __init__(self, nodes: Sequence[str], edges: Sequence[EdgeSpec]) -> None:
        self.of: dict[str, tuple[str, ...]] = dict.fromkeys(nodes, ())
        self.of[START] = ()
        self.bodies: dict[str, set[str]] = {}
        self.back: set[tuple[str, str]] = set()
        self._problems: list[FieldProblem] = []
        self._find(list(nodes), {(edge.source, edge.target) for edge in edges if edge.target != END})
        if self._problems:
            raise PlanError(self._problems)

    def _find(self, nodes: list[str], pairs: set[tuple[str, str]]) -> None:
        work = [(nodes, pairs, 1)]
        while work:
            nodes, pairs, depth = work.pop()
            for body in strongly_connected(nodes, pairs):
                header = self._header(body, pairs, nodes)
                if depth > MAX_DEPTH:
                    message = f"loops are nested more than {MAX_DEPTH} deep"
                    self._problems.append(FieldProblem("edges", "LOOP_DEPTH", message, node_id=header))
                    continue
                self.bodies[header] = body
                for node in body:
                    self.of[node] += (header,)
                inside = {(s, t) for s, t in pairs if s in body and t in body}
                self.back |= {pair for pair in inside if pair[1] == header}
                rest = {pair for pair in inside if pair[1] != header}
                work.append(([n for n in nodes if n in body], rest, depth + 1))

    def _header(self, body: set[str], pairs: set[tuple[str, str]], order: list[str]) -> str:
        entries = {t for s, t in pairs if t in body and s not in body}
        if len(entries) > 1:
            names = ", ".join(sorted(entries))
            message = f"the loop can be entered at {names}; give it one entry"
            self._problems.append(
                FieldProblem("edges", "LOOP_ENTRIES", message, Severity.ERROR, node_id=sorted(entries)[0])
            )
        return min(entries) if entries else next(node for node in order if node in body)

    def plan_edge(self, index: int, edge: EdgeSpec) -> PlanEdge:
        source, target = self.of[edge.source], self.of[edge.target]
        shared = next((i for i, (a, b) in enumerate(zip(source, target, strict=False)) if a != b), None)
        shared = min(len(source), len(target)) if shared is None else shared
        kind = EdgeKind.EXIT if len(source) > shared else EdgeKind.FORWARD
        if (edge.source, edge.target) in self.back:
            kind, shared = EdgeKind.BACK, source.index(edge.target) + 1
        return PlanEdge(index, edge.id, edge.source, edge.target, edge.port, edge.condition, kind, shared)

    def exits(self, edges: Iterable[PlanEdge]) -> dict[str, list[PlanEdge]]:
        """By header: the edges for which its loop is the outermost one they leave."""
        found: dict[str, list[PlanEdge]] = {}
        for edge in edges:
            if edge.kind is EdgeKind.EXIT:
                found.setdefault(self.of[edge.source][edge.shared], []).append(edge)
        return found


def strongly_connected(nodes: Sequence[str], pairs: Collection[tuple[str, str]]) -> list[set[str]]:
    """The cycles: strongly connected parts of two nodes or more, or of one with an edge to itself. Tarjan (1972), iterative."""
    following: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in sorted(pairs):
        if source in following and target in following:
            following[source].append(target)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    parts: list[set[str]] = []
    for root in nodes:
        if root in index:
            continue
        work = [(root, iter(following[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            child = next(rest, None)
            if child is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    part = _pop_part(node, stack, on_stack)
                    if len(part) > 1 or node in following[node]:
                        parts.append(part)
            elif child not in index:
                index[child] = low[child] = len(index)
                stack.append(child)
                on_stack.add(child)
                work.append((child, iter(following[child])))
            elif child in on_stack:
                low[node] = min(low[node], index[child])
    return parts


def _pop_part(root: str, stack: list[str], on_stack: set[str]) -> set[str]:
    part: set[str] = set()
    while root not in part:
        node = stack.pop()
        on_stack.discard(node)
        part.add(node)
    return part


def _steps(nodes: dict[str, PlanNode]) -> tuple[tuple[str, ...], ...]:
    """Nodes by the earliest step they can run in: the longest way from the start, back edges left out."""
    depth: dict[str, int] = {}
    waiting = {node_id: len(node.entries) for node_id, node in nodes.items()}
    for node in nodes.values():
        waiting[node.id] -= sum(edge.source == START for edge in node.entries)
    ready = [node_id for node_id, count in waiting.items() if count == 0]
    for node_id in ready:
        depth.setdefault(node_id, 0)
        for edge in nodes[node_id].out:
            if edge.kind is EdgeKind.BACK:
                continue
            depth[edge.target] = max(depth.get(edge.target, 0), depth[node_id] + 1)
            waiting[edge.target] -= 1
            if waiting[edge.target] == 0:
                ready.append(edge.target)
    steps: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node_id, step in depth.items():
        steps[step].append(node_id)
    return tuple(tuple(step) for step in steps)


def is_joined_by_any(node: PlanNode) -> bool:
    return node.spec.join is Join.ANY
