"""Rules for nodes that are nested in the config of a `map`: the types an item may use. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.problems import FieldProblem
from engine.sdk.node import NodeType
from engine.spec.model import Spec
from engine.spec.parser import ParseResult
from engine.spec.template_fields import has_nested_nodes
from engine.states import Severity
from engine.types import JSON

Types = Mapping[str, NodeType[Any]]
_IGNORED_FIELDS = ("concurrency",)
"""Fields of a spec that have no meaning in a nested one."""


def refusal(kind: NodeType[Any]) -> str | None:
    """Return why an item of a map cannot run nodes of this type, or None if it can."""
    if kind.waits:
        return f"a node of type {kind.name!r} waits without a worker, which an item of a map cannot do"
    if has_nested_nodes(kind.Config):
        return (
            f"a node of type {kind.name!r} runs other nodes itself: "
            "move it to a workflow of its own, or make one list of all items"
        )
    return None


def refused(spec: Spec, types: Types) -> list[FieldProblem]:
    """Return the nodes of a nested spec that an item cannot run.

    A map checks this before it runs: its spec may come from a version that was validated when the
    type did not wait yet.
    """
    reasons = ((node, refusal(types[node.type])) for node in spec.nodes if node.type in types)
    return [FieldProblem(f"nodes[{node.id}]", "CONFIG", reason) for node, reason in reasons if reason]


def check_types(parsed: ParseResult, types: Types) -> Iterator[FieldProblem]:
    """Find the nodes of a nested spec whose type an item cannot run."""
    for node, index in zip(parsed.spec.nodes, parsed.node_indexes, strict=True):
        reason = refusal(types[node.type]) if node.type in types else None
        if reason is not None:
            yield FieldProblem(f"nodes[{index}].type", "CONFIG", reason)


def check_ignored_fields(raw: dict[str, JSON]) -> Iterator[FieldProblem]:
    """Warn of fields that have no meaning in a nested spec."""
    for name in _IGNORED_FIELDS:
        if raw.get(name) is not None:
            message = f"`{name}` has no meaning in a spec inside a map and is ignored"
            yield FieldProblem(name, "UNKNOWN_FIELD", message, Severity.WARNING)
