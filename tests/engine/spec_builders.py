"""Short functions that build specs, and the problems that validation finds."""

from typing import Any

from engine.validation.validator import validate
from tests.engine.node_runner import TYPES


def node(name: str, output: Any = 1, **fields: Any) -> dict[str, Any]:
    return {"id": name, "type": "transform", "config": {"output": output}, **fields}


def edge(ends: str, **fields: Any) -> dict[str, Any]:
    source, target = ends.split(">")
    return {"source": source, "target": target, **fields}


def spec(nodes: list[Any], edges: list[Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"nodes": nodes, "edges": edges or [], **fields}


def problems_of(raw: Any) -> set[tuple[str, str]]:
    """Validate a spec and return (path, code) of each error and warning."""
    report = validate(raw, TYPES)
    assert report.ok == (not report.errors)
    return {(problem.field, problem.code) for problem in [*report.errors, *report.warnings]}
