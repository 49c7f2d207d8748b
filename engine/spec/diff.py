"""Compares two specs by node, field and edge, so that a renamed node is one change.

A node that is gone and a new node are the same node if the type is the same and the rest is equal, or
alike. Names of nodes in templates and edges are compared after the renaming. Layout is not compared.
Pure, and linear in the size of the specs but for nodes that are gone and new.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Any

import orjson

from engine.spec.desugar import move_fields_to_config
from engine.spec.identity import normalise
from engine.types import JSON
from engine.values.json_diff import FieldDiff, json_diff

_NAME = r"(?<![\w.-])[\w-]+|(?<=nodes\.)[\w-]+"
LAYOUT = frozenset({"position", "x", "y"})
MAX_ALIKE = 40
"""Gone and new nodes of one type that are compared with each other."""
LEAST_SIMILARITY = 0.5
"""The least likeness of a renamed node that was changed as well."""


class DiffChange(StrEnum):
    """What happened to a node or an edge."""

    ADDED = "ADDED"
    REMOVED = "REMOVED"
    MODIFIED = "MODIFIED"


@dataclass(frozen=True, slots=True)
class NodeDiff:
    """A node that differs. `previous_id` is its id before, where it was renamed."""

    node_id: str
    previous_id: str | None
    change: DiffChange
    fields: list[FieldDiff]


@dataclass(frozen=True, slots=True)
class EdgeDiff:
    """An edge that differs, by its id after the change, or before it if it was removed."""

    edge_id: str
    change: DiffChange
    fields: list[FieldDiff]


@dataclass(frozen=True, slots=True)
class SpecDiff:
    """The differences of two specs. `other` are the fields of the spec itself, such as `inputs`."""

    nodes: list[NodeDiff]
    edges: list[EdgeDiff]
    other: list[FieldDiff]


Item = dict[str, Any]
Neighbour = tuple[str, str, str]
"""Whether an edge leads to or from a node, its port, and the node."""


def spec_diff(before: JSON, after: JSON) -> SpecDiff:
    """Compare two stored specs, which may have errors. Never raises."""
    old, new = _Parts(before), _Parts(after)
    names = _renamed(old, new)
    renamed, old_ids = _renaming(names), {new_id: old_id for old_id, new_id in names.items()}
    pairs = [(old.nodes.get(old_ids.get(id, id)), node) for id, node in new.nodes.items()]
    kept = {old_ids.get(id, id) for id in new.nodes}
    nodes = [diff for node in pairs if (diff := _node_diff(*node, renamed)) is not None]
    nodes += [
        NodeDiff(id, None, DiffChange.REMOVED, _whole(node, removed=True))
        for id, node in old.nodes.items()
        if id not in kept
    ]
    return SpecDiff(nodes, list(_edge_diffs(old.edges, new.edges, renamed)), json_diff(renamed(old.other), new.other))


class _Parts:
    """The nodes of a spec by id, its edges by id, and its other fields."""

    def __init__(self, raw: JSON) -> None:
        spec: Item = normalise(raw) if isinstance(raw, dict) else {}
        self.nodes = {node["id"]: node for node in map(_node, _items(spec, "nodes")) if isinstance(node.get("id"), str)}
        self.edges = {edge["id"]: edge for edge in _items(spec, "edges") if isinstance(edge.get("id"), str)}
        self.neighbours: dict[str, set[Neighbour]] = defaultdict(set)
        for edge in self.edges.values():
            source, port, target = _ends(edge)
            self.neighbours[source].add(("to", port, target))
            self.neighbours[target].add(("from", port, source))
        self.other = {key: value for key, value in spec.items() if key not in ("nodes", "edges")}


def _items(spec: Item, name: str) -> list[Item]:
    items = spec.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _node(raw: Item) -> Item:
    node: Item = move_fields_to_config(raw)
    return {key: value for key, value in node.items() if key not in LAYOUT}


def _renamed(old: _Parts, new: _Parts) -> dict[str, str]:
    """Return the new ids of renamed nodes by their old ids."""
    gone, added = (
        {id: node for id, node in one.nodes.items() if id not in other.nodes} for one, other in ((old, new), (new, old))
    )
    names: dict[str, str] = {}
    for exact in (True, False):
        for ids, others in _by_kind(gone, added, names, exact=exact):
            for old_id, new_id in _best_pairs(ids, others, old, new, names):
                names[old_id] = new_id
    return names


def _by_kind(
    gone: Mapping[str, Item], added: Mapping[str, Item], names: Mapping[str, str], *, exact: bool
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the ids of gone and new nodes that may be the same: of equal content, or of one type."""
    groups: dict[object, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    taken = set(names.values())
    for side, nodes in enumerate((gone, added)):
        for id, node in nodes.items():
            if id not in names and id not in taken:
                groups[_content(node) if exact else str(node.get("type"))][side].append(id)
    yield from (group for group in groups.values() if all(group))


def _content(node: Item) -> bytes:
    """Return what a node is apart from its id and label, with its own id replaced where it names itself."""
    body = {key: value for key, value in node.items() if key not in ("id", "label")}
    return orjson.dumps(_renaming({node["id"]: "\0"})(body), option=orjson.OPT_SORT_KEYS)


def _best_pairs(
    ids: list[str], others: list[str], old: _Parts, new: _Parts, names: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Pair the nodes that are most alike, each once, in the order of the specs where they are equally alike."""
    ranks = {id: rank for rank, id in enumerate((*ids, *others))}
    scored = [
        (_similarity(old, old_id, new, new_id, {**names, old_id: new_id}), old_id, new_id)
        for old_id, new_id in product(ids[:MAX_ALIKE], others[:MAX_ALIKE])
    ]
    used: set[str] = set()
    for score, old_id, new_id in sorted(scored, key=lambda one: (-one[0], ranks[one[1]], ranks[one[2]])):
        if score >= LEAST_SIMILARITY and not used & {old_id, "\0" + new_id}:
            used |= {old_id, "\0" + new_id}
            yield old_id, new_id


def _similarity(old: _Parts, old_id: str, new: _Parts, new_id: str, names: Mapping[str, str]) -> float:
    """Return how much two nodes are alike, 0 to 1: the part of their fields and of their neighbours that is equal."""
    renamed = _renaming(names)
    fields = [set(_leaves(node, "")) for node in (renamed(_body(old.nodes[old_id])), _body(new.nodes[new_id]))]
    before = {(way, port, names.get(id, id)) for way, port, id in old.neighbours.get(old_id, ())}
    parts = [_overlap(*fields), _overlap(before, new.neighbours.get(new_id, set()))]
    known = [part for part in parts if part is not None]
    return sum(known) / len(known) if known else 1.0


def _overlap(one: set[Any], other: set[Any]) -> float | None:
    return len(one & other) / max(len(one), len(other)) if one or other else None


def _body(node: Item) -> Item:
    return {key: value for key, value in node.items() if key not in ("id", "type")}


def _leaves(value: JSON, path: str) -> Iterator[tuple[str, bytes]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    else:
        yield path, orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _renaming(names: Mapping[str, str]) -> Callable[[JSON], JSON]:
    """Return a function that puts the new names of nodes into a value: a name, or a text with names."""
    if not names:
        return lambda value: value
    dotted = [re.escape(id) for id in names if "." in id][:MAX_ALIKE]
    pattern = re.compile("|".join([*(rf"(?<![\w.-]){id}(?![\w-])" for id in dotted), _NAME]))
    return lambda value: _replaced(value, pattern, names)


def _replaced(value: JSON, pattern: re.Pattern[str], names: Mapping[str, str]) -> JSON:
    if isinstance(value, str):
        return pattern.sub(lambda found: _new_name(found[0], names), value)
    if isinstance(value, list):
        return [_replaced(item, pattern, names) for item in value]
    if isinstance(value, dict):
        return {key: _replaced(item, pattern, names) for key, item in value.items()}
    return value


def _new_name(word: str, names: Mapping[str, str]) -> str:
    """Return the new name of a word. In `a-b`, which may be a difference, the parts are names as well."""
    if word in names or "-" not in word:
        return names.get(word, word)
    return "-".join(names.get(part, part) for part in word.split("-"))


def _node_diff(old: Item | None, new: Item, renamed: Callable[[JSON], JSON]) -> NodeDiff | None:
    if old is None:
        return NodeDiff(new["id"], None, DiffChange.ADDED, _whole(new))
    # A text may have been changed to the old name on purpose, so it must be equal before or after the renaming.
    differences = [
        FieldDiff(one.path, one.before, one.after)
        for one in json_diff(_without_id(old), _without_id(new))
        if renamed(one.before) != one.after
    ]
    previous_id = old["id"] if old["id"] != new["id"] else None
    if not differences and previous_id is None:
        return None
    return NodeDiff(new["id"], previous_id, DiffChange.MODIFIED, differences)


def _edge_diffs(
    old: Mapping[str, Item], new: Mapping[str, Item], renamed: Callable[[JSON], JSON]
) -> Iterator[EdgeDiff]:
    """Yield the edges that differ. An edge keeps its id, or else its ends and its port."""
    by_ends: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for id, edge in old.items():
        if id not in new:
            by_ends[_ends(renamed(_without_id(edge)))].append(id)
    kept: set[str] = set()
    for id, edge in new.items():
        moved = by_ends.get(_ends(edge), [])
        old_id = id if id in old else moved.pop(0) if moved else None
        if old_id is None:
            yield EdgeDiff(id, DiffChange.ADDED, _whole(edge))
            continue
        kept.add(old_id)
        if differences := json_diff(renamed(_without_id(old[old_id])), _without_id(edge)):
            yield EdgeDiff(id, DiffChange.MODIFIED, differences)
    yield from (
        EdgeDiff(id, DiffChange.REMOVED, _whole(edge, removed=True)) for id, edge in old.items() if id not in kept
    )


def _ends(edge: JSON) -> tuple[str, str, str]:
    return str(edge.get("source")), str(edge.get("port")), str(edge.get("target"))


def _without_id(item: Item) -> Item:
    return {key: value for key, value in item.items() if key != "id"}


def _whole(item: Item, *, removed: bool = False) -> list[FieldDiff]:
    """Return the fields of an item that exists on one side only."""
    body = _without_id(item)
    return [FieldDiff(key, value, None) if removed else FieldDiff(key, None, value) for key, value in body.items()]
