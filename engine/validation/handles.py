"""Reads `sourceHandle`, by which React Flow names the exit of a node, as the `port` of an edge.

Pure. A spec is read before it is stored and before it is validated, so a stored spec has ports only,
and a version keeps its meaning.
"""

from typing import Any

import orjson
from pydantic import ValidationError

from engine.sdk.annotations import SPEC
from engine.sdk.node import ERROR_PORT
from engine.sdk.node_types import NodeTypes
from engine.spec.template_fields import nested_values
from engine.types import JSON

HANDLE = "sourceHandle"


def with_ports(raw: JSON, types: NodeTypes) -> JSON:
    """Return a storable spec with the `port` that the `sourceHandle` of each edge names.

    An edge with a `port` keeps it. A handle of a node without named ports only says where a builder
    draws the edge, and is left alone. A node with named ports leaves by one of them, so its handle is
    always the port: the validation refuses one that the node lacks.
    """
    text = orjson.dumps(raw)
    if HANDLE.encode() not in text:
        return raw
    copy = orjson.loads(text)
    _read_handles(copy, types)
    return copy


def _read_handles(spec: JSON, types: NodeTypes) -> None:
    nodes, edges = (_items(spec, name) for name in ("nodes", "edges"))
    ports: dict[str, frozenset[str]] = {}
    for node in nodes:
        kind, config = types.get(node["type"]) if isinstance(node.get("type"), str) else None, node.get("config")
        if kind is None or not isinstance(node.get("id"), str):
            continue
        ports[node["id"]] = _ports(kind, config)
        if isinstance(config, dict):
            for place in nested_values(kind.Config, config, ""):
                if place.format == SPEC:
                    _read_handles(place.value, types)
    for edge in edges:
        handle, source = edge.get(HANDLE), edge.get("source")
        named = ports.get(source) if isinstance(source, str) else None
        is_port = named is not None and (bool(named) or handle == ERROR_PORT)
        if edge.get("port") is None and isinstance(handle, str) and is_port:
            edge["port"] = handle


def _items(spec: JSON, name: str) -> list[dict[str, Any]]:
    items = spec.get(name) if isinstance(spec, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _ports(kind: Any, config: JSON) -> frozenset[str]:
    """Return the ports of a node; those of its type if its config is not valid."""
    try:
        named = kind.ports_of(kind.Config.model_validate({} if config is None else config))
    except ValidationError:
        named = kind.ports
    except Exception:  # raised by a validator of a third-party package; the validation reports it
        named = kind.ports
    return frozenset(named)
