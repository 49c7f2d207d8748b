"""Checks of a spec without its templates: size, node types, configs and graph.

Pure, and never raises. Called by engine/validation/validator.py for a whole spec. Nodes and specs
nested in a config (of a `map`) go through the same checks, so `check_parts` and `check_config` call
each other.
"""

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from engine.graph.plan import PlanError, make_plan
from engine.invalid_values import sentence
from engine.near_names import did_you_mean
from engine.problems import FieldProblem, join_path
from engine.sdk.annotations import NODE
from engine.sdk.node import NodeConfig, NodeType
from engine.sdk.node_types import NodeTypes
from engine.spec.model import NodeSpec
from engine.spec.parser import ParseResult, parse_with_problems
from engine.spec.raw import error_path
from engine.spec.template_fields import fields_at, nested_values
from engine.states import Severity
from engine.types import JSON
from engine.validation.graph_checks import (
    Graph,
    check_branches,
    check_cycles,
    check_edges,
    check_ids,
    check_isolated,
    check_reach,
)
from engine.validation.loop_exits import check_loop_exits
from engine.validation.nested import check_ignored_fields, check_types, refusal
from engine.validation.outputs import check_outputs
from engine.validation.retry_codes import check_codes, own_codes
from engine.validation.run_output import check_run_output
from engine.validation.switches import check_switches
from engine.values.json_schema import check_schema

MAX_NODES = 1_000
MAX_EDGES = 10_000
MAX_HINTS = 20
"""Unknown fields of a config for which a known one is looked for."""


def check_size(parsed: ParseResult) -> Iterator[FieldProblem]:
    """Find too many nodes or edges, or no node at all."""
    counts = (("nodes", len(parsed.spec.nodes), MAX_NODES), ("edges", len(parsed.spec.edges), MAX_EDGES))
    for name, count, limit in counts:
        if count > limit:
            yield FieldProblem(name, "LIMIT", f"the spec has {count:,} {name}; the limit is {limit:,}")
    if not parsed.spec.nodes and not parsed.problems:
        yield FieldProblem("nodes", "EMPTY", "a spec needs at least one node")


def check_parts(parsed: ParseResult, types: NodeTypes) -> Iterator[FieldProblem]:
    """Find the problems of nodes, edges and graph; not those of templates and input schema."""
    spec, node_indexes = parsed.spec, parsed.node_indexes
    graph = Graph(spec, parsed.edge_paths, parsed.unparsed)
    ports: dict[str, tuple[str, ...] | None] = {}
    yield from check_ids(spec, node_indexes, parsed.edge_paths)
    for node, index in zip(spec.nodes, node_indexes, strict=True):
        config = yield from check_config(node.type, node.config, f"nodes[{index}]", node.id, types)
        ports[node.id] = types[node.type].ports_of(config) if config is not None else None
        yield from _check_wait(node, f"nodes[{index}]", types)
        if node.retry is not None:
            yield from check_codes(
                node.retry.on, f"nodes[{index}]", types.get(node.type), node.id, own_codes(node.type, node.config)
            )
    yield from check_edges(graph, ports)
    yield from check_branches(graph, node_indexes)
    yield from check_switches(graph, node_indexes)
    yield from check_isolated(graph, node_indexes)
    if not parsed.unparsed:
        yield from check_reach(graph, node_indexes)
        yield from check_run_output(graph, node_indexes, types)
    yield from check_cycles(graph)
    yield from check_outputs(spec, types)


def check_config(
    name: str, raw: dict[str, Any], path: str, node_id: str | None, types: NodeTypes
) -> Generator[FieldProblem, None, NodeConfig | None]:
    """Find the problems of one node's type and config.

    Args:
        name: The node type.
        raw: The config, as written in the spec.
        path: Where the node is in the spec.
        node_id: The id that the problems carry.
        types: The node types of this host.

    Yields:
        Each problem, those of nested nodes first.

    Returns:
        The validated config, or None if it has errors or its type is unknown.
    """
    kind = types.get(name)
    if kind is None:
        reason = f"could not be loaded ({types.broken[name]})" if name in types.broken else "is unknown"
        hint = did_you_mean(name, list(types)) if name not in types.broken else ""
        hint = hint or f"; the available types are {', '.join(sorted(types))}"
        message = f"the node type {name!r} {reason}{hint}"
        yield FieldProblem(join_path(path, "type"), "UNKNOWN_TYPE", message, node_id=node_id)
        return None
    if kind.deprecated:
        message = f"the node type {name!r} is deprecated: {kind.deprecated}"
        yield FieldProblem(join_path(path, "type"), "DEPRECATED", message, Severity.WARNING, node_id)
    for problem in _nested_problems(kind, raw, join_path(path, "config"), types):
        yield replace(problem, node_id=node_id)
    try:
        config = kind.Config.model_validate(raw)
        for found in kind.warnings_of(config):
            place = join_path(path, "config", *found.path)
            problem = FieldProblem(place, "UNSUPPORTED", found.message, Severity.WARNING, node_id)
            yield replace(problem, line=found.line, column=found.column)
        return config
    except ValidationError as error:
        yield from _config_problems(error, join_path(path, "config"), raw, node_id, kind.Config)
    except Exception as fault:  # raised by a validator of a third-party package
        message = f"the node type {name!r} failed to read this config, which is a fault of the type: {fault!r}"
        yield FieldProblem(join_path(path, "config"), "CONFIG", message, node_id=node_id)
    return None


