"""The identity of a spec: its hash, and the ids of its edges."""

import hashlib

import orjson

from engine.spec.model import ENDS
from engine.types import JSON
from engine.values.storable import check_storable

_THAT_RUNS = ("inputs", "outputs", "nodes", "edges", "concurrency")


_FOR_THE_EYE = frozenset({"position", "x", "y", "label"})


def spec_hash(raw: JSON) -> str:
    """The SHA-256, in hex, of what runs: key order, positions and labels do not matter. Raises NotStorable."""
    check_storable(raw)
    return digest(raw)


def digest(raw: JSON) -> str:
    """The spec_hash of what is known to be storable."""
    return hash_of_normal(normalise(raw))


def hash_of_normal(spec: JSON) -> str:
    """Return the `spec_hash` of a storable spec that `normalise` returned."""
    return hashlib.sha256(orjson.dumps(_that_runs(spec), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _that_runs(raw: JSON) -> JSON:
    if not isinstance(raw, dict):
        return raw
    kept = {key: raw[key] for key in _THAT_RUNS if raw.get(key) is not None}
    if isinstance(nodes := kept.get("nodes"), list):
        kept["nodes"] = [_without(node, _FOR_THE_EYE) for node in nodes]
    if isinstance(edges := kept.get("edges"), list):
        kept["edges"] = [_without(edge, {"label"}) for edge in edges]
    return kept


def _without(part: JSON, keys: frozenset[str] | set[str]) -> JSON:
    return {key: value for key, value in part.items() if key not in keys} if isinstance(part, dict) else part


def normalise(raw: JSON) -> JSON:
    """The spec as it is saved: every edge has an id. Whatever is no spec stays as it is."""
    if not isinstance(raw, dict) or not isinstance(raw.get("edges"), list):
        return raw
    edges = raw["edges"]
    names = edge_ids(edges)
    if all(not isinstance(edge, dict) or edge.get("id") == name for edge, name in zip(edges, names, strict=True)):
        return raw
    named = [{**edge, "id": name} if isinstance(edge, dict) else edge for edge, name in zip(edges, names, strict=True)]
    return {**raw, "edges": named}


def edge_ids(edges: list[JSON]) -> list[JSON]:
    """The edges' ids, where one lacks it made from its ends: `a->b`, `a:true->b`, and `a->b#2` for a second one."""
    given = [edge.get("id") if isinstance(edge, dict) else None for edge in edges]
    taken = {name: 0 for name in given if isinstance(name, str)}
    names: list[JSON] = []
    for edge, name in zip(edges, given, strict=True):
        if name is None and isinstance(edge, dict) and all(isinstance(edge.get(end), str) for end in ENDS):
            name = free_id(edge["source"], edge.get("port"), edge["target"], taken)
        names.append(name)
    return names


def free_id(source: JSON, port: JSON, target: JSON, taken: dict[str, int]) -> str:
    """A new edge id, which joins `taken`; that keeps the last number tried for each stem, so that many alike cost no more."""
    stem = f"{source}:{port}->{target}" if isinstance(port, str) else f"{source}->{target}"
    name, number = stem, taken.get(stem, 0)
    while name in taken:
        number += 1
        name = f"{stem}#{number + 1}"
    taken[stem] = number
    taken.setdefault(name, 0)
    return name
