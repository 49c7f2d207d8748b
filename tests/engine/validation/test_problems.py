"""Every problem of a spec is reported at once, with its path and code."""

from typing import Any

import pytest

from engine.validation.validator import validate
from tests.engine.node_runner import TYPES
from tests.engine.spec_builders import edge, node, problems_of, spec

SWITCH: dict[str, Any] = {
    "id": "s",
    "type": "switch",
    "config": {"cases": [{"port": "big", "condition": "input.n > 1"}]},
}


def mapped(config: dict[str, Any]) -> dict[str, Any]:
    """A map over the input with a node or a spec."""
    return {"id": "m", "type": "map", "config": {"items": "{{ input }}", **config}}


FAIL: dict[str, Any] = {"id": "f", "type": "fail", "config": {"code": "OUT_OF_STOCK", "message": "m"}}
LOOP = [node("a"), node("b"), node("c", "{{ b.output }}")]
PROBLEMS: dict[str, tuple[Any, set[tuple[str, str]]]] = {
    "no object": ([1], {("", "SHAPE")}),
    "no node": (spec([]), {("nodes", "EMPTY")}),
    "an unknown type": (spec([{"id": "a", "type": "nope"}]), {("nodes[0].type", "UNKNOWN_TYPE")}),
    "a field that lacks": (spec([{"id": "a", "type": "transform"}]), {("nodes[0].config.output", "CONFIG")}),
    "a field too many": (
        spec([{"id": "a", "type": "start", "config": {"typo": 1}}]),
        {("nodes[0].config.typo", "CONFIG")},
    ),
    "a wrong case": (
        spec([{"id": "a", "type": "switch", "config": {"cases": [{"port": "error", "condition": "true"}]}}]),
        {("nodes[0].config.cases[0].port", "CONFIG")},
    ),
    "another language": (
        spec([{"id": "a", "type": "code", "config": {"language": "ruby", "code": "def process(): pass"}}]),
        {("nodes[0].config.language", "CONFIG")},
    ),
    "both ways to delay": (
        spec([{"id": "a", "type": "delay", "config": {"seconds": 1, "until": "2030-01-01"}}]),
        {("nodes[0].config", "CONFIG")},
    ),
    "a negative delay": (
        spec([{"id": "a", "type": "delay", "config": {"seconds": -1}}]),
        {("nodes[0].config.seconds", "CONFIG")},
    ),
    "a dangling target": (spec([node("a")], [edge("a>x")]), {("edges[0].target", "UNKNOWN_NODE")}),
    "a dangling source": (
        spec([node("a"), node("b")], [edge("x>b")]),
        {("edges[0].source", "UNKNOWN_NODE")},
    ),
    "a dangling true_edge": (
        spec([{"id": "a", "type": "conditional", "config": {"condition": "true", "true_edge": "x"}}]),
        {("nodes[0].config.true_edge", "UNKNOWN_NODE")},
    ),
    "__end__ as a source": (
        spec([node("a")], [edge("__end__>a")]),
        {("edges[0].source", "UNKNOWN_NODE")},
    ),
    "an unknown port": (
        spec([node("a"), node("b")], [edge("a>b", port="p")]),
        {("edges[0].port", "UNKNOWN_PORT")},
    ),
    "an error port that is never taken": (
        spec([node("a"), node("b")], [edge("a>b", port="error")]),
        {("edges[0].port", "DEAD_EDGE")},
    ),
    "an island": (
        spec([{"id": "s", "type": "start"}, node("a"), node("b")], [edge("s>a")]),
        {("nodes[2]", "UNREACHABLE")},
    ),
    "a cycle that nothing enters": (
        spec([node("a"), node("b")], [edge("a>b"), edge("b>a", condition="1 > 2")]),
        {("nodes", "IMPLIED_START"), ("nodes[0]", "NO_OUTPUT")},
    ),
    "two cycles that nothing enters": (
        spec(
            [node("a"), node("b"), node("c")],
            [edge("a>b"), edge("b>a", condition="1 > 2"), edge("c>c", condition="1 > 2")],
        ),
        {("nodes", "IMPLIED_START"), ("nodes[2]", "UNREACHABLE"), ("nodes[0]", "NO_OUTPUT")},
    ),
    "a cycle without an exit": (
        spec(LOOP, [edge("a>b"), edge("b>c"), edge("c>b")]),
        {("edges", "ENDLESS_CYCLE"), ("nodes[0]", "NO_OUTPUT")},
    ),
    "a cycle whose exit ends nothing": (
        spec([*LOOP, node("d")], [edge("a>b"), edge("b>c"), edge("c>b"), edge("c>d")]),
        {("edges", "ENDLESS_CYCLE")},
    ),
    "a loop with two entries": (
        spec(LOOP, [edge("a>b"), edge("a>c"), edge("b>c"), edge("c>b", condition="1 > 2")]),
        {("edges", "LOOP_ENTRIES"), ("nodes[0]", "NO_OUTPUT")},
    ),
    "wrong template syntax": (spec([node("a", ["x", "{{ 1 + }}"])]), {("nodes[0].config.output[1]", "TEMPLATE")}),
    "an unknown filter": (spec([node("a", "{{ 1 | nope }}")]), {("nodes[0].config.output", "TEMPLATE")}),
    "an unknown name": (spec([node("a", "{{ b.output }}")]), {("nodes[0].config.output", "UNKNOWN_NAME")}),
    "an unknown node": (
        spec([node("a", "{{ nodes['b-c'].output }}")]),
        {("nodes[0].config.output", "UNKNOWN_NODE")},
    ),
    "a node that comes later": (
        spec([node("a", "{{ b.output }}"), node("b")], [edge("a>b")]),
        {("nodes[0].config.output", "NOT_YET_RUN")},
    ),
    "a node of another branch": (
        spec([node("a"), node("b"), node("c", "{{ b.output }}")], [edge("a>b"), edge("a>c")]),
        {("nodes[2].config.output", "NOT_YET_RUN")},
    ),
    "a wrong condition": (
        spec([node("a"), node("b")], [edge("a>b", condition="a.output >")]),
        {("edges[0].condition", "TEMPLATE")},
    ),
    "a condition over a later node": (
        spec([node("a"), node("b")], [edge("a>b", condition="b.output > 1")]),
        {("edges[0].condition", "NOT_YET_RUN")},
    ),
    "wrong outputs": (
        spec([node("a")], outputs={"x": {"y": "{{ b.output }}"}}),
        {("outputs.x.y", "UNKNOWN_NAME")},
    ),
    "a duplicate node": (spec([node("a"), node("a")]), {("nodes[1].id", "DUPLICATE_ID")}),
    "a duplicate edge": (
        spec([node("a"), node("b")], [edge("a>b", id="e"), edge("a>b", id="e")]),
        {("edges[1].id", "DUPLICATE_ID")},
    ),
    "a reserved id": (spec([node("input")]), {("nodes[0].id", "RESERVED_ID")}),
    "__start__ as a node": (spec([node("__start__")]), {("nodes[0].id", "RESERVED_ID")}),
    "an id of spaces": (spec([node("a b")]), {("nodes[0].id", "ID_FORMAT")}),
    "a wrong input schema": (spec([node("a")], inputs={"type": "strnig"}), {("inputs.type", "SCHEMA")}),
    "a foreign schema": (
        spec([node("a")], inputs={"properties": {"a": {"$ref": "other.json"}}}),
        {("inputs.properties.a.$ref", "SCHEMA")},
    ),
    "too many nodes": (spec([node(f"n{i}") for i in range(1001)]), {("nodes", "LIMIT")}),
    "too large": (spec([node("a", "x" * 1_100_000)]), {("", "LIMIT")}),
    "a NUL": (spec([node("a", "\0")]), {("nodes[0].config.output", "NOT_STORABLE")}),
    "a switch without default": (
        spec([SWITCH, node("b"), node("c")], [edge("s>b", port="big"), edge("b>c")]),
        {("nodes[0].config.default", "NO_DEFAULT")},
    ),
    "a switch without default and an edge for every port": (
        spec([SWITCH, node("b"), node("c")], [edge("s>b", port="big"), edge("s>c")]),
        set(),
    ),
    "a switch with a default": (
        spec(
            [{**SWITCH, "config": {**SWITCH["config"], "default": "small"}}, node("b")],
            [edge("s>b", port="big")],
        ),
        {("nodes[0].config.default", "PORT_WITHOUT_EDGE")},
    ),
    "a switch with an edge for every port": (
        spec(
            [{**SWITCH, "config": {**SWITCH["config"], "default": "big"}}, node("b")],
            [edge("s>b", port="big")],
        ),
        set(),
    ),
    "a switch with a case without an edge": (
        spec(
            [{**SWITCH, "config": {**SWITCH["config"], "default": "small"}}, node("b")],
            [edge("s>b", port="small")],
        ),
        {("nodes[0].config.cases[0].port", "PORT_WITHOUT_EDGE")},
    ),
    "a loop that no edge leaves": (
        spec([node("a"), node("b")], [edge("__start__>a"), edge("a>b"), edge("b>a", condition="input.n")]),
        {("nodes[0]", "NO_OUTPUT")},
    ),
    "a loop that no edge leaves beside an end": (
        spec(
            [node("s"), node("a"), node("b"), node("c")],
            [edge("s>a"), edge("a>b"), edge("b>a", condition="input.n"), edge("s>c")],
        ),
        {("nodes[1]", "NO_OUTPUT")},
    ),
    "a loop that ends at __end__": (
        spec(
            [node("s"), node("a")],
            [edge("s>a"), edge("a>a", condition="input.n"), edge("a>__end__", condition="not input.n")],
        ),
        {("nodes[0]", "NO_OUTPUT")},
    ),
    "a loop that ends at __end__, or at an output": (
        spec(
            [node("s"), node("a", onError="branch"), node("b")],
            [edge("s>a"), edge("a>a", condition="1"), edge("a>__end__", condition="0"), edge("a>b", port="error")],
        ),
        {("edges[2]", "NO_OUTPUT")},
    ),
    "a loop that ends at __end__, beside an output": (
        spec(
            [node("s"), node("a"), node("b"), node("c")],
            [
                *(edge("s>a"), edge("a>a", condition="1"), edge("a>__end__", condition="0"), edge("s>c")),
                edge("a>b", condition="0"),
            ],
        ),
        set(),
    ),
    "a loop with an exit": (
        spec([node("s"), node("a"), node("b")], [edge("s>a"), edge("a>a", condition="1"), edge("a>b", condition="0")]),
        set(),
    ),
    "a loop without an exit, and outputs": (
        spec([node("s"), node("a")], [edge("s>a"), edge("a>a", condition="1")], outputs={"x": "{{ a.output }}"}),
        set(),
    ),
    "a last node with an edge to __end__": (spec([node("s"), node("a")], [edge("s>a"), edge("a>__end__")]), set()),
    "the own code of a fail node": (
        spec([{**FAIL, "retry": {"on": ["OUT_OF_STOCK"]}}]),
        set(),
    ),
    "the code of a fail node that names none": (
        spec([{"id": "f", "type": "fail", "config": {"message": "m"}, "retry": {"on": ["FAILED"]}}]),
        set(),
    ),
    "the code of another fail node": (
        spec([{**FAIL, "retry": {"on": ["OTHER"]}}]),
        {("nodes[0].retry.on", "UNKNOWN_CODE")},
    ),
    "the code of a fail node in a map": (
        spec([{**mapped({"spec": spec([FAIL])}), "retry": {"on": ["OUT_OF_STOCK"]}}]),
        set(),
    ),
    "a switch at the end": (spec([node("a"), SWITCH], [edge("a>s")]), set()),
    "a switch without default in a map": (
        spec([mapped({"spec": spec([SWITCH, node("b")], [edge("s>b", port="big")])})]),
        {("nodes[0].config.spec.nodes[0].config.default", "NO_DEFAULT")},
    ),
    "a node without an edge": (
        spec([node("a"), node("b"), node("c")], [edge("a>b")]),
        {("nodes[2]", "ISOLATED")},
    ),
    "nodes without any edge": (spec([node("a"), node("b")]), set()),
    "a node with an edge from __start__": (
        spec([node("a"), node("b"), node("c")], [edge("__start__>a"), edge("a>b"), edge("__start__>c")]),
        set(),
    ),
    "known codes of retry": (spec([node("a", retry={"on": ["HTTP_STATUS", "CODE"]})]), set()),
    "an unknown code of retry": (
        spec([node("a", retry={"on": ["HTTP_STATUS", "NOPE"]})]),
        {("nodes[0].retry.on", "UNKNOWN_CODE")},
    ),
    "an unknown code of retry in a map": (
        spec([mapped({"node": {"type": "transform", "config": {"output": 1}, "retry": {"on": ["http_timeout"]}}})]),
        {("nodes[0].config.node.retry.on", "UNKNOWN_CODE")},
    ),
    "an unknown field": (spec([node("a", colour="red")]), {("nodes[0].colour", "UNKNOWN_FIELD")}),
    "an unknown field of retry": (
        spec([node("a", retry={"maxAttempts": 2, "backoff_s": 1, "attempts": 5})]),
        {("nodes[0].retry.attempts", "UNKNOWN_FIELD")},
    ),
}


