"""Everything wrong with a spec, at once and without executing anything. Pure: the same spec gives the same report."""

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import orjson
from pydantic import ValidationError

from engine import aside
from engine.events import JSON
from engine.graph_checks import Graph, ancestors, check_branches, check_cycles, check_edges, check_ids, check_reach
from engine.nodes.base import NodeConfig
from engine.nodes.registry import NodeTypes
from engine.plan import PlanError, make_plan
from engine.problems import FieldProblem, join_path
from engine.reading import Reading, read
from engine.references import Nodes, Reader, Text, template_texts, texts
from engine.schemas import check_schema
from engine.shapes import path_of, said
from engine.spec import NodeSpec, Spec, digest
from engine.states import Severity
from engine.storable import NotStorable, check_storable

MAX_NODES = 1_000
MAX_EDGES = 10_000
MAX_BYTES = 1024 * 1024
MAX_TEXTS = 20_000
"""Templates and conditions together: each is parsed."""
MAX_ASIDE_S = 2.0
"""What all JSON Schemas of a spec may take together."""
MAX_PROBLEMS = 1_000
MAX_FIELD = 2_000
"""Characters of each part of a problem."""
MAX_FOUND = 5 * MAX_PROBLEMS
"""Errors and warnings that are looked for at all."""


@dataclass(frozen=True, slots=True)
class Report:
    """`spec` is set where one could be read, `spec_hash` where the value can be stored, `plan` without errors."""

    ok: bool
    errors: list[FieldProblem]
    warnings: list[FieldProblem] = field(default_factory=list)
    spec: Spec | None = None
    spec_hash: str | None = None
    plan: list[list[str]] = field(default_factory=list)


def validate(raw: JSON, types: NodeTypes) -> Report:
    """Never raises, whatever `raw` is."""
    if too_much := _unfit(raw):
        return Report(False, [too_much])
    reading = read(raw)
    found = [*reading.problems, *reading.warnings, *_limits(reading)]
    if not any(problem.code == "LIMIT" for problem in found):
        with aside.together(MAX_ASIDE_S):
            found += islice(_check(reading, types), MAX_FOUND)
    errors = [_clipped(problem) for problem in found if problem.severity is Severity.ERROR][:MAX_PROBLEMS]
    plan: list[list[str]] = []
    if not errors:
        try:
            plan = [list(step) for step in make_plan(reading.spec).steps]
        except PlanError as wrong:
            errors = wrong.problems
    warnings = [_clipped(problem) for problem in found if problem.severity is Severity.WARNING][:MAX_PROBLEMS]
    spec = None if reading.problems else reading.spec
    return Report(not errors, errors, warnings, spec, digest(raw), plan)


def check_node(
    name: str, raw: dict[str, Any], path: str, types: NodeTypes, known: Collection[str]
) -> tuple[NodeConfig | None, list[FieldProblem]]:
    """One node by itself, at `path`, whose templates may ask for the names in `known`: its config, and all that is wrong."""
    found: list[FieldProblem] = []
    checking = _config(name, raw, path, None, types)
    while True:
        try:
            found.append(next(checking))
        except StopIteration as over:
            config: NodeConfig | None = over.value
            break
    if (kind := types.get(name)) is not None:
        nodes = Nodes(dict.fromkeys(known, 0), frozenset())
        for text in texts(kind.Config, raw, join_path(path, "config")):
            found += nodes.check(text, Reader(None, None, None))
    return config, [problem for problem in found if problem.severity is Severity.ERROR][:MAX_PROBLEMS]


def _clipped(problem: FieldProblem) -> FieldProblem:
    """Ids and keys may be as long as the spec, and stand in a thousand problems."""
    field, message, ids = problem.field[:MAX_FIELD], problem.message[:MAX_FIELD], (problem.node_id, problem.edge_id)
    node_id, edge_id = (name and name[:MAX_FIELD] for name in ids)
    return replace(problem, field=field, message=message, node_id=node_id, edge_id=edge_id)


def _unfit(raw: JSON) -> FieldProblem | None:
    """Why a value cannot even be looked at."""
    try:
        check_storable(raw)
    except NotStorable as wrong:
        return FieldProblem(wrong.path.removeprefix("."), "NOT_STORABLE", wrong.message)
    size = len(orjson.dumps(raw))
    if size > MAX_BYTES:
        return FieldProblem("", "LIMIT", f"the spec is {size:,} bytes of JSON; the limit is {MAX_BYTES:,}")
    return None


def _limits(reading: Reading) -> Iterator[FieldProblem]:
    counted = (("nodes", len(reading.spec.nodes), MAX_NODES), ("edges", len(reading.spec.edges), MAX_EDGES))
    for name, count, limit in counted:
        if count > limit:
            yield FieldProblem(name, "LIMIT", f"the spec has {count:,} {name}; the limit is {limit:,}")
    if not reading.spec.nodes and not reading.problems:
        yield FieldProblem("nodes", "EMPTY", "a spec needs a node at least")


