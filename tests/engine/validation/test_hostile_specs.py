"""Careless and hostile specs: every problem is reported with its path, and every run ends."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from pydantic_monty import AsyncMonty

from engine.states import RunStatus
from engine.validation.validator import validate
from tests.engine.memory_runs import run
from tests.engine.node_runner import TYPES

COMPLETED, FAILED = RunStatus.COMPLETED, RunStatus.FAILED
INPUT = {"v": "x"}


def node(name: Any, kind: str = "transform", **fields: Any) -> dict[str, Any]:
    return {"id": name, "type": kind, **fields}


def gives(name: Any, output: Any, **fields: Any) -> dict[str, Any]:
    return node(name, config={"output": output}, **fields)


def edge(source: Any, target: Any, **fields: Any) -> dict[str, Any]:
    return {"source": source, "target": target, **fields}


def spec(nodes: Any, *edges: Any, **fields: Any) -> dict[str, Any]:
    return {"nodes": nodes, "edges": list(edges), **fields}


# fmt: off
REFUSED: dict[str, tuple[Any, list[str]]] = {
    "typos everywhere": (
        spec([{"id": "a", "typ": "start"}, node("b", "transfrom"), node("c", config={"outptu": 1})],
             {"from": "a", "to": "b"}, edge("a", "z")),
        ["SHAPE nodes[0].type", "SHAPE edges[0].source", "SHAPE edges[0].target", "UNKNOWN_TYPE nodes[1].type",
         "CONFIG nodes[2].config.output", "CONFIG nodes[2].config.outptu", "UNKNOWN_NODE edges[1].target"],
    ),
    "null for everything": (
        spec([None, {"id": None, "type": None}], None),
        ["SHAPE nodes[0]", "SHAPE nodes[1].id", "SHAPE nodes[1].type", "SHAPE edges[0]"],
    ),
    "numbers for ids": (
        spec([node(1, "start"), node("2", "end")], edge(1, 2)),
        ["SHAPE nodes[0].id", "SHAPE edges[0].source", "SHAPE edges[0].target"],
    ),
    "objects for lists": ({"nodes": {"a": {}}, "edges": {}}, ["SHAPE nodes", "SHAPE edges"]),
    "texts for objects": (spec(["a"], "a->b"), ["SHAPE nodes[0]", "SHAPE edges[0]"]),
    "every field of the wrong kind": (
        spec([gives("a", 1, join="some", onError="explode", retry=3, timeoutS=0, maxVisits=-1, label=5, position=[1, 2])],
             concurrency={"limit": 0, "onLimit": "x", "y": 1}, inputs=[1]),
        ["SHAPE inputs", "SHAPE concurrency.limit", "SHAPE concurrency.onLimit", "SHAPE concurrency.y",
         "SHAPE nodes[0].label", "SHAPE nodes[0].position", "SHAPE nodes[0].retry", "SHAPE nodes[0].timeoutS",
         "SHAPE nodes[0].onError", "SHAPE nodes[0].join", "SHAPE nodes[0].maxVisits"],
    ),
    "ids": (
        spec([gives(name, 1) for name in ("input", "__proto__", "true", "ñ", "a b", "", "x" * 65, "a", "a")]),
        [*(f"RESERVED_ID nodes[{at}].id" for at in range(3)), *(f"ID_FORMAT nodes[{at}].id" for at in range(3, 7)),
         "DUPLICATE_ID nodes[8].id"],
    ),
    "a dash is a minus": (
        spec([gives("my-node", 1), gives("c", "{{ my-node.output }}")], edge("my-node", "c")),
        ["UNKNOWN_NAME nodes[1].config.output 1:4", "UNKNOWN_NAME nodes[1].config.output 1:7"],
    ),
    "templates": (
        spec([gives("a", {"x": "{{ input.", "y": ["{% for %}", "{{ 1 | nope }}"], "z": "one\ntwo {{ 1 + }}"})]),
        ["TEMPLATE nodes[0].config.output.x 1:1", "TEMPLATE nodes[0].config.output.y[0] 1:8",
         "TEMPLATE nodes[0].config.output.y[1] 1:8", "TEMPLATE nodes[0].config.output.z 2:12"],
    ),
    "asking for what has not run": (
        spec([gives("a", "{{ b.output }}"), gives("b", "{{ b.output }}"), gives("c", "{{ nodes['q'] }}{{ zzz }}")]),
        ["NOT_YET_RUN nodes[0].config.output 1:4", "NOT_YET_RUN nodes[1].config.output 1:4",
         "UNKNOWN_NODE nodes[2].config.output 1:4", "UNKNOWN_NAME nodes[2].config.output 1:20"],
    ),
    "looking behind the data": (
        spec([gives("a", "{{ input | attr('__class__') }}"), gives("b", "{% include '/etc/passwd' %}")]),
        ["TEMPLATE nodes[0].config.output 1:12", "TEMPLATE nodes[1].config.output 1:4"],
    ),
    "outputs": (
        spec([gives("a", 1)], outputs={"x": "{{ a.output", "y": "{{ b.output }}", "z": {"n": ["{{ secrets.k }}"]}}),
        ["TEMPLATE outputs.x 1:1", "UNKNOWN_NAME outputs.y 1:4", "SECRET outputs.z.n[0] 1:4"],
    ),
    "a schema": (
        spec([gives("a", 1)], inputs={"type": "objct", "properties": {"a": {"minLength": -1}}, "required": 5}),
        ["SCHEMA inputs.properties.a.minLength", "SCHEMA inputs.type", "SCHEMA inputs.required"],
    ),
    "a cycle of always": (spec([gives("a", 1), gives("b", 1), node("s", "start")], edge("a", "b"), edge("b", "a"),
                               edge("s", "a")), ["ENDLESS_CYCLE edges"]),
    "two loops that nothing enters": (
        spec([gives("a", 1), gives("b", 1)], edge("a", "a", condition="false"), edge("b", "b", condition="false")),
        ["UNREACHABLE nodes[1]"],
    ),
    "a loop with two entries": (
        spec([gives("s", 1), gives("a", 1), gives("b", 1)], edge("s", "a"), edge("s", "b"),
             edge("a", "b", condition="true"), edge("b", "a", condition="true")),
        ["LOOP_ENTRIES edges"],
    ),
    "an island": (
        spec([node("s", "start"), node("e", "end"), gives("i", 1), gives("j", 1)], edge("s", "e"), edge("i", "j")),
        ["UNREACHABLE nodes[2]", "UNREACHABLE nodes[3]"],
    ),
    "from the end to the start": (
        spec([gives("a", 1)], edge("__end__", "a"), edge("a", "__start__"), edge("a", "__end__")),
        ["UNKNOWN_NODE edges[0].source", "UNKNOWN_NODE edges[1].target"],
    ),
    "ports": (
        spec([node("c", "conditional", config={"condition": "x >", "true_edge": "nope", "false_edge": 5}),
              node("s", "switch", config={"cases": [{"port": "error", "condition": ""}], "default": "a b"}), gives("a", 1)],
             edge("c", "a", port="yes"), edge("a", "a", port="p")),
        ["CONFIG nodes[0].config.false_edge", "CONFIG nodes[1].config.cases[0].port", "CONFIG nodes[1].config.default",
         "CONFIG nodes[1].config.cases[0].condition", "UNKNOWN_PORT edges[1].port", "UNKNOWN_NODE nodes[0].config.true_edge",
         "TEMPLATE nodes[0].config.condition 1:4", "TEMPLATE nodes[1].config.cases[0].condition 1:1"],
    ),
    "code": (
        spec([node("a", "code", config={"code": "def proces(x):\n  return 1"}),
              node("b", "code", config={"code": "\ndef process(x):\n  return 1"}),
              node("c", "code", config={"code": "def process(x):\n return (", "input_mapping": {"x": "{{ q }}"}}),
              node("d", "code", config={"code": "def process(): 1", "timeoutS": -1, "memoryMB": 0, "language": "js", "k": 1})]),
        ["CONFIG nodes[0].config.code", "CONFIG nodes[1].config.code 2:1", "CONFIG nodes[2].config.code 2:9",
         "CONFIG nodes[3].config.language", "CONFIG nodes[3].config.timeoutS", "CONFIG nodes[3].config.memoryMB",
         "CONFIG nodes[3].config.k", "UNKNOWN_NAME nodes[2].config.input_mapping.x 1:4"],
    ),
    "waits": (
        spec([node("a", "human", config={"schema": {"type": "x"}, "expiresS": "soon"}),
              node("b", "delay", config={"until": "x"}), node("c", "delay", config={"seconds": True}, timeoutS=1)]),
        ["CONFIG nodes[0].config.prompt", "CONFIG nodes[0].config.schema", "CONFIG nodes[0].config.expiresS",
         "CONFIG nodes[1].config.until", "CONFIG nodes[2].config.seconds", "CONFIG nodes[2].timeoutS"],
    ),
    "NUL in an id": (spec([gives("a\0", 1)]), ["NOT_STORABLE nodes[0].id"]),
    "NUL in a key": (spec([gives("a", {"k\0": 1})]), ["NOT_STORABLE nodes[0].config.output"]),
    "half a character in a label": (spec([gives("a", 1, label="\ud800")]), ["NOT_STORABLE nodes[0].label"]),
    "half a character in an edge": (spec([gives("a", 1)], edge("a", "__end__", id="\udfff")), ["NOT_STORABLE edges[0].id"]),
    "no number": (spec([gives("a", float("nan"))]), ["NOT_STORABLE nodes[0].config.output"]),
    "no end of a number": (spec([gives("a", 1, timeoutS=float("inf"))]), ["NOT_STORABLE nodes[0].timeoutS"]),
    "a number too large": (spec([gives("a", 10**30)]), ["NOT_STORABLE nodes[0].config.output"]),
    "two edges of one name": (
        spec([node("s", "start"), node("e", "end")], edge("s", "e", id="x"), edge("s", "e", id="x"), edge("s", "e")),
        ["DUPLICATE_ID edges[1].id"],
    ),
    "too much of one thing": (
        spec([node("s", "switch", config={"cases": [1] * 200_000})]), ["CONFIG nodes[0].config.cases"]
    ),
    "nothing": (spec([]), ["EMPTY nodes"]),
}
ENDS: dict[str, tuple[Any, RunStatus, Any]] = {
    "what another tool leaves in a spec": (
        spec([node("1", "start", data={}, selected=True, config=None), node("2", "end", position={"x": 1, "y": 2})],
             edge("1", "2", sourceHandle="out", targetHandle=None, animated=True), viewport={}),
        COMPLETED, INPUT),
    "an id in brackets": (
        spec([gives("my-node", 5), gives("c", "{{ nodes['my-node'].output }}")], edge("my-node", "c")), COMPLETED, {"c": 5}),
    "no end to a loop": (
        spec([gives("a", 1, maxVisits=20), gives("b", 1)], edge("__start__", "a"), edge("a", "b"),
             edge("b", "a", condition="true")),
        FAILED, "LOOP_LIMIT"),
    "a loop that counts": (
        spec([gives("a", "{{ (a.output or 0) + 1 }}"), node("z", "end", config={"output": "{{ a.output }}"})],
             edge("__start__", "a"), edge("a", "a", condition="a.output < 3"), edge("a", "z", condition="a.output >= 3")),
        COMPLETED, 3),
    "a failure": (spec([gives("a", "{{ 1 / 0 }}"), gives("b", 1)], edge("a", "b", port="error")), FAILED, "TEMPLATE"),
    "a failure that is handled": (
        spec([gives("a", "{{ 1 / 0 }}", onError="branch"), gives("b", "{{ a.output.error.code }}")],
             edge("a", "b", port="error")),
        COMPLETED, {"b": "TEMPLATE"}),
    "a failure that does not matter": (
        spec([gives("a", "{{ 1 / 0 }}", onError="continue"), gives("b", "{{ a.output }}|{{ a.status }}")], edge("a", "b")),
        COMPLETED, {"b": "|FAILED"}),
    "a condition that fails": (
        spec([gives("a", 1), gives("b", 1)], edge("a", "b", condition="input.nope > 1")), FAILED, "EXPRESSION"),
    "a condition that fails at once": (
        spec([gives("a", 1)], edge("__start__", "a", condition="input.x.y")), FAILED, "EXPRESSION"),
    "an output that fails": (spec([gives("a", 1)], outputs={"x": "{{ a.output.foo }}"}), FAILED, "TEMPLATE"),
    "no case holds": (
        spec([node("s", "switch", config={"cases": [{"port": "a", "condition": "false"}]}), gives("b", 1)],
             edge("s", "b", port="a")),
        COMPLETED, {}),
    "all is skipped": (
        spec([gives("a", 1), gives("b", 2), node("e", "end", config={"output": "{{ b.output }}"})],
             edge("a", "b", condition="false"), edge("b", "e")),
        COMPLETED, {}),
    "true_edge names an edge": (
        spec([node("c", "conditional", config={"condition": "input.v == 'x'", "true_edge": "e1", "false_edge": "b"}),
              gives("a", "A"), gives("b", "B")], edge("c", "a", id="e1")),
        COMPLETED, {"a": "A"}),
    "no JSON": (spec([gives("a", "{{ {1: 2} }}")]), FAILED, "TEMPLATE"),
    "a method": (spec([gives("a", "{{ input.get }}")]), FAILED, "TEMPLATE"),
    "classes": (spec([gives("a", "{{ ''.__class__.__mro__ }}")]), FAILED, "TEMPLATE"),
    "globals": (spec([gives("a", "{{ self.__init__.__globals__ }}")]), FAILED, "TEMPLATE"),
    "a set out of code": (
        spec([node("a", "code", config={"code": "def process(x):\n  return {x}", "input_mapping": {"x": "{{ input.v }}"}})]),
        FAILED, "OUTPUT"),
    "a range out of code": (
        spec([node("a", "code", onError="continue", config={"code": "def process():\n  return range(3)"}),
              node("e", "end", config={"output": "{{ a.status }}"})], edge("a", "e")),
        COMPLETED, "FAILED"),
    "much out of little": (
        spec([gives("a", ["x" * 100_000]), gives("b", ["{{ a.output }}"] * 1_000)], edge("a", "b")), FAILED, "TEMPLATE"),
    "a wide join": (
        spec([gives("s", 1), *(gives(f"m{i}", i) for i in range(300)), node("e", "end", config={"output": "{{ m299.output }}"})],
             *(edge("s", f"m{i}") for i in range(300)), *(edge(f"m{i}", "e") for i in range(300))),
        COMPLETED, 299),
}
# fmt: on


@pytest.fixture(scope="module")
async def resources() -> AsyncIterator[dict[str, Any]]:
    async with AsyncMonty(min_processes=1, max_processes=1) as pool:
        yield {"sandbox": pool, "sandbox_memory_mb": 64}


@pytest.mark.parametrize("name", REFUSED)
def test_every_problem_of_a_hostile_spec_is_reported_at_once(name: str) -> None:
    raw, expected = REFUSED[name]
    report = validate(raw, TYPES)
    places = [f" {problem.line}:{problem.column}" if problem.line else "" for problem in report.errors]
    problems = [f"{problem.code} {problem.field}{at}" for problem, at in zip(report.errors, places, strict=True)]
    assert sorted(problems) == sorted(expected)
    for problem in report.errors:
        belongs = problem.field.startswith("nodes[") and isinstance(raw["nodes"][int(problem.field[6])], dict)
        if belongs and problem.code != "NOT_STORABLE":
            named = raw["nodes"][int(problem.field[6 : problem.field.index("]")])]["id"]
            assert problem.node_id == (named if isinstance(named, str) else None)


@pytest.mark.parametrize("name", ENDS)
async def test_a_run_of_an_accepted_hostile_spec_ends_with_a_clear_result(name: str, resources: dict[str, Any]) -> None:
    raw, status, expected = ENDS[name]
    assert validate(raw, TYPES).errors == []
    ended = await run(raw, INPUT, resources)
    assert (ended.status, ended.error.code if ended.error else ended.output) == (status, expected)


def test_a_report_stays_small_when_a_long_text_is_repeated() -> None:
    repeated = [
        spec([gives("n" * 500_000, ["{{ x }}"] * 1_500)]),
        spec([gives("a", {"k" * 500_000: ["{{ x }}"] * 1_500})]),
        spec([gives("n" * 100_000, 1)], *(edge("n" * 100, "z" * 800) for _ in range(400))),
    ]
    for raw in repeated:
        report = validate(raw, TYPES)
        texts = [(problem.field, problem.message, problem.node_id, problem.edge_id) for problem in report.errors]
        assert not report.ok and len(orjson.dumps(texts)) < 5_000_000
