"""Secrets in specs: only a node call sees them, and nothing that leaves the call contains one."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from pydantic import Field

from engine.errors import NodeFailure
from engine.events import LogRecorded, NodeChange, RunError, Usage
from engine.graph.bound_node import BoundNode
from engine.isolation.suspension import suspendable
from engine.runtime.attempts import NodeResult, run_attempts
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Outcome, Output, WaitForAnswer, WaitUntil
from engine.spec.model import NodeSpec, Retry
from engine.states import LogLevel
from engine.types import JSON
from engine.validation.validator import validate
from engine.values.redaction import MARK
from tests.engine.node_runner import TYPES, NodeHarness
from tests.engine.secret_values import VALUE, MemorySecrets


class LeakConfig(NodeConfig):
    text: JSON = Field(json_schema_extra={"format": "template"})
    ends: str = "output"


class LeakNode(NodeType[LeakConfig]):
    """Reports its secret in every way that a node can report."""

    name: ClassVar[str] = "leak"
    Config: ClassVar[type[NodeConfig]] = LeakConfig

    async def execute(self, config: LeakConfig, ctx: NodeContext) -> Outcome:
        value = ctx.render(config.text)
        ctx.note_input({"text": value})
        ctx.log(LogLevel.INFO, f"got {value}", value=value)
        ctx.progress(0.5, f"working on {value}")
        for character in f"{value} is what I say: {value[:-2]}":
            ctx.text(character)
        ctx.add_usage(Usage(f"model/{value}", 1, 1))
        if config.ends == "failure":
            raise NodeFailure("LEAK", f"{value} is wrong", details={value: [value]})
        if config.ends == "fault":
            raise ValueError(f"could not read {value!r}")
        if config.ends == "cut":
            raise NodeFailure("LEAK", f"could not read {value}"[:30])
        if config.ends == "question":
            return WaitForAnswer(f"is it {value}?", {"title": value})
        if config.ends == "timer":
            return WaitUntil(datetime.now(UTC), Output(value))
        return Output({"echo": f"({value})", value: 1})


def bind(config: dict[str, Any], node_type: NodeType[Any] | None = None, **fields: Any) -> BoundNode:
    node_type = node_type or LeakNode()
    return BoundNode(
        NodeSpec("n", node_type.name, config=config, **fields), node_type, node_type.Config.model_validate(config)
    )


async def execute_node(harness: NodeHarness, node: BoundNode) -> NodeResult:
    return await suspendable(run_attempts(node, harness.context))


def everything_reported(harness: NodeHarness, result: NodeResult) -> str:
    return repr((harness.events, harness.deltas, harness.context.noted_input, result))


@pytest.mark.parametrize("ends", ["output", "failure", "fault", "cut", "question", "timer"])
async def test_no_report_of_a_node_contains_a_secret(ends: str) -> None:
    harness = NodeHarness({"input": 1}, {"secrets": MemorySecrets(key=VALUE)})
    result = await execute_node(harness, bind({"text": "{{ secrets.key }}", "ends": ends}))
    assert VALUE[:-2] not in everything_reported(harness, result)
    assert harness.context.noted_input == {"text": MARK}
    assert "".join(delta.text for delta in harness.deltas) == f"{MARK} is what I say: {MARK}"
    logged = [data for data in harness.events if isinstance(data, LogRecorded)]
    assert [(record.message, record.fields) for record in logged] == [(f"got {MARK}", {"value": MARK})]
    states = [data.state for data in harness.events if isinstance(data, NodeChange)]
    assert f"working on {MARK}" in {state.message for state in states}
    expected: dict[str, Any] = {
        "output": Output({"echo": f"({MARK})", MARK: 1}),
        "failure": RunError("LEAK", f"{MARK} is wrong", "n", False, {MARK: [MARK]}),
        "fault": RunError("NODE", f"ValueError: could not read '{MARK}'", "n", False),
        "cut": RunError("LEAK", f"could not read {MARK}", "n", False),
        "question": WaitForAnswer(f"is it {MARK}?", {"title": MARK}),
    }
    if ends == "timer":
        assert isinstance(result.outcome, WaitUntil)
        assert result.outcome.output == Output(MARK)
    else:
        assert (result.outcome or result.error) == expected[ends]


async def test_a_cancelled_node_reports_no_part_of_a_secret() -> None:
    begun = asyncio.Event()

    class HangingLeakNode(LeakNode):
        async def execute(self, config: LeakConfig, ctx: NodeContext) -> Outcome:
            ctx.text(ctx.render(config.text)[:-1])
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

    harness = NodeHarness({}, {"secrets": MemorySecrets(key=VALUE)})
    task = asyncio.create_task(execute_node(harness, bind({"text": "{{ secrets.key }}"}, HangingLeakNode())))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "".join(delta.text for delta in harness.deltas) == MARK


async def test_a_report_after_the_end_of_a_node_contains_no_secret() -> None:
    class LateLeakNode(LeakNode):
        async def execute(self, config: LeakConfig, ctx: NodeContext) -> Outcome:
            value = ctx.render(config.text)
            asyncio.get_running_loop().call_later(0.01, ctx.log, LogLevel.INFO, f"late {value}")
            return Output(None)

    harness = NodeHarness({}, {"secrets": MemorySecrets(key=VALUE)})
    await execute_node(harness, bind({"text": "{{ secrets.key }}"}, LateLeakNode()))
    assert not harness.events
    harness.posted.clear()
    await harness.posted.wait()
    assert [data.message for data in harness.events if isinstance(data, LogRecorded)] == [f"late {MARK}"]


async def test_each_attempt_resolves_the_secrets_again_and_the_scope_forgets_them() -> None:
    secrets, harness = MemorySecrets(key=VALUE), NodeHarness({})
    harness.context.resources = {"secrets": secrets}
    retry = Retry(3, 0.0, 1.0, 0.0, frozenset({"LEAK"}))
    node = bind({"text": "{{ secrets.key }}", "ends": "failure"}, retry=retry)
    result = await execute_node(harness, node)
    assert (result.attempts, secrets.calls) == (3, 3)
    assert "secrets" not in harness.context.scope


@pytest.mark.parametrize(
    ("resources", "message"), [({}, "no access to secrets"), ({"secrets": MemorySecrets(other=VALUE)}, "'key'")]
)
async def test_a_missing_secret_fails_the_node_without_a_retry(resources: dict[str, Any], message: str) -> None:
    node = bind({"text": "{{ secrets.key | default('x') }}"}, retry=Retry(3, 0.0, 1.0, 0.0))
    result = await execute_node(NodeHarness({}, resources), node)
    assert result.error is not None
    assert (result.error.code, result.attempts) == ("SECRET", 1)
    assert message in result.error.message


async def test_a_quick_node_with_secrets_runs_beside_the_graph() -> None:
    for config, kind in (
        ({"output": "Bearer {{ secrets.key }}"}, "transform"),
        ({"condition": "secrets.key == input"}, "conditional"),
        ({"cases": [{"port": "a", "condition": "{{ secrets['key'] }} == input"}]}, "switch"),
        ({"output": {"a": [{"b": "{% if input %}{{ secrets.key }}{% endif %}"}]}}, "end"),
    ):
        node = bind(config, TYPES[kind])
        assert (node.secrets, node.is_inline) == (frozenset({"key"}), False)
        harness = NodeHarness({"input": VALUE}, {"secrets": MemorySecrets(key=VALUE)})
        result = await execute_node(harness, node)
        assert isinstance(result.outcome, Output), result.error
        assert VALUE not in everything_reported(harness, result)
    assert bind({"output": "{{ input }} of secrets.key"}, TYPES["transform"]).is_inline


async def test_a_template_in_a_child_process_sees_secrets() -> None:
    text = "{% for i in range(3) %}{{ (secrets.key ~ i) | replace('x', 'yy') }} {% endfor %}"
    harness = NodeHarness({}, {"secrets": MemorySecrets(key=VALUE)})
    result = await execute_node(harness, bind({"output": text}, TYPES["transform"]))
    assert result.outcome == Output(f"{MARK} {MARK} {MARK} ")


def of(data: Any, **fields: Any) -> dict[str, Any]:
    return {"nodes": [{"id": "a", "type": "tool", "config": {"tool": "a", "arguments": {"d": data}}}], **fields}


def node_of(kind: str, **config: Any) -> dict[str, Any]:
    return {"nodes": [{"id": "a", "type": kind, "config": config}]}


CALL = {
    "nodes": [
        {"id": "a", "type": "subworkflow", "config": {"workflow": "wf_1", "inputs": {"key": "{{ secrets.key }}"}}}
    ]
}
EDGES = {"edges": [{"source": "__start__", "target": "a", "condition": "secrets.key == 1"}]}
_KEY = "{{ secrets.key | upper }}"
_TRANSFORM = {"type": "transform", "config": {"output": ["{{ item }}", _KEY]}}
REFUSED: dict[str, tuple[Any, str]] = {
    "in a transform": (node_of("transform", output={"a": [1, _KEY]}), "nodes[0].config.output.a[1]"),
    "in an end": (node_of("end", output=_KEY), "nodes[0].config.output"),
    "in a conditional": (node_of("conditional", condition="secrets.key == input.a"), "nodes[0].config.condition"),
    "in a switch": (
        node_of("switch", cases=[{"port": "a", "condition": _KEY}], default="b"),
        "nodes[0].config.cases[0].condition",
    ),
    "in a question": (node_of("human", prompt={"text": _KEY}), "nodes[0].config.prompt.text"),
    "in a delay": (node_of("delay", seconds=_KEY), "nodes[0].config.seconds"),
    "in the end of a delay": (node_of("delay", until=_KEY), "nodes[0].config.until"),
    "in the items of a map": (
        node_of("map", items=[_KEY], node={"type": "transform", "config": {"output": 1}}),
        "nodes[0].config.items[0]",
    ),
    "in a transform of a map": (
        node_of("map", items=[1], node=_TRANSFORM),
        "nodes[0].config.node.config.output[1]",
    ),
    "in the spec of a map": (
        node_of("map", items=[1], spec={"nodes": [{"id": "x", **_TRANSFORM}], "edges": []}),
        "nodes[0].config.spec.nodes[0].config.output[1]",
    ),
    "in an edge's condition": (of(1, **EDGES), "edges[0].condition"),
    "in the run's outputs": (of(1, outputs={"x": "{{ secrets.key }}"}), "outputs.x"),
    "in the input of a child run": (CALL, "nodes[0].config.inputs.key"),
    "all secrets at once": (of("{{ secrets }}"), "nodes[0].config.arguments.d"),
    "in a loop over all secrets": (of("{% for x in secrets %}{{ x }}{% endfor %}"), "nodes[0].config.arguments.d"),
    "by a computed name": (of("{{ secrets[input.name] }}"), "nodes[0].config.arguments.d"),
    "by a method": (of("{{ secrets.items() }}"), "nodes[0].config.arguments.d"),
    "by an alias": (of("{% set s = secrets %}{{ s.key }}"), "nodes[0].config.arguments.d"),
    "all secrets beside a named one": (of("{{ secrets.key }}{{ secrets | length }}"), "nodes[0].config.arguments.d"),
}


@pytest.mark.parametrize("where", REFUSED)
def test_a_secret_in_the_wrong_place_is_an_error(where: str) -> None:
    raw, path = REFUSED[where]
    report = validate(raw, TYPES)
    assert {(problem.field, problem.code) for problem in report.errors} == {(path, "SECRET")}
    assert all("`secrets" in problem.message for problem in report.errors)


@pytest.mark.parametrize(
    "text", ["{{ secrets.key }}", "{{ secrets['key'] }}", "a {{ secrets.key | upper }} b", "secrets.key"]
)
def test_a_secret_by_name_is_valid(text: str) -> None:
    assert validate(of(text), TYPES).ok


def test_secrets_is_no_valid_node_id() -> None:
    raw = {"nodes": [{"id": "secrets", "type": "transform", "config": {"output": 1}}]}
    assert [problem.code for problem in validate(raw, TYPES).errors] == ["RESERVED_ID"]


def test_a_changed_node_names_its_own_secrets() -> None:
    node = bind({"text": "{{ secrets.key }}"})
    assert replace(node, spec=replace(node.spec, config={"text": "{{ secrets.other }}"})).secrets == {"other"}
