"""The parts of a spec that are checked by themselves: its size, types and configs, its graph; and where its templates are.

For a whole spec and for one inside of a `map`, which has no names of its own alone: engine/validation/validator.py
and engine/validation/nested.py.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from engine.problems import FieldProblem, join_path
from engine.sdk.annotations import TemplateText
from engine.sdk.node import NodeConfig, NodeType
from engine.spec.model import NodeSpec, Spec
from engine.spec.parser import Reading
from engine.spec.raw import path_of, said
from engine.spec.template_fields import template_texts, texts_of
from engine.states import Severity
from engine.validation.graph_checks import Graph, check_branches, check_cycles, check_edges, check_ids, check_reach
from engine.validation.templates import Reader

if TYPE_CHECKING:
    from engine.sdk.node_types import NodeTypes

MAX_NODES = 1_000
MAX_EDGES = 10_000


def check_size(reading: Reading) -> Iterator[FieldProblem]:
    counted = (("nodes", len(reading.spec.nodes), MAX_NODES), ("edges", len(reading.spec.edges), MAX_EDGES))
    for name, count, limit in counted:
        if count > limit:
            yield FieldProblem(name, "LIMIT", f"the spec has {count:,} {name}; the limit is {limit:,}")
    if not reading.spec.nodes and not reading.problems:
        yield FieldProblem("nodes", "EMPTY", "a spec needs a node at least")


def check_parts(reading: Reading, types: "NodeTypes") -> Iterator[FieldProblem]:
    """All but the templates and the schema of the inputs."""
    spec, at = reading.spec, reading.node_at
    graph = Graph(spec, reading.edge_at, reading.unread)
    ports: dict[str, tuple[str, ...] | None] = {}
    yield from check_ids(spec, at, reading.edge_at)
    for node, index in zip(spec.nodes, at, strict=True):
        config = yield from check_config(node.type, node.config, f"nodes[{index}]", node.id, types)
        ports[node.id] = types[node.type].ports_of(config) if config is not None else None
        yield from _around_waits(node, f"nodes[{index}]", types)
    yield from check_edges(graph, ports)
    yield from check_branches(graph, at)
    if not reading.unread:
        yield from check_reach(graph, at)
    yield from check_cycles(graph)


def check_config(
    name: str, raw: dict[str, Any], path: str, node_id: str | None, types: "NodeTypes"
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
    for problem in kind.problems_within(raw, join_path(path, "config")):
        yield replace(problem, node_id=node_id)
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
    except Exception as fault:  # of a package's own checks
        message = f"the node type {name!r} cannot read this config, and that is a fault of the type: {fault!r}"
        yield FieldProblem(join_path(path, "config"), "CONFIG", message, node_id=node_id)
    return None


def _around_waits(node: NodeSpec, path: str, types: "NodeTypes") -> Iterator[FieldProblem]:
    """What limits and repeats an attempt does neither to a wait, which is none."""
    instead = types[node.type].timeout_hint if node.type in types else None
    if instead is None:
        return
    waits = f"an attempt, and a node of type {node.type!r} waits outside of it"
    if node.timeout_s is not None:
        message = f"`timeoutS` limits {waits}: {instead}"
        yield FieldProblem(join_path(path, "timeoutS"), "CONFIG", message, node_id=node.id)
    if node.retry is not None:
        message = f"`retry` repeats {waits}: what it waits for is not repeated"
        yield FieldProblem(join_path(path, "retry"), "NO_EFFECT", message, Severity.WARNING, node.id)


def spec_texts(
    spec: Spec,
    edge_paths: Sequence[str],
    at: list[int],
    types: Mapping[str, NodeType[Any]],
    before: Mapping[str, int] | None,
    bits: Mapping[str, int],
) -> Iterator[tuple[TemplateText, Reader]]:
    """Every template and condition with who reads it. `before` is None where the order of nodes is not known."""
    for node, index in zip(spec.nodes, at, strict=True):
        kind = types.get(node.type)
        if kind is not None:
            reader = Reader(node.id, None, None if before is None else before[node.id])
            yield from ((text, reader) for text in texts_of(kind, node.config, f"nodes[{index}].config"))
    for edge, path in zip(spec.edges, edge_paths, strict=True):
        if edge.condition is not None:
            known = None if before is None else before.get(edge.source, 0) | bits.get(edge.source, 0)
            yield TemplateText(join_path(path, "condition"), edge.condition, True), Reader(edge.source, edge.id, known)
    for name, output in (spec.outputs or {}).items():
        yield from ((text, Reader(None, None, None)) for text in template_texts(output, join_path("outputs", name)))