@pytest.mark.parametrize(("raw", "expected"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_a_problem_has_its_path(raw: Any, expected: set[tuple[str, str]]) -> None:
    assert problems_of(raw) == expected


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("HTTP_STATUSS", "did you mean 'HTTP_STATUS'?"),
        ("timeout", "did you mean 'TIMEOUT'?"),
        ("model-rate-limit", "did you mean 'MODEL_RATE_LIMIT'?"),
        ("TOOL_FAILURE", "did you mean 'TOOL_FAILED'?"),
        ("503", "docs/errors.md lists the codes"),
    ],
)
def test_an_unknown_code_of_retry_has_a_suggestion(code: str, hint: str) -> None:
    [warning] = validate(spec([node("a", retry={"on": [code]})]), TYPES).warnings
    assert repr(code) in warning.message and hint in warning.message


@pytest.mark.parametrize("wrong", ["except_starter", "exceptstarter", "exceptStarters"])
def test_an_unknown_field_of_a_nested_object_has_the_name_that_specs_use(wrong: str) -> None:
    asking = {"id": "h", "type": "human", "config": {"prompt": "x", "answerers": {wrong: True}}}
    [error] = validate(spec([asking]), TYPES).errors
    assert error.field == f"nodes[0].config.answerers.{wrong}"
    assert error.message.endswith("did you mean `exceptStarter`?")


