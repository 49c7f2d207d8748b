"""Finds the node whose callback address a template means by `callback_url`.

Pure. The compiler and validation use it.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Mapping
from typing import Any

from engine.sdk.node import NodeType
from engine.spec.model import Spec

CALLBACK_URL = "callback_url"
"""The name of the address in templates, and the field of a node that has one."""


def callback_nodes(spec: Spec, types: Mapping[str, NodeType[Any]]) -> tuple[str, ...]:
    """Return the nodes that have a callback address, in the order of the spec."""
    return tuple(node.id for node in spec.nodes if (kind := types.get(node.type)) is not None and kind.has_callback)


def nearest_callbacks(spec: Spec, node_id: str | None, among: Collection[str]) -> tuple[str, ...]:
    """Return the nodes that `callback_url` may mean in the templates of a node.

    They are the node itself, or else the first ones of `among` on the paths that leave it, or else all.

    Args:
        spec: The spec.
        node_id: The node that reads the address; None for templates outside of nodes.
        among: The nodes that have an address.
    """
    if node_id in among:
        return (str(node_id),)
    targets = defaultdict[str, list[str]](list)
    for edge in spec.edges:
        targets[edge.source].append(edge.target)
    found: dict[str, None] = {}
    pending, seen = deque(targets[node_id or ""]), {node_id}
    while pending:
        name = pending.popleft()
        if name in seen:
            continue
        seen.add(name)
        if name in among:
            found[name] = None
        else:
            pending += targets[name]
    return tuple(found) or tuple(among)
