"""Compute the identity of a spec: its hash and the ids of its edges."""

import hashlib

import orjson

from engine.spec.model import ENDPOINTS
from engine.types import JSON
from engine.values.storable import check_storable

_EXECUTED_FIELDS = ("inputs", "outputs", "nodes", "edges", "concurrency")
_DISPLAY_FIELDS = frozenset({"position", "x", "y", "label"})


def spec_hash(raw: JSON) -> str:
    """Compute the hash of a spec: SHA-256 in hex, over its canonical JSON.

    The order of keys, positions and labels do not change it. Compiled workflows are cached by it.

    Args:
        raw: A spec, or any other JSON.

    Raises:
        NotStorable: `raw` is not storable JSON.
    """
    check_storable(raw)
    return hash_of_storable(raw)


def hash_of_storable(raw: JSON) -> str:
    """Compute the `spec_hash` of a value that was checked to be storable."""
    return hash_of_normal(normalise(raw))


def hash_of_normal(spec: JSON) -> str:
    """Compute the `spec_hash` of a storable spec that `normalise` returned."""
    return hashlib.sha256(orjson.dumps(_executed_part(spec), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _executed_part(raw: JSON) -> JSON:
    """Remove the fields that do not change how a spec runs."""
    if not isinstance(raw, dict):
        return raw
    part = {key: raw[key] for key in _EXECUTED_FIELDS if raw.get(key) is not None}
    if isinstance(nodes := part.get("nodes"), list):
        part["nodes"] = [_without(node, _DISPLAY_FIELDS) for node in nodes]
    if isinstance(edges := part.get("edges"), list):
        part["edges"] = [_without(edge, {"label"}) for edge in edges]
    return part


def _without(part: JSON, keys: frozenset[str] | set[str]) -> JSON:
    return {key: value for key, value in part.items() if key not in keys} if isinstance(part, dict) else part


def normalise(raw: JSON) -> JSON:
    """Return a spec in the form in which it is stored, with an id for every edge.

    A value that is not a spec, or that is normalised already, is returned unchanged.
    """
    if not isinstance(raw, dict) or not isinstance(raw.get("edges"), list):
        return raw
    edges = raw["edges"]
    ids = edge_ids(edges)
    if all(not isinstance(edge, dict) or edge.get("id") == edge_id for edge, edge_id in zip(edges, ids, strict=True)):
        return raw
    with_ids = [
        {**edge, "id": edge_id} if isinstance(edge, dict) else edge for edge, edge_id in zip(edges, ids, strict=True)
    ]
    return {**raw, "edges": with_ids}


def edge_ids(edges: list[JSON]) -> list[JSON]:
    """Return the ids of the edges of a raw spec.

    An edge without an id gets one from its source, port and target: `a->b`, `a:true->b`, or
    `a->b#2` for the second such edge.

    Args:
        edges: The raw edges. Items that are not edges are allowed.

    Returns:
        One id for each item; None or another value where the item is not a valid edge.
    """
    ids = [edge.get("id") if isinstance(edge, dict) else None for edge in edges]
    taken = {edge_id: 0 for edge_id in ids if isinstance(edge_id, str)}
    for index, edge in enumerate(edges):
        is_edge = isinstance(edge, dict) and all(isinstance(edge.get(field), str) for field in ENDPOINTS)
        if is_edge and ids[index] is None:
            ids[index] = new_edge_id(edge["source"], edge.get("port"), edge["target"], taken)
    return ids


def new_edge_id(source: JSON, port: JSON, target: JSON, taken: dict[str, int]) -> str:
    """Create an edge id that is not in `taken`, and add it.

    `taken` maps each id to the last number that was tried for it, so that many parallel edges do
    not cost a search each.
    """
    stem = f"{source}:{port}->{target}" if isinstance(port, str) else f"{source}->{target}"
    name, number = stem, taken.get(stem, 0)
    while name in taken:
        number += 1
        name = f"{stem}#{number + 1}"
    taken[stem] = number
    taken.setdefault(name, 0)
    return name