HTTP = {"id": "h", "type": "http", "config": {}}
NAMES: dict[str, tuple[dict[str, Any], str]] = {
    "the error of a branch": (node("b", "{{ error.message }}"), "`node_id.output.error`"),
    "a plural": (node("b", "{{ inputs.x }}"), "did you mean `input`?"),
    "a typo": (node("b", "{{ first_nod.output }}"), "did you mean `first_node`?"),
    "half an id": (node("b", "{{ my.output }}"), 'written `nodes["my-node"]`'),
    "where the result is stored": (node("b", "{{ zzz }}"), "neither a node nor `input`, `nodes` or `run`"),
    "where secrets are sent": (
        {**HTTP, "config": {"url": "http://x/{{ zzz }}"}},
        "neither a node nor `input`, `nodes`, `run` or `secrets`",
    ),
    "in a map": (
        mapped({"node": {"type": "transform", "config": {"output": "{{ zzz }}"}}}),
        "neither a node nor `input`, `nodes`, `run`, `item` or `index`",
    ),
}


@pytest.mark.parametrize(("raw", "message"), NAMES.values(), ids=NAMES.keys())
def test_an_unknown_name_has_the_names_that_exist_there_or_a_suggestion(raw: dict[str, Any], message: str) -> None:
    nodes = [node("first_node"), node("my-node"), raw]
    edges = [edge("first_node>my-node"), edge(f"my-node>{raw['id']}")]
    [error] = validate(spec(nodes, edges), TYPES).errors
    assert error.code == "UNKNOWN_NAME" and message in error.message


