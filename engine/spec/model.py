"""The spec of a workflow as the engine sees it, and its identity. Plain frozen values; nothing here is stored.

`parse` reads every accepted shape into one: engine/spec/parser.py says how. `spec_hash` is over what runs alone.
"""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from engine.events import JSON
from engine.problems import FieldProblem
from engine.states import OnLimit
from engine.values.storable import check_storable

START, END = "__start__", "__end__"
ENDS = ("source", "target")
MAX_VISITS = 1000
_THAT_RUNS = ("inputs", "outputs", "nodes", "edges", "concurrency")
_FOR_THE_EYE = frozenset({"position", "x", "y", "label"})


class OnError(StrEnum):
    """What a node's failure means for its run."""

    FAIL = "fail"
    """The run fails."""
    CONTINUE = "continue"
    """The node's output is null and the run goes on."""
    BRANCH = "branch"
    """The run goes on by the node's port `error`."""


class Join(StrEnum):
    """When a node that several edges enter may run."""

    ALL = "all"
    """Once each of them is settled and one at least was taken."""
    ANY = "any"
    """On the first that is taken."""


@dataclass(frozen=True, slots=True)
class Retry:
    """`max_attempts` counts the first one. The pause after attempt n is backoff_s · multiplier^(n-1), at most max_s."""

    max_attempts: int = 3
    backoff_s: float = 1.0
    multiplier: float = 2.0
    max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class NodeSpec:
    id: str
    type: str
    label: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    position: JSON = None
    retry: Retry | None = None
    timeout_s: float | None = None
    on_error: OnError = OnError.FAIL
    join: Join = Join.ALL
    max_visits: int = MAX_VISITS


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """`port` None: it leaves by every port but `error`. `condition` is an expression, looked at when its source is done."""

    id: str
    source: str
    target: str
    port: str | None = None
    condition: str | None = None


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many runs of the workflow may be active at once, and what becomes of one more."""

    limit: int
    on_limit: OnLimit = OnLimit.QUEUE


@dataclass(frozen=True, slots=True)
class Spec:
    """`inputs` is a JSON Schema; `outputs` are templates by name."""

    inputs: JSON = None
    outputs: dict[str, JSON] | None = None
    nodes: tuple[NodeSpec, ...] = ()
    edges: tuple[EdgeSpec, ...] = ()
    concurrency: Concurrency | None = None


class SpecError(Exception):
    """A spec cannot be read or run; `problems` says where, all at once."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems[:3]))
        self.problems = problems


def parse(raw: JSON) -> Spec:
    """Raises SpecError if the shape is impossible. Whether the graph makes sense is for validate.py to say."""
    from engine.spec.parser import read  # here, because it reads into the classes above

    reading = read(raw)
    if reading.problems:
        raise SpecError(reading.problems)
    return reading.spec


def spec_hash(raw: JSON) -> str:
    """The SHA-256, in hex, of what runs: key order, positions and labels do not matter. Raises NotStorable."""
    check_storable(raw)
    return digest(raw)


def digest(raw: JSON) -> str:
    """The spec_hash of what is known to be storable."""
    return hashlib.sha256(orjson.dumps(_that_runs(normalise(raw)), option=orjson.OPT_SORT_KEYS)).hexdigest()


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
