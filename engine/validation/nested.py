"""The nodes inside a `map`: what is wrong with them, and which of their texts are templates. Pure, and told as of a spec's own.

Paths lead into the map's config. What such a text may ask for beside what the map itself may: `item`, `index`, and in a
spec inside of it that spec's nodes, which hide outer ones of the same id.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.graph.plan import PlanError, make_plan
from engine.problems import FieldProblem, join_path
from engine.sdk.annotations import MapScope, TemplateText
from engine.sdk.node import NodeType
from engine.spec.model import Spec
from engine.spec.parser import Reading, read
from engine.spec.template_fields import texts_of
from engine.states import Severity
from engine.types import JSON
from engine.validation.graph_checks import Graph, ancestors
from engine.validation.spec_checks import check_config, check_parts, check_size, spec_texts

if TYPE_CHECKING:
    from engine.sdk.node_types import NodeTypes

Types = Mapping[str, NodeType[Any]]
_ALONE = MapScope({}, None)
_MEANINGLESS = ("inputs", "concurrency")


def refusal(kind: NodeType[Any]) -> str | None:
    """Why a map cannot run nodes of this type."""
    if kind.timeout_hint is not None:
        return f"a node of type {kind.name!r} waits without a worker, which an item of a map cannot"
    if has_nodes(kind):
        return f"a node of type {kind.name!r} runs others itself: give it a workflow of its own, or make one list of all items"
    return None


def has_nodes(kind: NodeType[Any]) -> bool:
    """Whether there are other nodes in a config of this type."""
    return type(kind).texts_within is not NodeType.texts_within


def refused(spec: Spec, types: Types) -> list[FieldProblem]:
    """For a spec that nobody has validated, or that names a type which has come to wait since."""
    whys = ((node, refusal(types[node.type])) for node in spec.nodes if node.type in types)
    return [FieldProblem(f"nodes[{node.id}]", "CONFIG", why) for node, why in whys if why]


def node_texts(raw: JSON, path: str, types: Types) -> Iterator[TemplateText]:
    """Of `{type, config}` at `path`."""
    kind, config = _read(raw, types)
    if kind is not None and not has_nodes(kind):
        for text in texts_of(kind, config, join_path(path, "config")):
            yield text._replace(inside=_ALONE)


def node_problems(raw: JSON, path: str, types: "NodeTypes") -> Iterator[FieldProblem]:
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        return  # the map's own model says so
    kind, config = _read(raw, types)
    why = None if kind is None else refusal(kind)
    if why is not None:
        yield FieldProblem(join_path(path, "type"), "CONFIG", why)
    elif isinstance(config, dict):
        yield from check_config(raw["type"], config, path, None, types)


def _read(raw: JSON, types: Types) -> tuple[NodeType[Any] | None, JSON]:
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        return None, None
    return types.get(raw["type"]), raw.get("config", {})


def spec_inside_texts(raw: JSON, path: str, types: Types) -> Iterator[TemplateText]:
    """Of a whole spec at `path`: its nodes' templates, its conditions and its outputs."""
    if not isinstance(raw, dict):
        return
    reading = read(raw)
    if any(problem.code == "LIMIT" for problem in check_size(reading)):
        return  # said elsewhere: what is too large is not looked through
    spec, graph = reading.spec, Graph(reading.spec, reading.edge_at, reading.unread)
    before = ancestors(graph)
    bits = {**{node_id: 1 << at for at, node_id in enumerate(before)}, **dict.fromkeys(reading.unread, 0)}
    known = None if reading.unread else before
    simple = {name: kind for name, kind in types.items() if not has_nodes(kind)}
    for text, reader in spec_texts(spec, graph.paths, reading.node_at, simple, known, bits):
        yield text._replace(path=join_path(path, text.path), inside=MapScope(bits, reader.before))


def spec_inside_problems(raw: JSON, path: str, types: "NodeTypes") -> Iterator[FieldProblem]:
    if isinstance(raw, dict):
        for problem in _problems(raw, types):
            yield replace(problem, field=join_path(path, problem.field) if problem.field else path, edge_id=None)


def _problems(raw: dict[str, JSON], types: "NodeTypes") -> Iterator[FieldProblem]:
    reading = read(raw)
    found = [*reading.problems, *reading.warnings, *check_size(reading), *_extras(raw), *_refused(reading, types)]
    if not any(problem.code == "LIMIT" for problem in found):
        found += check_parts(reading, types)
    yield from found
    if not any(problem.severity is Severity.ERROR for problem in found):
        try:
            make_plan(reading.spec)
        except PlanError as wrong:
            yield from wrong.problems


def _extras(raw: dict[str, JSON]) -> Iterator[FieldProblem]:
    for name in _MEANINGLESS:
        if raw.get(name) is not None:
            told = f"`{name}` of a spec inside a map means nothing and is ignored"
            yield FieldProblem(name, "UNKNOWN_FIELD", told, Severity.WARNING)


def _refused(reading: Reading, types: Types) -> Iterator[FieldProblem]:
    for node, at in zip(reading.spec.nodes, reading.node_at, strict=True):
        why = refusal(types[node.type]) if node.type in types else None
        if why is not None:
            yield FieldProblem(f"nodes[{at}].type", "CONFIG", why)