def test_all_problems_are_reported_at_once() -> None:
    raw = spec(
        [
            {"id": "a", "type": "nope"},
            node("b", "{{ 1 + }}", retry={"maxAttempts": 0}),
            {"id": "c"},
            {"id": "d", "type": "conditional", "config": {"condition": "b.output > ghost.output"}},
        ],
        [edge("a>b"), edge("b>c"), edge("c>d"), edge("d>x"), edge("d>b", port="maybe")],
        inputs={"type": 5},
    )
    assert problems_of(raw) >= {
        ("nodes[0].type", "UNKNOWN_TYPE"),
        ("nodes[1].config.output", "TEMPLATE"),
        ("nodes[1].retry.maxAttempts", "SHAPE"),
        ("nodes[2].type", "SHAPE"),
        ("nodes[3].config.condition", "UNKNOWN_NAME"),
        ("edges[3].target", "UNKNOWN_NODE"),
        ("edges[4].port", "UNKNOWN_PORT"),
        ("inputs.type", "SCHEMA"),
    }


def _two_questions(outputs: dict[str, Any], join: Any = "any", more: str = "transform") -> dict[str, Any]:
    waits = [{"id": name, "type": "human", "config": {"prompt": "?"}} for name in ("ada", "bob")]
    behind = {"id": "then", "type": more, "config": TYPES[more].example}
    parts = spec(
        [*waits, behind, {**node("first"), "join": join}], [edge("ada>first"), edge("bob>then"), edge("then>first")]
    )
    return {**parts, "outputs": outputs}


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (_two_questions({"x": "{{ first.output }}"}), {}),
        (_two_questions({"x": "{{ ada.output }}", "y": 1}), {"outputs.x": "ada"}),
        (_two_questions({"x": ["{{ nodes.bob.output }}"]}), {"outputs.x": "bob"}),
        (_two_questions({"x": "{{ then.output }}"}), {"outputs.x": "bob"}),
        (_two_questions({"x": "{{ then.output }}"}, more="http"), {}),
        (_two_questions({"x": "{{ ada.output }}"}, "all"), {}),
        (_two_questions({"x": "{{ ada.output }}"}, {"mode": "any", "cancelOthers": True}), {}),
    ],
)
def test_an_output_that_keeps_a_question_open_is_warned_of(raw: dict[str, Any], fields: dict[str, str]) -> None:
    found = validate(raw, TYPES).warnings
    assert {problem.field: problem.node_id for problem in found} == fields
    assert {problem.code for problem in found} <= {"STAYS_OPEN"}


