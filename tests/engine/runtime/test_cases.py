"""Specs that once gave a wrong result, and specs that do not name their start."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.nodes.registry import load_node_types
from engine.states import RunStatus
from engine.validation.validator import validate
from tests.engine.memory_runs import run
from tests.engine.nodes.map.map_nodes import MemoryItems

FILES = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parents[1] / "cases").glob("*.json")}
CASES = {name: case for name, case in FILES.items() if "answers" not in case}
"""The cases that run without answers. tests/worker/test_first_answer.py has the others."""
WITH_OUTPUT = [name for name, case in CASES.items() if "output" in case["expected"]]
WITH_ERROR = [name for name, case in CASES.items() if "error" in case["expected"]]
TYPES = load_node_types()


def expected_part(case: dict[str, Any], output: Any) -> Any:
    """Return the part of an output that the case expects something of."""
    expected = case["expected"]["output"]
    return {name: output.get(name) for name in expected} if isinstance(expected, dict) else output


@pytest.mark.parametrize("name", WITH_OUTPUT)
async def test_a_case_gives_the_expected_output(name: str) -> None:
    case = CASES[name]
    ended = await run(case["spec"], case["inputs"])
    assert ended.status is RunStatus.COMPLETED, ended.error
    assert expected_part(case, ended.output) == case["expected"]["output"]


@pytest.mark.parametrize("name", WITH_ERROR)
async def test_a_case_gives_the_expected_error(name: str) -> None:
    case = CASES[name]
    ended = await run(case["spec"], case["inputs"])
    assert (ended.status, ended.output) == (RunStatus.FAILED, None)
    expected = case["expected"]["error"]
    assert ended.error is not None and expected["message"] in ended.error.message
    assert (ended.error.node_id, ended.error.code) == (expected["nodeId"], expected["code"])


@pytest.mark.parametrize("name", WITH_OUTPUT)
async def test_a_case_gives_the_expected_output_inside_a_map(name: str) -> None:
    case = CASES[name]
    config = {"items": [1, 2], "spec": case["spec"]}
    spec = {"nodes": [{"id": "m", "type": "map", "config": config}]}
    ended = await run(spec, case["inputs"], resources={"items": MemoryItems()})
    assert isinstance(ended.output, dict), ended.error
    items = [expected_part(case, item) for item in ended.output["m"]["items"]]
    assert items == [case["expected"]["output"]] * 2


def counter(node_id: str) -> dict[str, Any]:
    return {"id": node_id, "type": "transform", "config": {"output": f"{{{{ ({node_id}.last_output or 0) + 1 }}}}"}}


def edge(source: str, target: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"{source}>{target}", "source": source, "target": target, **fields}


AGAIN = "b.output < 3"
STARTS: dict[str, tuple[dict[str, Any], list[str], Any]] = {
    "every node has an incoming edge: the first node of the list": (
        {"nodes": [counter("a"), counter("b")], "edges": [edge("a", "b"), edge("b", "a", condition=AGAIN)]},
        ["IMPLIED_START"],
        {"a": 3, "b": 3},
    ),
    "a node of type start in a loop": (
        {
            "nodes": [counter("b"), {"id": "s", "type": "start"}],
            "edges": [edge("s", "b"), edge("b", "s", condition=AGAIN)],
        },
        [],
        {"b": 3},
    ),
    "an edge from __start__ into a loop": (
        {
            "nodes": [counter("a"), counter("b")],
            "edges": [edge("__start__", "b"), edge("a", "b"), edge("b", "a", condition=AGAIN)],
        },
        [],
        {"a": 2, "b": 3},
    ),
    "a node with an edge to itself": (
        {"nodes": [counter("b")], "edges": [edge("b", "b", condition=AGAIN)]},
        ["IMPLIED_START"],
        {"b": 3},
    ),
}


@pytest.mark.parametrize("name", STARTS)
async def test_a_run_begins_at_the_documented_node(name: str) -> None:
    spec, warnings, output = STARTS[name]
    spec = {**spec, "outputs": {node_id: f"{{{{ {node_id}.output }}}}" for node_id in output}}
    report = validate(spec, TYPES)
    assert (report.errors, [problem.code for problem in report.warnings]) == ([], warnings)
    ended = await run(spec)
    assert (ended.status, ended.output) == (RunStatus.COMPLETED, output)


async def test_a_loop_that_can_be_entered_at_two_nodes_is_refused_with_advice() -> None:
    nodes = [{"id": "s", "type": "start"}, counter("a"), counter("b")]
    edges = [edge("s", "a"), edge("s", "b"), edge("a", "b"), edge("b", "a", condition=AGAIN)]
    [problem] = validate({"nodes": nodes, "edges": edges}, TYPES).errors
    assert problem.code == "LOOP_ENTRIES"
    assert "'a', 'b'" in problem.message
    assert "put a node before" in problem.message


@pytest.mark.parametrize("more", [{}, {"timeoutS": 60}], ids=["inline", "as a task"])
async def test_a_node_sees_its_visit_before_even_if_it_was_skipped_since(more: dict[str, Any]) -> None:
    values = ["{{ x.output }}", "{{ x.last_output }}", "{{ x.status }}", "{{ n.output }}"]
    spec = {
        "nodes": [counter("n"), {"id": "x", "type": "transform", "config": {"output": values}, **more}, counter("t")],
        "edges": [
            edge("n", "x", condition="n.output != 2"),
            edge("n", "t"),
            edge("x", "t"),
            edge("t", "n", condition="t.output < 3"),
        ],
        "outputs": {"x": "{{ x.output }}"},
    }
    ended = await run(spec)
    first = [None, None, "RUNNING", 1]
    assert ended.output == {"x": [first, first, "RUNNING", 3]}, ended.error


UNLIKE_PLACES: dict[str, tuple[dict[str, Any], str]] = {
    "conditional": ({"nodes": [{"id": "n", "type": "conditional", "config": {"condition": "input > 10"}}]}, "TEMPLATE"),
    "switch": (
        {
            "nodes": [
                {"id": "n", "type": "switch", "config": {"cases": [{"port": "a", "condition": "{{ input }} > 10"}]}}
            ]
        },
        "TEMPLATE",
    ),
    "template": ({"nodes": [{"id": "n", "type": "transform", "config": {"output": "{{ input > 10 }}"}}]}, "TEMPLATE"),
    "map": (
        {
            "nodes": [
                {
                    "id": "n",
                    "type": "map",
                    "config": {
                        "items": ["{{ input }}", 10],
                        "node": {"type": "transform", "config": {"output": "{{ item > 10 }}"}},
                    },
                }
            ]
        },
        "TEMPLATE",
    ),
    "edge": ({"nodes": [counter("n"), counter("m")], "edges": [edge("n", "m", condition="input > 10")]}, "EXPRESSION"),
}


@pytest.mark.parametrize("value", ["7", "x", [], {}, None, True])
@pytest.mark.parametrize("place", UNLIKE_PLACES)
async def test_a_value_that_is_no_number_is_never_greater_than_one(place: str, value: Any) -> None:
    spec, code = UNLIKE_PLACES[place]
    ended = await run(spec, value, resources={"items": MemoryItems()})
    assert (ended.status, ended.output) == (RunStatus.FAILED, None)
    assert ended.error is not None and (ended.error.node_id, ended.error.code) == ("n", code)
    assert "`10` is a number" in ended.error.message
