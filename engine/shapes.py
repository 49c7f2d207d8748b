"""The shapes in which a spec may be written, read into engine/spec.py's classes. Collects every problem, raises none.

Accepted beside the plain form: `x, y` for position, snake_case names, a conditional's `true_edge`/`false_edge` (a node
or an edge) for edges with a port, and its three fields on the node itself instead of in config.
"""

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from engine.events import JSON
from engine.problems import FieldProblem, join_path
from engine.spec import END, MAX_VISITS, EdgeSpec, Join, NodeSpec, OnError, Retry, Spec, edge_ids, free_id
from engine.states import Severity

CONDITIONAL = "conditional"
BRANCHES = {"true_edge": "true", "false_edge": "false"}


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


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


def _either(camel: str, snake: str) -> AliasChoices:
    return AliasChoices(camel, snake)


class _Retry(_Shape):
    max_attempts: int = Field(3, ge=1, le=100, validation_alias=_either("maxAttempts", "max_attempts"))
    backoff_s: float = Field(
        1.0, ge=0, le=86400, allow_inf_nan=False, validation_alias=_either("backoffS", "backoff_s")
    )
    multiplier: float = Field(2.0, ge=1, le=100, allow_inf_nan=False)
    max_s: float = Field(60.0, ge=0, le=86400, allow_inf_nan=False, validation_alias=_either("maxS", "max_s"))


class _Node(_Shape):
    id: str
    type: str
    label: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    position: dict[str, Any] | None = None
    x: float | None = None
    y: float | None = None
    retry: _Retry | None = None
    timeout_s: float | None = Field(None, gt=0, le=31_536_000, validation_alias=_either("timeoutS", "timeout_s"))
    on_error: OnError = Field(OnError.FAIL, strict=False, validation_alias=_either("onError", "on_error"))
    join: Join = Field(Join.ALL, strict=False)
    max_visits: int = Field(MAX_VISITS, ge=1, le=1_000_000, validation_alias=_either("maxVisits", "max_visits"))


class _Edge(_Shape):
    id: str | None = None
    source: str
    target: str
    port: str | None = None
    condition: str | None = None
    label: str | None = None


class _Top(_Shape):
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    concurrency: Any = None


ShapeT = TypeVar("ShapeT", bound=_Shape)
_REQUIRED: dict[type[_Shape], str] = {_Node: "`id` and `type`", _Edge: "`source` and `target`", _Top: "`nodes`"}
_NODE_NAMES = {*_Node.model_fields, "timeoutS", "onError", "maxVisits"}


def read(raw: JSON) -> Reading:
    """Reads what can be read, and says what cannot."""
    reading = Reading()
    if not isinstance(raw, dict):
        reading.problems.append(_problem("", "a spec is an object with `nodes` and `edges`"))
        return reading
    top = {key: raw.get(key) for key in ("inputs", "outputs", "concurrency")}
    shape = _validated(_Top, top, "", reading) or _Top()
    nodes = _read_nodes(_list_of(raw, "nodes", reading), reading)
    edges = _read_edges(_list_of(raw, "edges", reading), reading)
    _warn_of_extras(raw, {*_Top.model_fields, "nodes", "edges"}, "", reading)
    spec = Spec(shape.inputs, shape.outputs, tuple(nodes), tuple(edges), shape.concurrency)
    reading.spec = _with_branches(spec, reading)
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
        item = _lifted(item)
        shape = _validated(_Node, item, path, reading, node_id=node_id)
        if shape is None and isinstance(item, dict):
            # What is wrong is said; the rest of the node is still worth checking.
            plain = {key: item[key] for key in ("id", "type", "config") if key in item}
            shape = _validated(_Node, plain, path, Reading())
        if shape is None:
            reading.unread |= {node_id} if node_id else set()
            continue
        _warn_of_extras(item, _NODE_NAMES, path, reading, node_id=node_id)
        nodes.append(_node(shape))
        reading.node_at.append(index)
    return nodes


