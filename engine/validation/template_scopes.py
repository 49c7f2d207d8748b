"""Finds every template of a spec, with the node that reads it and the names that it may use.

Pure. A template inside a `map` may use what the map itself may use, and `item` and `index`. In a
nested spec it may also use that spec's nodes, which hide outer nodes of the same id.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.problems import join_path
from engine.sdk.annotations import NODE, MapScope, TemplateText
from engine.sdk.node import NodeType
from engine.spec.model import Spec
from engine.spec.parser import parse_with_problems
from engine.spec.template_fields import config_texts, has_nested_nodes, nested_values, template_texts
from engine.types import JSON
from engine.validation.graph_checks import Graph, ancestors
from engine.validation.nested import Types
from engine.validation.spec_checks import check_size
from engine.validation.templates import Reader

_ITEM_ONLY = MapScope({}, None)
"""The scope of a nested node that is not in a spec: `item` and `index`, and no nodes."""


def spec_texts(
    spec: Spec,
    edge_paths: Sequence[str],
    node_indexes: Sequence[int],
    types: Types,
    before: Mapping[str, int] | None,
    bits: Mapping[str, int],
) -> Iterator[tuple[TemplateText, Reader]]:
    """Find every template and condition of a spec.

    Args:
        spec: The spec.
        edge_paths: The path of each edge in the raw spec.
        node_indexes: The index of each node in the raw spec.
        types: The node types. Nodes of other types are left out.
        before: For each node id, the bits of the nodes that can have run before it; None if the
            order is not known.
        bits: The bit of each node id.

    Yields:
        Each text with the node or edge that reads it.

    """
    for node, index in zip(spec.nodes, node_indexes, strict=True):
        kind = types.get(node.type)
        if kind is not None:
            reader = Reader(node.id, None, None if before is None else before[node.id])
            yield from ((text, reader) for text in node_texts(kind, node.config, f"nodes[{index}].config", types))
    for edge, path in zip(spec.edges, edge_paths, strict=True):
        if edge.condition is not None:
            known = None if before is None else before.get(edge.source, 0) | bits.get(edge.source, 0)
            yield TemplateText(join_path(path, "condition"), edge.condition, True), Reader(edge.source, edge.id, known)
    for name, output in (spec.outputs or {}).items():
        yield from ((text, Reader(None, None, None)) for text in template_texts(output, join_path("outputs", name)))


def node_texts(kind: NodeType[Any], config: JSON, path: str, types: Types) -> Iterator[TemplateText]:
    """Find every template in a node's config, those of nested nodes included."""
    yield from config_texts(kind.Config, config, path)
    for place in nested_values(kind.Config, config, path):
        if place.format == NODE:
            yield from _nested_node_texts(place.value, place.path, types)
        else:
            yield from _nested_spec_texts(place.value, place.path, types)


def _nested_node_texts(raw: JSON, path: str, types: Types) -> Iterator[TemplateText]:
    kind = types.get(raw["type"]) if isinstance(raw, dict) and isinstance(raw.get("type"), str) else None
    if kind is not None and not has_nested_nodes(kind.Config):
        for text in config_texts(kind.Config, raw.get("config", {}), join_path(path, "config")):
            yield text._replace(inside=_ITEM_ONLY)


def _nested_spec_texts(raw: JSON, path: str, types: Types) -> Iterator[TemplateText]:
    if not isinstance(raw, dict):
        return
    parsed = parse_with_problems(raw)
    if any(problem.code == "LIMIT" for problem in check_size(parsed)):
        return  # reported by the checks of the spec; nothing in a spec that is too large is read
    spec, graph = parsed.spec, Graph(parsed.spec, parsed.edge_paths, parsed.unparsed)
    before = ancestors(graph)
    bits = {**{node_id: 1 << index for index, node_id in enumerate(before)}, **dict.fromkeys(parsed.unparsed, 0)}
    known = None if parsed.unparsed else before
    allowed = {name: kind for name, kind in types.items() if not has_nested_nodes(kind.Config)}
    for text, reader in spec_texts(spec, graph.paths, parsed.node_indexes, allowed, known, bits):
        yield text._replace(path=join_path(path, text.path), inside=MapScope(bits, reader.before))