def _config_problems(
    error: ValidationError, path: str, raw: dict[str, Any], node_id: str | None, model: type[NodeConfig]
) -> Iterator[FieldProblem]:
    for place_in_errors, detail in enumerate(error.errors(include_url=False, include_input=False)):
        context = detail.get("ctx", {})
        place = error_path(path, (*detail["loc"], *context.get("at", ())), raw)
        line, column = context.get("line"), context.get("column")
        message = sentence(detail)
        if detail["type"] == "extra_forbidden" and place_in_errors < MAX_HINTS:
            message += did_you_mean(str(detail["loc"][-1]), fields_at(model, detail["loc"][:-1]))
        yield FieldProblem(place, "CONFIG", message, node_id=node_id, line=line, column=column)


def _check_wait(node: NodeSpec, path: str, types: NodeTypes) -> Iterator[FieldProblem]:
    """Find `timeoutS` and `retry` on a node that waits.

    They apply to attempts, and a wait is none.
    """
    if node.type not in types or not types[node.type].waits:
        return
    waits = f"an attempt, and a node of type {node.type!r} waits outside of its attempts"
    if node.timeout_s is not None:
        message = (
            f"`timeoutS` limits {waits}: what limits the wait is set in its config, or by the limits of a child run"
        )
        yield FieldProblem(join_path(path, "timeoutS"), "CONFIG", message, node_id=node.id)
    if node.retry is not None:
        message = f"`retry` repeats {waits}: the wait is not repeated"
        yield FieldProblem(join_path(path, "retry"), "NO_EFFECT", message, Severity.WARNING, node.id)


def _nested_problems(kind: NodeType[Any], raw: JSON, path: str, types: NodeTypes) -> Iterator[FieldProblem]:
    """Find the problems of the nodes and specs inside a config.

    Their paths lead into the config.
    """
    for place in nested_values(kind.Config, raw, path):
        if place.format == NODE:
            yield from _nested_node_problems(place.value, place.path, types)
        else:
            yield from _nested_spec_problems(place.value, place.path, types)


def _nested_node_problems(raw: JSON, path: str, types: NodeTypes) -> Iterator[FieldProblem]:
    if not isinstance(raw, dict) or not isinstance(name := raw.get("type"), str):
        return  # reported by the validation of the config itself
    reason = refusal(types[name]) if name in types else None
    config = raw.get("config", {})
    if reason is not None:
        yield FieldProblem(join_path(path, "type"), "CONFIG", reason)
    elif isinstance(config, dict):
        yield from check_config(name, config, path, None, types)
    retry = raw.get("retry")
    codes = retry.get("on") if isinstance(retry, dict) else None
    own = own_codes(name, config)
    yield from check_codes(codes if isinstance(codes, list) else (), path, types.get(name), None, own)


def _nested_spec_problems(raw: JSON, path: str, types: NodeTypes) -> Iterator[FieldProblem]:
    if not isinstance(raw, dict):
        return
    for problem in _spec_problems(raw, types):
        yield replace(problem, field=join_path(path, problem.field) if problem.field else path, edge_id=None)


def _spec_problems(raw: dict[str, JSON], types: NodeTypes) -> Iterator[FieldProblem]:
    parsed = parse_with_problems(raw)
    problems = [*parsed.problems, *parsed.warnings, *check_size(parsed)]
    problems += [*check_ignored_fields(raw), *check_types(parsed, types)]
    if not any(problem.code == "LIMIT" for problem in problems):
        problems += check_parts(parsed, types)
    if parsed.spec.inputs is not None:
        problems += check_schema(parsed.spec.inputs, "inputs")
    yield from problems
    if not any(problem.severity is Severity.ERROR for problem in problems):
        try:
            yield from check_loop_exits(make_plan(parsed.spec), parsed.edge_paths)
        except PlanError as error:
            yield from error.problems
