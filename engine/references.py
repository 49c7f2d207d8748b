"""Looks through every template of a spec: does it parse, and does it name nodes that are there and can have run?"""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.events import JSON
from engine.expressions import check
from engine.names import uses
from engine.nodes.base import NodeType
from engine.problems import FieldProblem
from engine.spec import START, Spec

NAMES = frozenset({"input", "nodes", "run", "secrets", "item", "index", "event"})
"""What templates can name besides nodes."""


def check_references(spec: Spec, types: Mapping[str, NodeType[Any]]) -> list[FieldProblem]:
    before = _ancestors(spec)
    everything = {node.id for node in spec.nodes}
    problems: list[FieldProblem] = []
    for place, node in enumerate(spec.nodes):
        kind = types.get(node.type)
        for path, text, is_expression in _texts(kind, node.config, f"nodes[{place}].config"):
            found = _problems(path, text, is_expression, everything, before[node.id] | {node.id})
            problems += [_with_node(problem, node.id) for problem in found]
    for place, edge in enumerate(spec.edges):
        if edge.condition is not None and edge.source != START:
            seen = before.get(edge.source, set()) | {edge.source}
            problems += _problems(f"edges[{place}].condition", edge.condition, True, everything, seen)
    for name, template in (spec.outputs or {}).items():
        for path, text in _strings(template, f"outputs.{name}"):
            problems += _problems(path, text, False, everything, everything)
    return problems


def _problems(path: str, text: str, is_expression: bool, everything: set[str], before: set[str]) -> list[FieldProblem]:
    if wrong := check(text, expression=is_expression):
        return [FieldProblem(path, "TEMPLATE", message, line=line, column=column) for message, line, column in wrong]
    problems = []
    for name in sorted({use.name for use in uses(text, expression=is_expression).uses}):
        line, column = _place(text, name)
        if name in NAMES or name in before:
            continue
        code, message = "UNKNOWN_NODE", f"there is no node {name!r}"
        if name in everything:
            code, message = "NOT_RUN_YET", f"node {name!r} cannot have run yet: no way leads from it to here"
        problems.append(FieldProblem(path, code, message, line=line, column=column))
    return problems


def _place(text: str, name: str) -> tuple[int, int]:
    start = max(text.find(name), 0)
    before = text[:start]
    return before.count("\n") + 1, start - before.rfind("\n")


def _ancestors(spec: Spec) -> dict[str, set[str]]:
    """For each node, those that a way leads from. A node of the same cycle counts: it may have run in an earlier round."""
    order = {node.id: bit for bit, node in enumerate(spec.nodes)}
    into: dict[str, list[str]] = {node.id: [] for node in spec.nodes}
    out: dict[str, list[str]] = {node.id: [] for node in spec.nodes}
    for edge in spec.edges:
        if edge.source in order and edge.target in order:
            into[edge.target].append(edge.source)
            out[edge.source].append(edge.target)
    # Sets as the bits of integers: a thousand nodes cost a thousand words a step.
    masks = dict.fromkeys(order, 0)
    work = list(order)
    while work:
        node_id = work.pop()
        mask = masks[node_id]
        for source in into[node_id]:
            mask |= masks[source] | 1 << order[source]
        if mask != masks[node_id]:
            masks[node_id] = mask
            work += out[node_id]
    ids = list(order)
    return {node_id: {ids[bit] for bit in _bits(mask)} for node_id, mask in masks.items()}


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _texts(kind: NodeType[Any] | None, config: JSON, path: str) -> Iterator[tuple[str, str, bool]]:
    """(path, text, whether it is an expression) of every string in a config that is a template; code is none."""
    formats = _formats(kind.Config.model_json_schema()) if kind is not None else {}
    for inner, text in _strings(config, path):
        name = inner.rsplit(".", 1)[-1].split("[", 1)[0]
        found = formats.get(name)
        if found != "code":
            yield inner, text, found == "expression"


def _formats(schema: JSON) -> dict[str, str]:
    """Field name → `format`, wherever in a config's JSON Schema it stands."""
    found: dict[str, str] = {}
    if isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            if isinstance(part, dict) and isinstance(part.get("format"), str):
                found[name] = part["format"]
        for part in schema.values():
            found |= _formats(part)
    return found


def _strings(value: JSON, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _strings(inner, f"{path}[{index}]")


def _with_node(problem: FieldProblem, node_id: str) -> FieldProblem:
    return FieldProblem(
        problem.field, problem.code, problem.message, problem.severity, node_id, None, problem.line, problem.column
    )