def test_a_problem_in_a_template_has_node_line_and_column() -> None:
    [problem] = validate(spec([node("a", {"text": "one\ntwo {{ ghost.output }}"})]), TYPES).errors
    assert (problem.node_id, problem.line, problem.column) == ("a", 2, 8)
    [problem] = validate(spec([node("a"), node("b")], [edge("a>b", condition="{{a.output}} >")]), TYPES).errors
    assert (problem.edge_id, problem.node_id, problem.line, problem.column) == ("a->b", "a", 1, 15)


@pytest.mark.parametrize(
    ("code", "mapping", "line", "message"),
    [
        ("def process(:\n    pass", {}, 1, "invalid syntax"),
        ("x = 1\nasync def process():\n    pass", {}, 2, "async"),
        ("x = 1", {}, None, "define a function `process`"),
        ("def process(a):\n    pass", {}, 1, "needs `a`"),
        ("def process(a, *, b=1):\n    pass", {"a": 1, "c": 2}, 1, "no parameter `c`"),
        ("x = " + "-" * 100_000 + "1", {}, None, "nested too deeply"),
        ("process = print", {}, None, None),
        ("def process(a, b=1, *, c=2, **rest):\n    pass", {"a": 1, "z": 2}, None, None),
    ],
)
def test_code_is_checked_before_it_runs(
    code: str, mapping: dict[str, Any], line: int | None, message: str | None
) -> None:
    config = {"code": code, "input_mapping": mapping}
    errors = validate(spec([{"id": "c", "type": "code", "config": config}]), TYPES).errors
    assert bool(errors) == (message is not None)
    for problem in errors:
        assert message is not None and message in problem.message
        assert (problem.line, problem.code, problem.node_id) == (line, "CONFIG", "c")


def test_templates_are_found_under_both_names_of_a_field() -> None:
    config = {"code": "def process(x): pass", "inputMapping": {"x": "{{ ghost }}"}, "timeout_s": 3, "memoryMB": 9}
    raw = spec([{"id": "c", "type": "code", "config": config}])
    assert problems_of(raw) == {("nodes[0].config.inputMapping.x", "UNKNOWN_NAME")}


@pytest.mark.parametrize("kind", ["delay", "human", "subworkflow"])
def test_timeout_and_retry_are_refused_for_a_node_that_waits(kind: str) -> None:
    waiting = {"id": "a", "type": kind, "config": TYPES[kind].example, "timeoutS": 5, "retry": {"maxAttempts": 2}}
    report = validate({"nodes": [waiting]}, TYPES)
    assert [(problem.field, problem.code, problem.node_id) for problem in report.errors] == [
        ("nodes[0].timeoutS", "CONFIG", "a")
    ]
    assert [(problem.field, problem.code) for problem in report.warnings] == [("nodes[0].retry", "NO_EFFECT")]
