"""Validates a spec, or the config of a single node, and reports every problem at once.

Executes nothing, and is pure: the same spec gives the same report. Called by the server when a
draft is saved, a version is published or a run is started, and for the query that validates a
spec.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from typing import Any

import orjson

from engine.errors import NotStorable
from engine.graph.plan import PlanError, make_plan
from engine.isolation import client
from engine.problems import FieldProblem, join_path
from engine.sdk.node import NodeConfig
from engine.sdk.node_types import NodeTypes
from engine.spec.callbacks import callback_nodes, nearest_callbacks
from engine.spec.identity import hash_of_storable
from engine.spec.model import Spec
from engine.spec.parser import ParseResult, parse_with_problems
from engine.states import Severity
from engine.types import JSON
from engine.validation.graph_checks import Graph, ancestors
from engine.validation.handles import with_ports
from engine.validation.loop_exits import check_loop_exits
from engine.validation.spec_checks import check_config, check_parts, check_size
from engine.validation.template_scopes import node_texts, spec_texts
from engine.validation.templates import Nodes, Reader
from engine.values.json_schema import check_schema
from engine.values.storable import check_storable

MAX_BYTES = 1024 * 1024
"""Bytes of a spec as JSON."""
MAX_TEXTS = 20_000
"""Templates and conditions of a spec together: each is parsed."""
MAX_ISOLATED_S = 2.0
"""Seconds that the checks of all JSON Schemas of a spec may take together in the isolated process.
"""
MAX_PROBLEMS = 1_000
"""Errors, and likewise warnings, in a report."""
MAX_TEXT = 2_000
"""Characters of each text in a problem."""
MAX_CHECKED = 5 * MAX_PROBLEMS
"""Problems after which the checks end."""


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """The result of a validation.

    `spec` is set if one could be parsed, `spec_hash` if the value can be stored, `plan` if there
    are no errors.
    """

    ok: bool
    errors: list[FieldProblem]
    warnings: list[FieldProblem] = field(default_factory=list)
    spec: Spec | None = None
    spec_hash: str | None = None
    plan: list[list[str]] = field(default_factory=list)


def validate(raw: JSON, types: NodeTypes) -> ValidationReport:
    """Validate a spec. Never raises, whatever `raw` is."""
    if unreadable := _check_readable(raw):
        return ValidationReport(False, [unreadable])
    raw = with_ports(raw, types)
    parsed = parse_with_problems(raw)
    problems = [*parsed.problems, *parsed.warnings, *check_size(parsed)]
    if not any(problem.code == "LIMIT" for problem in problems):
        with client.shared_time_limit(MAX_ISOLATED_S):
            problems += islice(_check(parsed, types), MAX_CHECKED)
    errors = _clipped(problems, Severity.ERROR)
    steps: list[list[str]] = []
    if not errors:
        try:
            plan = make_plan(parsed.spec)
            steps = [list(step) for step in plan.steps]
            problems += check_loop_exits(plan, parsed.edge_paths)
        except PlanError as error:
            errors = error.problems
    spec = None if parsed.problems else parsed.spec
    return ValidationReport(
        not errors, errors, _clipped(problems, Severity.WARNING), spec, hash_of_storable(raw), steps
    )


def check_node(
    name: str, raw: dict[str, Any], path: str, types: NodeTypes, names: Collection[str]
) -> tuple[NodeConfig | None, list[FieldProblem]]:
    """Validate one node outside of a spec.

    Args:
        name: The node type.
        raw: The config.
        path: Where the node is in the request; the fields of the problems begin with it.
        types: The node types of this host.
        names: The names that its templates may use.

    Returns:
        The config, or None if it is not valid, and the errors.
    """
    config: NodeConfig | None = None

    def check() -> Iterator[FieldProblem]:
        nonlocal config
        config = yield from check_config(name, raw, path, None, types)

    problems = [*check()]
    if (kind := types.get(name)) is not None:
        nodes = Nodes(dict.fromkeys(names, 0), frozenset())
        for text in node_texts(kind, raw, join_path(path, "config"), types):
            problems += nodes.check(text, Reader(None, None, None))
    return config, [problem for problem in problems if problem.severity is Severity.ERROR][:MAX_PROBLEMS]


def _clipped(problems: list[FieldProblem], severity: Severity) -> list[FieldProblem]:
    """Select the problems of a severity and limit their number and their length.

    An id or a key may be as long as the spec, and be repeated in a thousand problems.
    """
    selected = [problem for problem in problems if problem.severity is severity]
    return [_clipped_problem(problem) for problem in selected[:MAX_PROBLEMS]]


def _clipped_problem(problem: FieldProblem) -> FieldProblem:
    node_id, edge_id = (name and name[:MAX_TEXT] for name in (problem.node_id, problem.edge_id))
    field, message = problem.field[:MAX_TEXT], problem.message[:MAX_TEXT]
    return replace(problem, field=field, message=message, node_id=node_id, edge_id=edge_id)


def _check_readable(raw: JSON) -> FieldProblem | None:
    """Return why the value cannot be checked at all: it is too large, or no storable JSON."""
    try:
        check_storable(raw)
    except NotStorable as error:
        return FieldProblem(error.path.removeprefix("."), "NOT_STORABLE", error.message)
    size = len(orjson.dumps(raw))
    if size > MAX_BYTES:
        return FieldProblem("", "LIMIT", f"the spec is {size:,} bytes of JSON; the limit is {MAX_BYTES:,}")
    return None


def _check(parsed: ParseResult, types: NodeTypes) -> Iterator[FieldProblem]:
    yield from check_parts(parsed, types)
    yield from _check_templates(Graph(parsed.spec, parsed.edge_paths, parsed.unparsed), parsed.node_indexes, types)
    if parsed.spec.inputs is not None:
        yield from check_schema(parsed.spec.inputs, "inputs")


def _callbacks(spec: Spec, types: NodeTypes) -> Callable[[str | None], tuple[str, ...]] | None:
    """Return the function that finds the nodes that `callback_url` means; None if there are none."""
    names = callback_nodes(spec, types)
    return cache(lambda node_id: nearest_callbacks(spec, node_id, names)) if names else None


def _check_templates(graph: Graph, node_indexes: list[int], types: NodeTypes) -> Iterator[FieldProblem]:
    before = ancestors(graph)
    bits = {node_id: 1 << index for index, node_id in enumerate(before)}
    nodes = Nodes(bits, frozenset(graph.unparsed), _callbacks(graph.spec, types))
    # A node that cannot be parsed may be connected with any other, so the order is then not known.
    known = before if not graph.unparsed else None
    for count, (text, reader) in enumerate(spec_texts(graph.spec, graph.paths, node_indexes, types, known, bits)):
        if count == MAX_TEXTS:
            yield FieldProblem("", "LIMIT", f"the spec has more than {MAX_TEXTS:,} templates and conditions")
            return
        yield from nodes.check(text, reader)
