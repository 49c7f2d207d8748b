"""An edge that leaves a loop while the loop may go on has a warning, and others have none."""

from typing import Any

import pytest

from engine.validation.validator import validate
from tests.engine.node_runner import TYPES

START = {"source": "__start__", "target": "a"}
AGAIN = {"source": "a", "target": "a", "condition": "input.again"}
INNER = [START, {"source": "a", "target": "b"}, {"source": "b", "target": "b", "condition": "input.again"}]
ROUNDS = [START, INNER[1] | {"condition": "input.more"}, INNER[2]]
OUTER = {"source": "b", "target": "a", "condition": "input.more"}
CHOICE = {"type": "conditional", "config": {"condition": "input.again"}}


def spec(edges: list[dict[str, Any]], **a: Any) -> dict[str, Any]:
    """A spec of the nodes of these edges, with these fields of `a`."""
    ids = dict.fromkeys(edge[end] for edge in edges for end in ("source", "target"))
    nodes = [{"id": node_id, "type": "transform", "config": {"output": 1}} for node_id in ids if node_id[:2] != "__"]
    return {"nodes": [node | (a if node["id"] == "a" else {}) for node in nodes], "edges": edges}


def leaving(source: str, **fields: Any) -> dict[str, Any]:
    return {"source": source, "target": "end", **fields}


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (spec([START, AGAIN, leaving("a")]), "edges[2]"),
        (spec([START, AGAIN, leaving("a", condition="not input.again")]), None),
        (spec([START, AGAIN | {"port": "true", "condition": None}, leaving("a", port="false")], **CHOICE), None),
        (spec([START, AGAIN | {"port": "true"}, leaving("a", port="true")], **CHOICE), "edges[2]"),
        (spec([START, AGAIN | {"port": "true", "condition": None}, leaving("a")], **CHOICE), "edges[2]"),
        (spec([START, AGAIN | {"port": "error"}, leaving("a")], onError="branch"), None),
        (spec([START, AGAIN, leaving("a", port="error")], onError="branch"), None),
        (spec([START, AGAIN, {"source": "a", "target": "__end__"}]), None),
        (spec([*INNER, OUTER, leaving("b", condition="not input.more")]), None),
        (spec([*ROUNDS, OUTER | {"condition": None}, leaving("a", condition="not input.more")]), None),
        (spec([*INNER, OUTER, leaving("b")]), "edges[4]"),
        (spec([*INNER, {"source": "b", "target": "c"}, OUTER | {"source": "c"}, leaving("c")]), "edges[3]"),
    ],
)
def test_an_edge_that_leaves_a_loop_too_early_is_warned_of(raw: dict[str, Any], field: str | None) -> None:
    report = validate(raw, TYPES)
    assert report.errors == []
    found = {problem.field for problem in report.warnings if problem.code == "EARLY_EXIT"}
    assert field in found if field else not found


def test_an_early_exit_inside_a_map_has_its_path() -> None:
    inner = spec([START, AGAIN, leaving("a")])
    raw = {"nodes": [{"id": "m", "type": "map", "config": {"items": [1], "spec": inner}}], "edges": []}
    [problem] = [problem for problem in validate(raw, TYPES).warnings if problem.code == "EARLY_EXIT"]
    assert problem.field == "nodes[0].config.spec.edges[2]"
    assert "'end' starts while the loop around 'a' may go on" in problem.message