def _node(shape: _Node) -> NodeSpec:
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
        shape.config,
        position,
        retry,
        shape.timeout_s,
        shape.on_error,
        shape.join,
        shape.max_visits,
    )


def _lifted(item: JSON) -> JSON:
    """A conditional's fields that stand on the node itself, put into its config."""
    if not isinstance(item, dict) or item.get("type") != CONDITIONAL:
        return item
    config = item.get("config", {})
    lifted = {key: item[key] for key in ("condition", *BRANCHES) if key in item}
    if not lifted or not isinstance(config, dict):
        return item
    return {**{key: value for key, value in item.items() if key not in lifted}, "config": {**lifted, **config}}


def _read_edges(items: list[JSON], reading: Reading) -> list[EdgeSpec]:
    edges = []
    for index, (item, name) in enumerate(zip(items, edge_ids(items), strict=True)):
        path = f"edges[{index}]"
        shape = _validated(_Edge, item, path, reading, edge_id=name if isinstance(name, str) else None)
        if shape is None:
            continue
        _warn_of_extras(item, set(_Edge.model_fields), path, reading, edge_id=name)
        edges.append(EdgeSpec(name, shape.source, shape.target, shape.port, shape.condition))
        reading.edge_at.append(path)
    return edges


def _with_branches(spec: Spec, reading: Reading) -> Spec:
    """Turns `true_edge` and `false_edge` into edges with a port, or gives the port to the edge that is meant."""
    edges = list(spec.edges)
    ids = {node.id for node in spec.nodes}
    for node, index in zip(spec.nodes, reading.node_at, strict=True):
        if node.type == CONDITIONAL:
            for key, port in BRANCHES.items():
                if isinstance(to := node.config.get(key), str):
                    _branch(edges, node, port, to, to in ids or to == END, f"nodes[{index}].config.{key}", reading)
    return replace(spec, edges=tuple(edges))


def _branch(
    edges: list[EdgeSpec], node: NodeSpec, port: str, to: str, is_node: bool, path: str, reading: Reading
) -> None:
    # Both branches to one node: an edge without a port already leaves by either.
    both = {node.config.get(key) for key in BRANCHES} == {to}
    for at, edge in enumerate(edges):
        is_meant = edge.target == to if is_node else edge.id == to
        if edge.source == node.id and is_meant and (edge.port in (None, port)):
            if not both:
                edges[at] = replace(edge, port=port)
            return
    edges.append(EdgeSpec(free_id(node.id, port, to, {edge.id for edge in edges}), node.id, to, port))
    reading.edge_at.append(path)


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
            message = error["msg"] if error["loc"] else f"must be an object with {_REQUIRED[shape]}"
            reading.problems.append(_problem(where, message, node_id=node_id, edge_id=edge_id))
        return None


def path_of(base: str, loc: tuple[str | int, ...], item: JSON) -> str:
    """pydantic's place of an error as a path: what it adds for the members of a union is left out."""
    parts: list[str | int] = []
    for index, part in enumerate(loc):
        if _has(item, part):
            item = item[part]
        elif index < len(loc) - 1 or not isinstance(item, dict):
            continue
        parts.append(part)
    return join_path(base, *parts)


def _has(item: JSON, part: str | int) -> bool:
    if isinstance(item, list):
        return isinstance(part, int) and part < len(item)
    return isinstance(item, dict) and part in item


def _warn_of_extras(
    item: JSON, known: set[str], path: str, reading: Reading, *, node_id: str | None = None, edge_id: str | None = None
) -> None:
    for key in item:
        if key not in known:
            message = f"`{key}` means nothing here and is ignored"
            reading.warnings.append(
                FieldProblem(join_path(path, key), "UNKNOWN_FIELD", message, Severity.WARNING, node_id, edge_id)
            )


def _problem(path: str, message: str, *, node_id: str | None = None, edge_id: str | None = None) -> FieldProblem:
    return FieldProblem(path, "SHAPE", message, Severity.ERROR, node_id, edge_id)
