"""Validation of nodes nested in a `map`: the same checks, with paths into the config of the map."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from engine.graph.bound_node import bind_nodes
from engine.sdk.node import NodeConfig, NodeType
from engine.sdk.node_types import NodeTypes
from engine.spec.parser import parse
from engine.states import Severity
from engine.validation.validator import validate
from tests.engine.node_runner import TYPES

HALF = {"nodes": [{"id": "half", "type": "transform", "config": {"output": "{{ item / 2 }}"}}], "edges": []}


def transform(output: Any) -> dict[str, Any]:
    return {"type": "transform", "config": {"output": output}}


def spec_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return the spec start → m → late, where `m` is a map with this config."""
    return {
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "m", "type": "map", "config": {"items": "{{ input.list }}", **config}},
            {"id": "late", "type": "transform", "config": {"output": "{{ m.output }}"}},
        ],
        "edges": [{"source": "start", "target": "m"}, {"source": "m", "target": "late"}],
    }


def errors_in(config: dict[str, Any], types: NodeTypes = TYPES) -> list[tuple[str, str]]:
    """Return (path in the config of the map, code) of every error."""
    report = validate(spec_of(config), types)
    assert all(problem.node_id == "m" for problem in report.errors)
    return [(problem.field.removeprefix("nodes[1].config"), problem.code) for problem in report.errors]


def nodes(*inner: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"spec": {"nodes": list(inner), "edges": [], **rest}}


VALID: dict[str, dict[str, Any]] = {
    "item and index": {"node": transform("{{ item.name }} {{ index }} {{ start.output }}")},
    "secrets in what is sent": {"node": {"type": "http", "config": {"url": "https://a.example/{{ secrets.key }}"}}},
    "a list of templates": {"items": ["{{ input.a }}", 1], "node": transform(1)},
    "a spec": {"spec": HALF},
    "its own nodes": nodes({"id": "a", **transform(1)}, outputs={"b": "{{ a.output + item + start.output.n }}"}),
    "every field": {
        "node": {**transform(1), "timeoutS": 5, "retry": {"maxAttempts": 2, "backoffS": 0}},
        "concurrency": 100,
        "onItemError": "collect",
    },
}
INVALID: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "neither": ({}, [("", "CONFIG")]),
    "both": ({"node": transform(1), "spec": HALF}, [("", "CONFIG")]),
    "no list": ({"items": 3, "node": transform(1)}, [(".items", "CONFIG")]),
    "item in the list itself": ({"items": "{{ item }}", "node": transform(1)}, [(".items", "UNKNOWN_NAME")]),
    "too many at once": ({"node": transform(1), "concurrency": 101}, [(".concurrency", "CONFIG")]),
    "a type that is not there": ({"node": {"type": "nope"}}, [(".node.type", "UNKNOWN_TYPE")]),
    "no type": ({"node": {"config": {}}}, [(".node.type", "CONFIG")]),
    "no object": ({"node": [1]}, [(".node", "CONFIG")]),
    "a config of another shape": (
        {"node": {"type": "llm", "config": {"model": 3, "prompt": "a"}}},
        [(".node.config.model", "CONFIG")],
    ),
    "code that is none": (
        {"node": {"type": "code", "config": {"code": "def process(:"}}},
        [(".node.config.code", "CONFIG")],
    ),
    "names that are not there": (
        {"node": transform(["{{ absent.output }}", "{{ late.output }}", "{{ a b }}"])},
        [
            (".node.config.output[0]", "UNKNOWN_NAME"),
            (".node.config.output[1]", "NOT_YET_RUN"),
            (".node.config.output[2]", "TEMPLATE"),
        ],
    ),
    "an unknown name in a node of a spec": (
        nodes({"id": "a", **transform("{{ nodes['x'].output }}")}, {"id": "b", **transform("{{ a.output }}")}),
        [
            (".spec.nodes[0].config.output", "UNKNOWN_NODE"),
            (".spec.nodes[1].config.output", "NOT_YET_RUN"),
        ],
    ),
    "secrets outside of nodes": (
        nodes({"id": "a", **transform(1)}, outputs={"b": "{{ secrets.key }}"}),
        [(".spec.outputs.b", "SECRET")],
    ),
    "an edge to nowhere": (
        nodes({"id": "a", **transform(1)}, edges=[{"source": "a", "target": "b"}]),
        [(".spec.edges[0].target", "UNKNOWN_NODE")],
    ),
    "a loop without an end": (
        nodes(
            {"id": "a", **transform(1)},
            {"id": "b", **transform(1)},
            edges=[{"source": a, "target": b} for a, b in ("ab", "ba")] + [{"source": "__start__", "target": "a"}],
        ),
        [(".spec.edges", "ENDLESS_CYCLE")],
    ),
    "a spec that is none": ({"spec": {"nodes": "x"}}, [(".spec.nodes", "SHAPE")]),
    "a spec without nodes": (nodes(), [(".spec.nodes", "EMPTY")]),
    "inputs that are no schema": ({"spec": {**HALF, "inputs": {"type": "x"}}}, [(".spec.inputs.type", "SCHEMA")]),
}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_map_has_no_errors(name: str) -> None:
    assert errors_in(VALID[name]) == []