def _check(reading: Reading, types: NodeTypes) -> Iterator[FieldProblem]:
    spec, at = reading.spec, reading.node_at
    graph = Graph(spec, reading.edge_at, reading.unread)
    ports: dict[str, tuple[str, ...] | None] = {}
    yield from check_ids(spec, at, reading.edge_at)
    for node, index in zip(spec.nodes, at, strict=True):
        config = yield from _config(node.type, node.config, f"nodes[{index}]", node.id, types)
        ports[node.id] = types[node.type].ports_of(config) if config is not None else None
        yield from _around_waits(node, f"nodes[{index}]", types)
    yield from check_edges(graph, ports)
    yield from check_branches(graph, at)
    if not reading.unread:
        yield from check_reach(graph, at)
    yield from check_cycles(graph)
    yield from _templates(graph, at, types)
    if spec.inputs is not None:
        yield from check_schema(spec.inputs, "inputs")


def _config(
    name: str, raw: dict[str, Any], path: str, node_id: str | None, types: NodeTypes
) -> Generator[FieldProblem, None, NodeConfig | None]:
    """Yields what is wrong with a node's type and config; returns the config, or None if it is not to be had."""
    kind = types.get(name)
    if kind is None:
        why = f"could not be loaded ({types.broken[name]})" if name in types.broken else "is unknown"
        message = f"the node type {name!r} {why}; there are {', '.join(sorted(types))}"
        yield FieldProblem(join_path(path, "type"), "UNKNOWN_TYPE", message, node_id=node_id)
        return None
    if kind.deprecated:
        message = f"the node type {name!r} is deprecated: {kind.deprecated}"
        yield FieldProblem(join_path(path, "type"), "DEPRECATED", message, Severity.WARNING, node_id)
    try:
        return kind.Config.model_validate(raw)
    except ValidationError as wrong:
        for error in wrong.errors(include_url=False, include_input=False):
            context = error.get("ctx", {})
            place = path_of(join_path(path, "config"), (*error["loc"], *context.get("at", ())), raw)
            yield FieldProblem(
                place,
                "CONFIG",
                said(error),
                node_id=node_id,
                line=context.get("line"),
                column=context.get("column"),
            )
        return None


def _around_waits(node: NodeSpec, path: str, types: NodeTypes) -> Iterator[FieldProblem]:
    """What limits and repeats an attempt does neither to a wait, which is none."""
    instead = types[node.type].instead_of_timeout if node.type in types else None
    if instead is None:
        return
    waits = f"an attempt, and a node of type {node.type!r} waits outside of it"
    if node.timeout_s is not None:
        message = f"`timeoutS` limits {waits}: {instead}"
        yield FieldProblem(join_path(path, "timeoutS"), "CONFIG", message, node_id=node.id)
    if node.retry is not None:
        message = f"`retry` repeats {waits}: what it waits for is not repeated"
        yield FieldProblem(join_path(path, "retry"), "NO_EFFECT", message, Severity.WARNING, node.id)


def _templates(graph: Graph, at: list[int], types: NodeTypes) -> Iterator[FieldProblem]:
    spec = graph.spec
    before = ancestors(graph)
    bits = {node_id: 1 << index for index, node_id in enumerate(before)}
    nodes = Nodes(bits, frozenset(graph.unread))
    # What cannot be read may lead from anywhere to anywhere.
    known = before if not graph.unread else None
    for count, (text, reader) in enumerate(_texts(spec, graph.paths, at, types, known, bits)):
        if count == MAX_TEXTS:
            yield FieldProblem("", "LIMIT", f"the spec has more than {MAX_TEXTS:,} templates and conditions")
            return
        yield from nodes.check(text, reader)


def _texts(
    spec: Spec,
    edge_paths: Sequence[str],
    at: list[int],
    types: NodeTypes,
    before: Mapping[str, int] | None,
    bits: Mapping[str, int],
) -> Iterator[tuple[Text, Reader]]:
    """Every template and condition with who reads it. `before` is None where the order of nodes is not known."""
    for node, index in zip(spec.nodes, at, strict=True):
        kind = types.get(node.type)
        if kind is not None:
            reader = Reader(node.id, None, None if before is None else before[node.id])
            yield from ((text, reader) for text in texts(kind.Config, node.config, f"nodes[{index}].config"))
    for edge, path in zip(spec.edges, edge_paths, strict=True):
        if edge.condition is not None:
            known = None if before is None else before.get(edge.source, 0) | bits.get(edge.source, 0)
            yield Text(join_path(path, "condition"), edge.condition, True), Reader(edge.source, edge.id, known)
    for name, output in (spec.outputs or {}).items():
        yield from ((text, Reader(None, None, None)) for text in template_texts(output, join_path("outputs", name)))
