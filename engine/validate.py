"""Everything wrong with a spec, at once, with where. Never executes anything, never raises for what it is given."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator
from pydantic import ValidationError

from engine.events import JSON
from engine.nodes.base import NodeType
from engine.plan import PlanError, make_plan, strongly_connected
from engine.problems import FieldProblem
from engine.references import check_references
from engine.spec import END, START, EdgeSpec, OnError, Spec, SpecError, parse, spec_hash
from engine.states import Severity

RESERVED = frozenset({START, END, "input", "nodes", "secrets", "run", "item", "index", "event", "loop", "true", "false"})


@dataclass(frozen=True, slots=True)
class Report:
    """What is to be said of a spec. `plan` is its nodes by the step in which they can run first."""

    errors: list[FieldProblem] = field(default_factory=list)
    warnings: list[FieldProblem] = field(default_factory=list)
    spec: Spec | None = None
    spec_hash: str | None = None
    plan: list[list[str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.errors


def validate(raw: JSON, types: Mapping[str, NodeType[Any]]) -> Report:
    try:
        spec = parse(raw)
    except SpecError as wrong:
        return Report(errors=wrong.problems)
    problems = [*_ids(spec), *_schema(spec), *_nodes(spec, types), *_edges(spec, types)]
    dangling = any(problem.code in ("DANGLING", "DUPLICATE_ID") for problem in problems)
    plan: list[list[str]] = []
    if not dangling:
        problems += [*_reached(spec), *_exits(spec)]
        try:
            plan = [list(step) for step in make_plan(spec).steps]
        except PlanError as wrong:
            problems += wrong.problems
        problems += check_references(spec, types)
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    warnings = [problem for problem in problems if problem.severity is Severity.WARNING]
    return Report(errors, warnings, spec, spec_hash(raw), plan)


def _ids(spec: Spec) -> Iterator[FieldProblem]:
    seen: set[str] = set()
    for place, node in enumerate(spec.nodes):
        if node.id in RESERVED:
            message = f"{node.id!r} is a name of the language; call the node something else"
            yield FieldProblem(f"nodes[{place}].id", "RESERVED_ID", message, node_id=node.id)
        if node.id in seen:
            message = f"there is another node {node.id!r}"
            yield FieldProblem(f"nodes[{place}].id", "DUPLICATE_ID", message, node_id=node.id)
        seen.add(node.id)
    edges: set[str] = set()
    for place, edge in enumerate(spec.edges):
        if edge.id in edges:
            yield _at_edge(place, edge, "id", "DUPLICATE_ID", f"there is another edge {edge.id!r}")
        edges.add(edge.id)


def _schema(spec: Spec) -> Iterator[FieldProblem]:
    if spec.inputs is None:
        return
    try:
        Draft202012Validator.check_schema(spec.inputs)
    except SchemaError as wrong:
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in wrong.absolute_path)
        yield FieldProblem("inputs" + path, "SCHEMA", wrong.message[:500])


def _nodes(spec: Spec, types: Mapping[str, NodeType[Any]]) -> Iterator[FieldProblem]:
    for place, node in enumerate(spec.nodes):
        kind = types.get(node.type)
        if kind is None:
            known = ", ".join(sorted(types))
            message = f"there is no node type {node.type!r}; there are {known}"
            yield FieldProblem(f"nodes[{place}].type", "UNKNOWN_TYPE", message, node_id=node.id)
            continue
        try:
            kind.Config.model_validate(node.config)
        except ValidationError as wrong:
            for error in wrong.errors(include_url=False, include_input=False):
                path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error["loc"])
                code = "UNKNOWN_FIELD" if error["type"] == "extra_forbidden" else "CONFIG"
                yield FieldProblem(f"nodes[{place}].config{path}", code, error["msg"], node_id=node.id)


def _edges(spec: Spec, types: Mapping[str, NodeType[Any]]) -> Iterator[FieldProblem]:
    nodes = {node.id: node for node in spec.nodes}
    for place, edge in enumerate(spec.edges):
        if edge.source != START and edge.source not in nodes:
            yield _at_edge(place, edge, "source", "DANGLING", f"there is no node {edge.source!r}")
        elif edge.target != END and edge.target not in nodes:
            yield _at_edge(place, edge, "target", "DANGLING", f"there is no node {edge.target!r}")
        elif edge.port is not None:
            ports = _ports(spec, types, edge.source)
            if ports is not None and edge.port not in ports:
                there = f"it has {', '.join(sorted(ports))}" if ports else "it has none"
                yield _at_edge(place, edge, "port", "UNKNOWN_PORT", f"node {edge.source!r} has no port {edge.port!r}; {there}")


def _ports(spec: Spec, types: Mapping[str, NodeType[Any]], node_id: str) -> set[str] | None:
    """The named ports of a node; None where its type or config is wrong, which has been said."""
    if node_id == START:
        return set()
    node = next(node for node in spec.nodes if node.id == node_id)
    kind = types.get(node.type)
    if kind is None:
        return None
    try:
        ports = set(kind.ports_of(kind.Config.model_validate(node.config)))
    except ValidationError:
        return None
    return ports | {"error"} if node.on_error is OnError.BRANCH else ports


def _reached(spec: Spec) -> Iterator[FieldProblem]:
    """Nodes that no way from a start leads to: an island that is all cycle."""
    following: dict[str, list[str]] = {}
    for edge in spec.edges:
        following.setdefault(edge.source, []).append(edge.target)
    entered = {edge.target for edge in spec.edges}
    work = [node.id for node in spec.nodes if node.id not in entered] + following.get(START, [])
    seen = set(work)
    while work:
        for target in following.get(work.pop(), ()):
            if target not in seen:
                seen.add(target)
                work.append(target)
    for place, node in enumerate(spec.nodes):
        if node.id not in seen:
            message = f"nothing leads to node {node.id!r} from the start"
            yield FieldProblem(f"nodes[{place}]", "UNREACHABLE", message, node_id=node.id)


def _exits(spec: Spec) -> Iterator[FieldProblem]:
    """A cycle in which every edge is always taken can only end by its limit."""
    choosing = {node.id for node in spec.nodes if node.type in ("conditional", "switch")}
    pairs = {(edge.source, edge.target) for edge in spec.edges if edge.target != END}
    free = {edge.source for edge in spec.edges if edge.condition is not None or edge.port is not None}
    for part in strongly_connected([node.id for node in spec.nodes], pairs):
        if not part & (choosing | free):
            name = min(part)
            around = " → ".join(sorted(part)[:5])
            message = f"the cycle {around} has no condition to leave it by"
            yield FieldProblem("edges", "ENDLESS_CYCLE", message, node_id=name)


def _at_edge(place: int, edge: EdgeSpec, part: str, code: str, message: str) -> FieldProblem:
    node_id = edge.source if edge.source not in (START, END) else None
    return FieldProblem(f"edges[{place}].{part}", code, message, node_id=node_id, edge_id=edge.id)
