"""Parse the JSON of a spec, with every accepted form of its fields, to the data model.

The plain form is that of engine/spec/raw.py. Also accepted are `x, y` for the position, snake_case
names, and the shorthand in engine/spec/desugar.py. All problems are collected.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from engine.invalid_values import sentence
from engine.near_names import did_you_mean
from engine.problems import FieldProblem, join_path
from engine.spec.desugar import add_branch_edges, add_passed_nodes, move_fields_to_config
from engine.spec.identity import edge_ids
from engine.spec.model import EdgeSpec, NodeSpec, Retry, Spec, SpecError
from engine.spec.raw import (
    EDGE_NAMES,
    NODE_NAMES,
    REQUIRED,
    RETRY_NAMES,
    RawEdge,
    RawModel,
    RawNode,
    RawSpec,
    as_concurrency,
    error_path,
)
from engine.states import Severity
from engine.types import JSON

RawT = TypeVar("RawT", bound=RawModel)
MAX_HINTS = 100
"""Unknown fields of a spec for which a known one is looked for."""


@dataclass(slots=True)
class ParseResult:
    """The parts of a spec that could be parsed, and the problems of the others.

    Attributes:
        spec: The parsed part.
        problems: The errors.
        warnings: The warnings.
        node_indexes: The index in the raw spec of each node of `spec`.
        edge_paths: The path in the raw spec of each edge of `spec`.
        unparsed: The ids of nodes that could not be parsed. Edges may name them.
    """

    spec: Spec = field(default_factory=Spec)
    problems: list[FieldProblem] = field(default_factory=list)
    warnings: list[FieldProblem] = field(default_factory=list)
    node_indexes: list[int] = field(default_factory=list)
    edge_paths: list[str] = field(default_factory=list)
    unparsed: set[str] = field(default_factory=set)


def parse(raw: JSON) -> Spec:
    """Parse a spec. The validation package checks whether its graph is valid.

    Raises:
        SpecError: A part of `raw` does not have the form of a spec.
    """
    result = parse_with_problems(raw)
    if result.problems:
        raise SpecError(result.problems)
    return result.spec


def parse_with_problems(raw: JSON) -> ParseResult:
    """Parse the parts of a spec that have the form of a spec. Never raises, whatever `raw` is."""
    result = ParseResult()
    if not isinstance(raw, dict):
        result.problems.append(_problem("", "a spec is an object with `nodes` and `edges`"))
        return result
    top = {key: raw.get(key) for key in ("inputs", "outputs", "concurrency")}
    raw_spec = _validate(RawSpec, top, "", result) or RawSpec()
    nodes = _parse_nodes(_list_of(raw, "nodes", result), result)
    edges = _parse_edges(_list_of(raw, "edges", result), result)
    _warn_of_unknown_fields(raw, {*RawSpec.model_fields, "nodes", "edges"}, "", result)
    concurrency = as_concurrency(raw_spec.concurrency)
    spec = Spec(raw_spec.inputs, raw_spec.outputs, tuple(nodes), tuple(edges), concurrency)
    spec, added_paths = add_branch_edges(spec, result.node_indexes)
    result.edge_paths += added_paths
    result.spec = add_passed_nodes(spec)
    return result


def _list_of(raw: dict[str, Any], key: str, result: ParseResult) -> list[JSON]:
    value = raw.get(key)
    if isinstance(value, list):
        return value
    if value is not None or key == "nodes":
        result.problems.append(_problem(key, f"`{key}` must be a list"))
    return []


def _parse_nodes(items: list[JSON], result: ParseResult) -> list[NodeSpec]:
    nodes = []
    for index, item in enumerate(items):
        path = f"nodes[{index}]"
        node_id = item.get("id") if isinstance(item, dict) and isinstance(item.get("id"), str) else None
        item = move_fields_to_config(item)
        if isinstance(item, dict):
            _warn_of_unknown_fields(item, NODE_NAMES, path, result, node_id=node_id)
            if isinstance(retry := item.get("retry"), dict):
                _warn_of_unknown_fields(retry, RETRY_NAMES, join_path(path, "retry"), result, node_id=node_id)
        raw_node = _validate(RawNode, item, path, result, node_id=node_id)
        if raw_node is None and isinstance(item, dict):
            # The problems are reported. Parse the main fields, so that they are checked as well.
            main_fields = {key: item[key] for key in ("id", "type", "config") if key in item}
            raw_node = _validate(RawNode, main_fields, path, ParseResult())
        if raw_node is None:
            result.unparsed |= {node_id} if node_id else set()
            continue
        nodes.append(_node(raw_node))
        result.node_indexes.append(index)
    return nodes


def _node(raw: RawNode) -> NodeSpec:
    retry = None
    if raw.retry is not None:
        codes = frozenset(raw.retry.on)
        retry = Retry(raw.retry.max_attempts, raw.retry.backoff_s, raw.retry.multiplier, raw.retry.max_s, codes)
    position = raw.position
    if position is None and (raw.x is not None or raw.y is not None):
        position = {"x": raw.x or 0, "y": raw.y or 0}
    return NodeSpec(
        raw.id,
        raw.type,
        raw.label,
        raw.config or {},
        position,
        retry,
        raw.timeout_s,
        raw.on_error,
        raw.join.mode,
        raw.join.cancel_others,
        raw.max_visits,
    )


def _parse_edges(items: list[JSON], result: ParseResult) -> list[EdgeSpec]:
    edges = []
    for index, (item, item_id) in enumerate(zip(items, edge_ids(items), strict=True)):
        path = f"edges[{index}]"
        edge_id = item_id if isinstance(item_id, str) else None
        if isinstance(item, dict):
            _warn_of_unknown_fields(item, _edge_names(item), path, result, edge_id=edge_id)
        raw_edge = _validate(RawEdge, item, path, result, edge_id=edge_id)
        if raw_edge is None:
            continue
        edges.append(EdgeSpec(item_id, raw_edge.source, raw_edge.target, raw_edge.port, raw_edge.condition))
        result.edge_paths.append(path)
    return edges


def _edge_names(item: dict[str, Any]) -> Collection[str]:
    """Return the known fields of an edge: `sourceHandle` is one where it names the port."""
    handle = item.get("sourceHandle")
    return EDGE_NAMES if handle is not None and handle != item.get("port") else {*EDGE_NAMES, "sourceHandle"}


def _validate(
    model: type[RawT],
    item: JSON,
    path: str,
    result: ParseResult,
    *,
    node_id: str | None = None,
    edge_id: str | None = None,
) -> RawT | None:
    """Validate an item by a raw model.

    Returns None, and adds the problems, if it does not match.
    """
    try:
        return model.model_validate(item)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            place = error_path(path, detail["loc"], item)
            message = sentence(detail) if detail["loc"] else f"must be an object with {REQUIRED[model]}"
            result.problems.append(_problem(place, message, node_id=node_id, edge_id=edge_id))
        return None


def _warn_of_unknown_fields(
    item: JSON,
    known: Collection[str],
    path: str,
    result: ParseResult,
    *,
    node_id: str | None = None,
    edge_id: str | None = None,
) -> None:
    for key in item:
        if key not in known:
            hint = did_you_mean(key, known) if len(result.warnings) < MAX_HINTS else ""
            message = f"`{key}` is not a known field and is ignored{hint}"
            result.warnings.append(
                FieldProblem(join_path(path, key), "UNKNOWN_FIELD", message, Severity.WARNING, node_id, edge_id)
            )


def _problem(path: str, message: str, *, node_id: str | None = None, edge_id: str | None = None) -> FieldProblem:
    return FieldProblem(path, "SHAPE", message, Severity.ERROR, node_id, edge_id)
