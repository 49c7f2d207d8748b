"""Everything wrong with a spec is said at once, with its place, whatever the spec is; and nothing is executed."""

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.nodes.registry import load_node_types
from engine.validate import Report, validate
from tests.engine.test_storable import JSON_VALUES

TYPES = load_node_types()


def node(name: str, output: Any = 1, **fields: Any) -> dict[str, Any]:
    return {"id": name, "type": "transform", "config": {"output": output}, **fields}


def edge(ends: str, **fields: Any) -> dict[str, Any]:
    source, target = ends.split(">")
    return {"source": source, "target": target, **fields}


def spec(nodes: list[Any], edges: list[Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"nodes": nodes, "edges": edges or [], **fields}


def said(raw: Any) -> set[tuple[str, str]]:
    report = validate(raw, TYPES)
    assert report.ok == (not report.errors)
    return {(problem.field, problem.code) for problem in [*report.errors, *report.warnings]}


def test_a_good_spec_gives_its_plan_and_hash() -> None:
    raw = spec([node("a"), node("b", "{{ a.output + 1 }}"), node("c")], [edge("a>b"), edge("a>c")])
    report = validate(raw, TYPES)
    assert report.ok and not report.warnings
    assert report.plan == [["a"], ["b", "c"]]
    assert report.spec is not None and report.spec_hash is not None


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
        {("nodes", "UNREACHABLE")},
    ),
    "a cycle without an exit": (
        spec(LOOP, [edge("a>b"), edge("b>c"), edge("c>b")]),
        {("edges", "ENDLESS_CYCLE")},
    ),
    "a cycle whose exit ends nothing": (
        spec([*LOOP, node("d")], [edge("a>b"), edge("b>c"), edge("c>b"), edge("c>d")]),
        {("edges", "ENDLESS_CYCLE")},
    ),
    "a loop with two entries": (
        spec(LOOP, [edge("a>b"), edge("a>c"), edge("b>c"), edge("c>b", condition="1 > 2")]),
        {("edges", "LOOP_ENTRIES")},
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
    "an unknown field": (spec([node("a", colour="red")]), {("nodes[0].colour", "UNKNOWN_FIELD")}),
}


