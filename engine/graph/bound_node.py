"""Nodes bound to their types: config validated, references and secrets in templates found.

The compiler binds each spec once and all its runs share the result. Bound nodes are immutable and
hold no state of a run, so a crash cannot damage them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from engine.expressions.evaluator import references
from engine.invalid_values import sentences
from engine.problems import FieldProblem
from engine.sdk.node import NodeConfig, NodeType
from engine.spec.callbacks import CALLBACK_URL, callback_nodes, nearest_callbacks
from engine.spec.model import NodeSpec, Spec, SpecError
from engine.spec.template_fields import secrets_of
from engine.states import Severity
from engine.types import JSON


@dataclass(frozen=True, slots=True)
class BoundNode:
    """A node that is ready to execute.

    `names` are the ids of the nodes that its templates and edge conditions refer to. `secrets` are
    the names of the secrets in its config. `callbacks` are the nodes whose callback address its
    templates may read, and `callback` is the one that they read as `callback_url`.
    """

    spec: NodeSpec
    type: NodeType[Any]
    config: NodeConfig
    names: tuple[str, ...] = ()
    types: Mapping[str, NodeType[Any]] = field(default_factory=dict, repr=False)
    """The node types of this installation by name, for nodes that are nested in the config."""
    callbacks: tuple[str, ...] = ()
    callback: str | None = None
    secrets: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrets", secrets_of(self.type, self.spec.config, self.types))

    @property
    def is_inline(self) -> bool:
        """Whether the node runs inside a superstep instead of beside the graph.

        Its type must be inline. A node that retries, times out or uses secrets may take long, so it
        runs beside the graph, whatever its type.
        """
        is_slow = self.spec.retry is not None or self.spec.timeout_s is not None or bool(self.secrets)
        return self.type.inline and not is_slow


def bind_nodes(spec: Spec, types: Mapping[str, NodeType[Any]]) -> Mapping[str, BoundNode]:
    """Bind all nodes of a spec.

    Args:
        spec: A parsed spec.
        types: The node types of this installation by name.

    Returns:
        The bound nodes by id.

    Raises:
        SpecError: A type does not exist in this installation, or rejects the config of a node.
    """
    conditions: dict[str, list[str]] = {}
    for edge in spec.edges:
        if edge.condition is not None:
            conditions.setdefault(edge.source, []).append(edge.condition)
    positions = {node.id: position for position, node in enumerate(spec.nodes)}
    bound = {node.id: _bind(node, types, positions, conditions.get(node.id, [])) for node in spec.nodes}
    if with_callback := callback_nodes(spec, types):
        return {id: _bind_callbacks(spec, node, with_callback) for id, node in bound.items()}
    return bound


def _bind_callbacks(spec: Spec, node: BoundNode, with_callback: tuple[str, ...]) -> BoundNode:
    """Add the callback addresses that the templates of a node read."""
    named = tuple(name for name in with_callback if name in node.names)
    if not any(CALLBACK_URL in references(text) for text in texts_of(node.spec.config) if CALLBACK_URL in text):
        return replace(node, callbacks=named)
    nearest = nearest_callbacks(spec, node.spec.id, with_callback)
    callback = nearest[0] if len(nearest) == 1 else None
    return replace(node, callbacks=tuple({*named, *nearest}), callback=callback)


def _bind(
    node: NodeSpec, types: Mapping[str, NodeType[Any]], positions: Mapping[str, int], conditions: list[str]
) -> BoundNode:
    node_type = types.get(node.type)
    if node_type is None:
        message = f"node {node.id!r}: there is no node type {node.type!r} in this installation"
        raise SpecError([_problem(node, "UNKNOWN_TYPE", message)])
    try:
        config = node_type.Config.model_validate(node.config)
    except ValidationError as error:
        raise SpecError([_problem(node, "CONFIG", f"node {node.id!r}: {sentences(error)}")]) from error
    names = _referenced_nodes([*texts_of(node.config), *conditions], positions)
    return BoundNode(node, node_type, config, names, types)


def _referenced_nodes(texts: list[str], positions: Mapping[str, int]) -> tuple[str, ...]:
    """Return the ids of the nodes that templates refer to, in the order of the spec.

    A template that uses the mapping `nodes` itself may refer to any node, so all ids are returned.
    """
    names: set[str] = set()
    for text in texts:
        names |= references(text)
    if "nodes" in names:
        return tuple(positions)
    return tuple(sorted(names & positions.keys(), key=positions.__getitem__))


def texts_of(value: JSON) -> Iterator[str]:
    """Iterate over all texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from texts_of(member)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)


def _problem(node: NodeSpec, code: str, message: str) -> FieldProblem:
    return FieldProblem(f"nodes[{node.id}]", code, message, Severity.ERROR, node_id=node.id)
