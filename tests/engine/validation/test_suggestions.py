"""Messages name what an author probably meant: fields, node types and operators; handles of React Flow are ports."""

import time
from typing import Any

import pytest

from engine.near_names import nearest
from engine.nodes.registry import load_node_types
from engine.spec.identity import normalise
from engine.validation.handles import with_ports
from engine.validation.validator import validate

TYPES = load_node_types()


def spec(*nodes: dict[str, Any], edges: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"nodes": [{"id": "s", "type": "start"}, *nodes], "edges": edges or []}


def messages(raw: Any) -> list[str]:
    report = validate(raw, TYPES)
    return [problem.message for problem in (*report.errors, *report.warnings)]


@pytest.mark.parametrize(
    ("node", "suggestion"),
    [
        ({"id": "a", "type": "transfrom", "config": {"output": 1}}, "transform"),
        ({"id": "a", "type": "Conditional", "config": {"condition": "true"}}, "conditional"),
        ({"id": "a", "type": "sub-workflow"}, "subworkflow"),
        ({"id": "a", "type": "transform", "config": {"ouput": 1}}, "output"),
        ({"id": "a", "type": "switch", "config": {"cases": [{"prot": "x", "condition": "true"}]}}, "port"),
        ({"id": "a", "type": "transform", "config": {"output": 1}, "maxVisit": 3}, "maxVisits"),
        ({"id": "a", "type": "transform", "config": {"output": 1}, "on_eror": "fail"}, "on_error"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest_one(node: dict[str, Any], suggestion: str) -> None:
    assert any(f"did you mean `{suggestion}`?" in message for message in messages(spec(node)))


@pytest.mark.parametrize("name", ["zzz", "x" * 500])
def test_a_name_that_is_like_no_other_gets_no_suggestion(name: str) -> None:
    found = messages(spec({"id": "a", "type": name}))
    assert any("the available types are" in message for message in found)
    assert nearest(name, TYPES) is None


@pytest.mark.parametrize(
    ("expression", "ours"),
    [
        ("input.a === 1", "`==`"),
        ("input.a && input.b", "`and`"),
        ("input.a || input.b", "`or`"),
        ("!input.a", "`not a`"),
    ],
)
def test_an_operator_of_another_language_is_answered_with_ours(expression: str, ours: str) -> None:
    raw = spec({"id": "a", "type": "end"}, edges=[{"source": "s", "target": "a", "condition": expression}])
    [problem] = [problem for problem in validate(raw, TYPES).errors if problem.code == "TEMPLATE"]
    assert "write" in problem.message and ours in problem.message and problem.line == 1


CHOICE = {"id": "c", "type": "switch", "config": {"cases": [{"port": "x", "condition": "true"}], "default": "y"}}
END = {"id": "e", "type": "end"}


@pytest.mark.parametrize(
    ("edge", "port"),
    [
        ({"source": "c", "sourceHandle": "x"}, "x"),
        ({"source": "c", "sourceHandle": "y", "port": None}, "y"),
        ({"source": "c", "sourceHandle": "error"}, "error"),
        ({"source": "c", "sourceHandle": "x", "port": "y"}, "y"),
        ({"source": "c", "sourceHandle": None}, None),
        ({"source": "c", "sourceHandle": "c-output-0"}, "c-output-0"),
        ({"source": "s", "sourceHandle": "error"}, "error"),
        ({"source": "s", "sourceHandle": "bottom"}, None),
        ({"source": "nobody", "sourceHandle": "x"}, None),
    ],
)
def test_the_handle_of_an_edge_is_its_port_where_the_node_has_it(edge: dict[str, Any], port: str | None) -> None:
    raw = spec(CHOICE, END, edges=[{"source": "s", "target": "c"}, {**edge, "target": "e"}])
    read = normalise(with_ports(raw, TYPES))["edges"][1]
    assert read.get("port") == port
    assert read["id"] == (f"{edge['source']}:{port}->e" if port else f"{edge['source']}->e")
    warned = any("`sourceHandle` is not a known field" in message for message in messages(raw))
    assert warned is (edge["sourceHandle"] not in (None, port))
    assert "port" not in raw["edges"][1] or raw["edges"][1]["port"] == edge.get("port")  # The argument is not changed.


def test_a_handle_that_is_no_port_of_a_choice_is_refused_and_not_every_port() -> None:
    raw = spec(CHOICE, END, edges=[{"source": "s", "target": "c"}, {"source": "c", "sourceHandle": "X", "target": "e"}])
    [problem] = validate(with_ports(raw, TYPES), TYPES).errors
    assert (problem.field, problem.code) == ("edges[1].port", "UNKNOWN_PORT")
    assert problem.message == "'c' has no port 'X'; its ports: `x`, `y`"


def test_handles_inside_a_map_are_ports_as_well() -> None:
    inner = spec(
        CHOICE, END, edges=[{"source": "s", "target": "c"}, {"source": "c", "sourceHandle": "x", "target": "e"}]
    )
    read = with_ports(spec({"id": "m", "type": "map", "config": {"items": "{{ input }}", "spec": inner}}), TYPES)
    assert read["nodes"][1]["config"]["spec"]["edges"][1]["port"] == "x"


@pytest.mark.parametrize(
    "raw", [None, 1, [], {"nodes": {"sourceHandle": 1}}, {"nodes": [1], "edges": ["sourceHandle"]}]
)
def test_what_is_no_spec_is_left_alone(raw: Any) -> None:
    assert with_ports(raw, TYPES) == raw


def test_a_spec_of_wrong_names_is_validated_in_a_bounded_time() -> None:
    raw = spec(*({"id": f"a{i}", "type": f"transfor{i}", **{f"maxVisit{j}": 1 for j in range(20)}} for i in range(900)))
    began = time.process_time()
    validate(raw, TYPES)
    assert time.process_time() - began < 5