@pytest.mark.parametrize(("raw", "expected"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_a_problem_is_said_with_its_place(raw: Any, expected: set[tuple[str, str]]) -> None:
    assert said(raw) == expected


def test_all_problems_are_said_at_once() -> None:
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
    assert said(raw) >= {
        ("nodes[0].type", "UNKNOWN_TYPE"),
        ("nodes[1].config.output", "TEMPLATE"),
        ("nodes[1].retry.maxAttempts", "SHAPE"),
        ("nodes[2].type", "SHAPE"),
        ("nodes[3].config.condition", "UNKNOWN_NAME"),
        ("edges[3].target", "UNKNOWN_NODE"),
        ("edges[4].port", "UNKNOWN_PORT"),
        ("inputs.type", "SCHEMA"),
    }


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
def test_code_is_looked_at_before_it_ever_runs(
    code: str, mapping: dict[str, Any], line: int | None, message: str | None
) -> None:
    config = {"code": code, "input_mapping": mapping}
    errors = validate(spec([{"id": "c", "type": "code", "config": config}]), TYPES).errors
    assert bool(errors) == (message is not None)
    for problem in errors:
        assert message is not None and message in problem.message
        assert (problem.line, problem.code, problem.node_id) == (line, "CONFIG", "c")


def test_in_a_loop_every_node_of_it_may_be_asked_for() -> None:
    raw = spec(
        [node("s"), node("b", "{{ (c.output or 0) + (b.output or 0) }}"), node("c")],
        [edge("s>b"), edge("b>c"), edge("c>b", condition="c.output < 3")],
    )
    assert said(raw) == set()


def test_both_names_of_a_field_are_looked_through() -> None:
    config = {"code": "def process(x): pass", "inputMapping": {"x": "{{ ghost }}"}, "timeout_s": 3, "memoryMB": 9}
    raw = spec([{"id": "c", "type": "code", "config": config}])
    assert said(raw) == {("nodes[0].config.inputMapping.x", "UNKNOWN_NAME")}


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*.json")), ids=lambda path: path.stem)
def test_the_examples_are_without_fault(path: Path) -> None:
    raw = orjson.loads(path.read_bytes())
    assert said(raw.get("spec", raw)) == set()


def test_every_example_of_a_node_type_is_a_valid_config() -> None:
    for kind in TYPES.values():
        kind.Config.model_validate(kind.example)


def test_a_thousand_nodes_take_a_fraction_of_a_second() -> None:
    nodes = [node("n0"), *(node(f"n{i}", f"{{{{ n{i - 1}.output + 1 }}}}") for i in range(1, 1000))]
    raw = spec(nodes, [edge(f"{a['id']}>{b['id']}") for a, b in pairwise(nodes)])
    took = []
    for _ in range(3):  # The best of them: something else may run on the machine.
        started = time.process_time()
        assert validate(raw, TYPES).ok
        took.append(time.process_time() - started)
    assert min(took) < 0.2


IDS = st.sampled_from(["a", "b", "c", "__start__", "__end__", "input", ""])
TEXTS = st.sampled_from(["{{ a.output }}", "{{ b", "nodes['c'].output > 1", "x", "", "{% if %}"])
CONFIGS = st.dictionaries(
    st.sampled_from(["output", "condition", "true_edge", "false_edge", "cases", "seconds", "code", "default"]),
    TEXTS | JSON_VALUES | st.lists(st.fixed_dictionaries({"port": IDS, "condition": TEXTS})),
    max_size=3,
)
NODES = st.fixed_dictionaries(
    {"id": IDS | JSON_VALUES, "type": st.sampled_from([*TYPES, "nope"])},
    optional={"config": CONFIGS | JSON_VALUES, "retry": JSON_VALUES, "onError": JSON_VALUES, "join": JSON_VALUES},
)
EDGES = st.fixed_dictionaries(
    {"source": IDS, "target": IDS}, optional={"port": IDS | JSON_VALUES, "condition": TEXTS, "id": IDS | JSON_VALUES}
)
SPECS = st.fixed_dictionaries(
    {"nodes": st.lists(NODES, max_size=6), "edges": st.lists(EDGES | JSON_VALUES, max_size=8)},
    optional={"inputs": JSON_VALUES, "outputs": JSON_VALUES | st.dictionaries(IDS, TEXTS)},
)


@settings(max_examples=200, deadline=None)
@given(SPECS)
def test_validate_never_raises_on_something_like_a_spec(raw: Any) -> None:
    said(raw)


@settings(deadline=None)
@given(JSON_VALUES)
def test_validate_never_raises_on_any_json(raw: Any) -> None:
    said(raw)
    said({"nodes": raw, "edges": raw, "inputs": raw, "outputs": raw})


def large_graph() -> dict[str, Any]:
    """As large as a spec may be: 1,000 nodes and 10,000 edges, every third with a condition."""
    pairs = [(i, i + 1) for i in range(999)] + [(i % 990, i % 990 + 2 + i % 8) for i in range(9_001)]
    condition = {"condition": "n{}.output.v > {}"}
    edges = [
        edge(f"n{a}>n{b}", **({"condition": condition["condition"].format(a, at)} if at % 3 == 0 else {}))
        for at, (a, b) in enumerate(pairs)
    ]
    nodes = [node(f"n{i}", {"v": f"{{{{ n{i - 1}.output.v + 1 }}}}"} if i else {"v": 1}) for i in range(1000)]
    return spec(nodes, edges)


LARGEST = 1024 * 1024 - 1000
LARGE: dict[str, Any] = {
    "graph": large_graph(),
    "prose": spec([node("a", "{{ run.id }} " + "lorem ipsum " * (LARGEST // 12))]),
    "code": spec([node("a", "{{ input.x }}, " * (LARGEST // 16))]),
    "lines": spec([node("a", "{% if input %}x{% endif %}\n" * (LARGEST // 30))]),
}


@pytest.mark.parametrize("raw", LARGE.values(), ids=LARGE.keys())
def test_the_largest_spec_is_validated_at_once(raw: Any) -> None:
    began = time.process_time()
    report = validate(raw, TYPES)
    # Some 150 ms by itself; the rest is for a machine that does other things as well.
    assert time.process_time() - began < 1.2
    assert report.errors == []


@pytest.mark.parametrize(
    "condition",
    ["1" + " + 1" * 100_000, "{{" * 100_000, "{{" + "'\\" * 100_000, "(" * 200_000, "not " * 100_000 + "1"],
    ids=["sum", "braces", "quotes", "parentheses", "not"],
)
def test_code_without_end_is_a_problem_and_neither_a_crash_nor_a_wait(condition: str) -> None:
    raw = spec([{"id": "c", "type": "conditional", "config": {"condition": condition}}])
    began = time.process_time()
    assert said(raw) == {("nodes[0].config.condition", "TEMPLATE")}
    assert time.process_time() - began < 0.6


def chain(*more: dict[str, Any]) -> dict[str, Any]:
    edges = [edge("s>n0"), *(edge(f"n{i}>n{i + 1}") for i in range(998)), *more]
    return spec([{"id": "s", "type": "start"}, *(node(f"n{i}") for i in range(999))], edges)


SLOW_GRAPHS: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "loops in loops": (
        chain(*(edge(f"n998>n{i}", condition="1") for i in range(998))),
        {("edges", "LOOP_DEPTH")},
    ),
    "many ports": (
        spec(
            [
                {
                    "id": "s",
                    "type": "switch",
                    "config": {"cases": [{"port": f"p{i}", "condition": "1"} for i in range(9_000)]},
                },
                {"id": "t", "type": "end"},
            ],
            [edge("s>t", port=f"p{i}") for i in range(9_000)],
        ),
        set(),
    ),
    "many conditionals": (
        spec(
            [
                {"id": f"c{i}", "type": "conditional", "config": {"condition": "1", "true_edge": f"c{i + 1}"}}
                for i in range(999)
            ]
            + [{"id": "c999", "type": "end"}],
            [edge("c0>c999", condition="1") for _ in range(8_000)],
        ),
        set(),
    ),
}


@pytest.mark.parametrize(("raw", "expected"), SLOW_GRAPHS.values(), ids=SLOW_GRAPHS.keys())
def test_no_graph_takes_long_to_look_at(raw: Any, expected: set[tuple[str, str]]) -> None:
    began = time.process_time()
    assert said(raw) == expected
    assert time.process_time() - began < 0.8


def test_templates_have_a_limit_in_number() -> None:
    def with_texts(count: int) -> Report:
        return validate({"nodes": [{"id": "a", "type": "transform", "config": {"output": ["{{1}}"] * count}}]}, TYPES)

    assert with_texts(20_000).ok
    [problem] = with_texts(20_001).errors
    assert problem.code == "LIMIT" and "20,000 templates" in problem.message


@pytest.mark.parametrize("kind", ["delay", "human", "subworkflow"])
def test_what_limits_an_attempt_is_refused_where_the_node_waits_outside_of_it(kind: str) -> None:
    waiting = {"id": "a", "type": kind, "config": TYPES[kind].example, "timeoutS": 5, "retry": {"maxAttempts": 2}}
    report = validate({"nodes": [waiting]}, TYPES)
    assert [(problem.field, problem.code, problem.node_id) for problem in report.errors] == [
        ("nodes[0].timeoutS", "CONFIG", "a")
    ]
    assert [(problem.field, problem.code) for problem in report.warnings] == [("nodes[0].retry", "NO_EFFECT")]
