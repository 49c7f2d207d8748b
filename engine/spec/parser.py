"""Reads a spec in any of its shapes (engine/spec/raw.py) into engine/spec/model.py's classes. Collects every
problem, raises none.

Accepted beside the plain form: `x, y` for position, snake_case names, and what engine/spec/desugar.py says of single node types.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from engine.problems import FieldProblem, join_path
from engine.spec.desugar import lifted, with_implied_edges, with_passed_on
from engine.spec.identity import edge_ids
from engine.spec.model import EdgeSpec, NodeSpec, Retry, Spec, SpecError
from engine.spec.raw import (
    EDGE_NAMES,
    NODE_NAMES,
    REQUIRED,
    RawEdge,
    RawModel,
    RawNode,
    RawSpec,
    as_concurrency,
    path_of,
    said,
)
from engine.states import Severity
from engine.types import JSON

ShapeT = TypeVar("ShapeT", bound=RawModel)


@dataclass(slots=True)
class Reading:
    """What could be read. `node_at` and `edge_at` give the place in the raw spec of what is in `spec`."""

    spec: Spec = field(default_factory=Spec)
    problems: list[FieldProblem] = field(default_factory=list)
    warnings: list[FieldProblem] = field(default_factory=list)
    node_at: list[int] = field(default_factory=list)
    edge_at: list[str] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    """Ids of nodes that are there but could not be read: edges may point to them."""


def read(raw: JSON) -> Reading:
    """Reads what can be read, and says what cannot."""
    reading = Reading()
    if not isinstance(raw, dict):
        reading.problems.append(_problem("", "a spec is an object with `nodes` and `edges`"))
        return reading
    top = {key: raw.get(key) for key in ("inputs", "outputs", "concurrency")}
    shape = _validated(RawSpec, top, "", reading) or RawSpec()
    nodes = _read_nodes(_list_of(raw, "nodes", reading), reading)
    edges = _read_edges(_list_of(raw, "edges", reading), reading)
    _warn_of_extras(raw, {*RawSpec.model_fields, "nodes", "edges"}, "", reading)
    spec = Spec(shape.inputs, shape.outputs, tuple(nodes), tuple(edges), as_concurrency(shape.concurrency))
    spec, added = with_implied_edges(spec, reading.node_at)
    reading.edge_at += added
    reading.spec = with_passed_on(spec)
    return reading


def _list_of(raw: dict[str, Any], key: str, reading: Reading) -> list[JSON]:
    value = raw.get(key)
    if isinstance(value, list):
        return value
    if value is not None or key == "nodes":
        reading.problems.append(_problem(key, f"`{key}` must be a list"))
    return []


def _read_nodes(items: list[JSON], reading: Reading) -> list[NodeSpec]:
    nodes = []
    for index, item in enumerate(items):
        path = f"nodes[{index}]"
        node_id = item.get("id") if isinstance(item, dict) and isinstance(item.get("id"), str) else None
        item = lifted(item)
        if isinstance(item, dict):
            _warn_of_extras(item, NODE_NAMES, path, reading, node_id=node_id)
        shape = _validated(RawNode, item, path, reading, node_id=node_id)
        if shape is None and isinstance(item, dict):
            # What is wrong is said; the rest of the node is still worth checking.
            plain = {key: item[key] for key in ("id", "type", "config") if key in item}
            shape = _validated(RawNode, plain, path, Reading())
        if shape is None:
            reading.unread |= {node_id} if node_id else set()
            continue
        nodes.append(_node(shape))
        reading.node_at.append(index)
    return nodes


def _node(shape: RawNode) -> NodeSpec:
    retry = None
    if shape.retry is not None:
        retry = Retry(shape.retry.max_attempts, shape.retry.backoff_s, shape.retry.multiplier, shape.retry.max_s)
    position = shape.position
    if position is None and (shape.x is not None or shape.y is not None):
        position = {"x": shape.x or 0, "y": shape.y or 0}
    return NodeSpec(
        shape.id,
        shape.type,
        shape.label,
        shape.config or {},
        position,
        retry,
        shape.timeout_s,
        shape.on_error,
        shape.join,
        shape.max_visits,
    )


def _read_edges(items: list[JSON], reading: Reading) -> list[EdgeSpec]:
    edges = []
    for index, (item, name) in enumerate(zip(items, edge_ids(items), strict=True)):
        path = f"edges[{index}]"
        edge_id = name if isinstance(name, str) else None
        if isinstance(item, dict):
            _warn_of_extras(item, EDGE_NAMES, path, reading, edge_id=edge_id)
        shape = _validated(RawEdge, item, path, reading, edge_id=edge_id)
        if shape is None:
            continue
        edges.append(EdgeSpec(name, shape.source, shape.target, shape.port, shape.condition))
        reading.edge_at.append(path)
    return edges


def _validated(
    shape: type[ShapeT],
    item: JSON,
    path: str,
    reading: Reading,
    *,
    node_id: str | None = None,
    edge_id: str | None = None,
) -> ShapeT | None:
    """The item as a shape; None, with its problems noted, where it is none."""
    try:
        return shape.model_validate(item)
    except ValidationError as wrong:
        for error in wrong.errors(include_url=False, include_context=False, include_input=False):
            where = path_of(path, error["loc"], item)
            message = said(error) if error["loc"] else f"must be an object with {REQUIRED[shape]}"
            reading.problems.append(_problem(where, message, node_id=node_id, edge_id=edge_id))
        return None


def _warn_of_extras(
    item: JSON,
    known: Collection[str],
    path: str,
    reading: Reading,
    *,
    node_id: str | None = None,
    edge_id: str | None = None,
) -> None:
    for key in item:
        if key not in known:
            message = f"`{key}` means nothing here and is ignored"
            reading.warnings.append(
                FieldProblem(join_path(path, key), "UNKNOWN_FIELD", message, Severity.WARNING, node_id, edge_id)
            )


def _problem(path: str, message: str, *, node_id: str | None = None, edge_id: str | None = None) -> FieldProblem:
    return FieldProblem(path, "SHAPE", message, Severity.ERROR, node_id, edge_id)


def parse(raw: JSON) -> Spec:
    """Raises SpecError if the shape is impossible. Whether the graph makes sense is for validate.py to say."""
    reading = read(raw)
    if reading.problems:
        raise SpecError(reading.problems)
    return reading.spec