@pytest.mark.parametrize("name", INVALID)
def test_an_error_in_a_map_has_its_path(name: str) -> None:
    config, expected = INVALID[name]
    assert errors_in(config) == expected


@pytest.mark.parametrize("kind", ["delay", "human", "subworkflow", "map"])
def test_types_that_wait_or_run_other_nodes_are_refused_with_the_reason(kind: str) -> None:
    config = TYPES[kind].example
    for place, inner in ((".node.type", {"node": {"type": kind, "config": config}}), (".spec.nodes[0].type", None)):
        report = validate(spec_of(inner or nodes({"id": "a", "type": kind, "config": config})), TYPES)
        [problem] = [one for one in report.errors if one.field == f"nodes[1].config{place}"]
        assert "waits without a worker" in problem.message or "runs other nodes itself" in problem.message


def test_item_and_index_are_defined_only_inside_the_map() -> None:
    spec = spec_of({"node": transform("{{ item }}")})
    spec["nodes"][2]["config"]["output"] = "{{ item }} {{ index }}"
    assert [problem.message for problem in validate(spec, TYPES).errors] == [
        "`item` is defined only inside a `map`",
        "`index` is defined only inside a `map`",
    ]


def test_an_error_in_a_nested_template_has_line_and_column() -> None:
    [problem] = validate(spec_of({"node": transform("{{ item }}\n  {{ absent.output }}")}), TYPES).errors
    assert (problem.line, problem.column) == (2, 6)


def test_the_concurrency_of_a_nested_spec_is_ignored_with_a_warning() -> None:
    report = validate(spec_of({"spec": {**HALF, "inputs": {"type": "object"}, "concurrency": {"limit": 1}}}), TYPES)
    assert [(one.field, one.severity) for one in report.warnings] == [
        ("nodes[1].config.spec.concurrency", Severity.WARNING)
    ]


def test_a_nested_spec_has_the_same_size_limit_as_any_spec() -> None:
    many = [{"id": f"n{index}", **transform(1)} for index in range(1_001)]
    assert errors_in(nodes(*many)) == [(".spec.nodes", "LIMIT")]


class WrapperConfig(NodeConfig):
    inner: dict[str, Any] = Field(json_schema_extra={"format": "node"})


class Wrapper(NodeType[WrapperConfig]):
    """A third-party type whose config has a node in it: only the JSON Schema says so."""

    name = "wrapper"
    title = "Wrapper"
    description = "For tests."
    Config = WrapperConfig


def test_a_nested_node_is_found_by_the_format_in_the_schema_of_any_type() -> None:
    types = NodeTypes([*TYPES.values(), Wrapper()])
    inner = {
        "type": "tool",
        "config": {"tool": "a", "arguments": {"a": "{{ secrets.key }}", "b": "{{ absent.output }}"}},
    }
    spec = {"nodes": [{"id": "w", "type": "wrapper", "config": {"inner": inner}}], "edges": []}
    [problem] = validate(spec, types).errors
    assert (problem.field, problem.code) == ("nodes[0].config.inner.config.arguments.b", "UNKNOWN_NAME")
    assert bind_nodes(parse(spec), types)["w"].secrets == {"key"}
    unknown = {"nodes": [{"id": "w", "type": "wrapper", "config": {"inner": {"type": "nope"}}}], "edges": []}
    [problem] = validate(unknown, types).errors
    assert (problem.field, problem.code) == ("nodes[0].config.inner.type", "UNKNOWN_TYPE")
    [refused, *_] = validate(spec_of({"node": {"type": "wrapper", "config": {"inner": inner}}}), types).errors
    assert (refused.field, "runs other nodes itself" in refused.message) == ("nodes[1].config.node.type", True)


@pytest.mark.parametrize("kind", ["delay", "human", "subworkflow"])
def test_a_time_limit_on_a_node_that_waits_is_an_error_and_a_retry_a_warning(kind: str) -> None:
    limits = {"timeoutS": 5, "retry": {"maxAttempts": 2}}
    report = validate({"nodes": [{"id": "n", "type": kind, "config": TYPES[kind].example, **limits}]}, TYPES)
    assert [(one.field, one.code) for one in report.errors] == [("nodes[0].timeoutS", "CONFIG")]
    assert [(one.field, one.code) for one in report.warnings] == [("nodes[0].retry", "NO_EFFECT")]


KEYS = st.sampled_from(
    ["id", "type", "config", "nodes", "edges", "outputs", "source", "target", "condition", "output", "x"]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from(["a", "transform", "map", "{{ item }}", "{{ x", "nodes['a']"]),
)
ANY_VALUE = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


@settings(max_examples=300)
@given(key=st.sampled_from(["node", "spec"]), inside=ANY_VALUE)
def test_validation_never_raises_for_any_nested_value(key: str, inside: Any) -> None:
    assert isinstance(validate(spec_of({key: inside}), TYPES).ok, bool)
