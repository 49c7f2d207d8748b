"""Everything wrong with a spec, at once and without executing anything. Pure: the same spec gives the same report."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import orjson

from engine.errors import NotStorable
from engine.graph.plan import PlanError, make_plan
from engine.isolation import client
from engine.problems import FieldProblem, join_path
from engine.sdk.node import NodeConfig
from engine.sdk.node_types import NodeTypes
from engine.spec.identity import digest
from engine.spec.model import Spec
from engine.spec.parser import Reading, read
from engine.spec.template_fields import texts_of
from engine.states import Severity
from engine.types import JSON
from engine.validation.graph_checks import Graph, ancestors
from engine.validation.spec_checks import check_config, check_parts, check_size, spec_texts
from engine.validation.templates import Nodes, Reader
from engine.values.json_schema import check_schema
from engine.values.storable import check_storable

MAX_BYTES = 1024 * 1024
MAX_TEXTS = 20_000
"""Templates and conditions together: each is parsed."""
MAX_ASIDE_S = 2.0
"""What all JSON Schemas of a spec may take together."""
MAX_PROBLEMS = 1_000
MAX_FIELD = 2_000
"""Characters of each part of a problem."""
MAX_FOUND = 5 * MAX_PROBLEMS
"""Errors and warnings that are looked for at all."""


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """`spec` is set where one could be read, `spec_hash` where the value can be stored, `plan` without errors."""

    ok: bool
    errors: list[FieldProblem]
    warnings: list[FieldProblem] = field(default_factory=list)
    spec: Spec | None = None
    spec_hash: str | None = None
    plan: list[list[str]] = field(default_factory=list)


def validate(raw: JSON, types: NodeTypes) -> ValidationReport:
    """Never raises, whatever `raw` is."""
    if too_much := _unfit(raw):
        return ValidationReport(False, [too_much])
    reading = read(raw)
    found = [*reading.problems, *reading.warnings, *check_size(reading)]
    if not any(problem.code == "LIMIT" for problem in found):
        with client.shared_time_limit(MAX_ASIDE_S):
            found += islice(_check(reading, types), MAX_FOUND)
    errors = [_clipped(problem) for problem in found if problem.severity is Severity.ERROR][:MAX_PROBLEMS]
    plan: list[list[str]] = []
    if not errors:
        try:
            plan = [list(step) for step in make_plan(reading.spec).steps]
        except PlanError as wrong:
            errors = wrong.problems
    warnings = [_clipped(problem) for problem in found if problem.severity is Severity.WARNING][:MAX_PROBLEMS]
    spec = None if reading.problems else reading.spec
    return ValidationReport(not errors, errors, warnings, spec, digest(raw), plan)


def check_node(
    name: str, raw: dict[str, Any], path: str, types: NodeTypes, known: Collection[str]
) -> tuple[NodeConfig | None, list[FieldProblem]]:
    """One node by itself, at `path`, whose templates may ask for the names in `known`: its config, and all that is wrong."""
    found: list[FieldProblem] = []
    checking = check_config(name, raw, path, None, types)
    while True:
        try:
            found.append(next(checking))
        except StopIteration as over:
            config: NodeConfig | None = over.value
            break
    if (kind := types.get(name)) is not None:
        nodes = Nodes(dict.fromkeys(known, 0), frozenset())
        for text in texts_of(kind, raw, join_path(path, "config")):
            found += nodes.check(text, Reader(None, None, None))
    return config, [problem for problem in found if problem.severity is Severity.ERROR][:MAX_PROBLEMS]


def _clipped(problem: FieldProblem) -> FieldProblem:
    """Ids and keys may be as long as the spec, and stand in a thousand problems."""
    field, message, ids = problem.field[:MAX_FIELD], problem.message[:MAX_FIELD], (problem.node_id, problem.edge_id)
    node_id, edge_id = (name and name[:MAX_FIELD] for name in ids)
    return replace(problem, field=field, message=message, node_id=node_id, edge_id=edge_id)


def _unfit(raw: JSON) -> FieldProblem | None:
    """Why a value cannot even be looked at."""
    try:
        check_storable(raw)
    except NotStorable as wrong:
        return FieldProblem(wrong.path.removeprefix("."), "NOT_STORABLE", wrong.message)
    size = len(orjson.dumps(raw))
    if size > MAX_BYTES:
        return FieldProblem("", "LIMIT", f"the spec is {size:,} bytes of JSON; the limit is {MAX_BYTES:,}")
    return None


def _check(reading: Reading, types: NodeTypes) -> Iterator[FieldProblem]:
    yield from check_parts(reading, types)
    yield from _templates(Graph(reading.spec, reading.edge_at, reading.unread), reading.node_at, types)
    if reading.spec.inputs is not None:
        yield from check_schema(reading.spec.inputs, "inputs")


def _templates(graph: Graph, at: list[int], types: NodeTypes) -> Iterator[FieldProblem]:
    spec = graph.spec
    before = ancestors(graph)
    bits = {node_id: 1 << index for index, node_id in enumerate(before)}
    nodes = Nodes(bits, frozenset(graph.unread))
    # What cannot be read may lead from anywhere to anywhere.
    known = before if not graph.unread else None
    for count, (text, reader) in enumerate(spec_texts(spec, graph.paths, at, types, known, bits)):
        if count == MAX_TEXTS:
            yield FieldProblem("", "LIMIT", f"the spec has more than {MAX_TEXTS:,} templates and conditions")
            return
        yield from nodes.check(text, reader)
