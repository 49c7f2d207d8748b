"""A spec's nodes made ready to execute, once a spec: type found, config validated, templates looked through for names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from engine.expressions.evaluator import references
from engine.problems import FieldProblem
from engine.sdk.node import NodeConfig, NodeType
from engine.spec.model import NodeSpec, Spec, SpecError
from engine.spec.template_fields import secrets_of
from engine.states import Severity
from engine.types import JSON


@dataclass(frozen=True, slots=True)
class BoundNode:
    """A node ready to execute. `names` are the nodes that its templates may ask for, `secrets` the secrets that they name."""

    spec: NodeSpec
    type: NodeType[Any]
    config: NodeConfig
    names: tuple[str, ...] = ()
    types: Mapping[str, NodeType[Any]] = field(default_factory=dict, repr=False)
    """The node types by name, for nodes that are nested in the config."""
    secrets: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrets", secrets_of(self.type, self.spec.config, self.types))

    @property
    def is_inline(self) -> bool:
        """Whether the node runs inside a superstep: its type is quick, and it neither retries, times out nor uses secrets."""
        is_slow = self.spec.retry is not None or self.spec.timeout_s is not None or bool(self.secrets)
        return self.type.inline and not is_slow


def bind_nodes(spec: Spec, types: Mapping[str, NodeType[Any]]) -> Mapping[str, BoundNode]:
    """By node id. Raises SpecError where a type is not there (any more) or refuses its config."""
    conditions: dict[str, list[str]] = {}
    for edge in spec.edges:
        if edge.condition is not None:
            conditions.setdefault(edge.source, []).append(edge.condition)
    ids = {node.id: place for place, node in enumerate(spec.nodes)}
    return {node.id: _work(node, types, ids, conditions.get(node.id, [])) for node in spec.nodes}


def _work(
    node: NodeSpec, types: Mapping[str, NodeType[Any]], ids: Mapping[str, int], conditions: list[str]
) -> BoundNode:
    kind = types.get(node.type)
    if kind is None:
        raise SpecError([_problem(node, "UNKNOWN_TYPE", f"there is no node type {node.type!r} here")])
    try:
        config = kind.Config.model_validate(node.config)
    except ValidationError as wrong:
        raise SpecError([_problem(node, "CONFIG", f"node {node.id!r}: {wrong}")]) from wrong
    return BoundNode(node, kind, config, _names([*_texts(node.config), *conditions], ids), types)


def _names(texts: list[str], ids: Mapping[str, int]) -> tuple[str, ...]:
    """The nodes among `ids` that templates name; all of them where a template looks through `nodes` itself."""
    found: set[str] = set()
    for text in texts:
        found |= references(text)
    if "nodes" in found:
        return tuple(ids)
    return tuple(sorted(found & ids.keys(), key=ids.__getitem__))


def _texts(value: JSON) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _problem(node: NodeSpec, code: str, message: str) -> FieldProblem:
    return FieldProblem(f"nodes[{node.id}]", code, message, Severity.ERROR, node_id=node.id)
