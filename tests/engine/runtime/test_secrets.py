"""Secrets in specs: seen inside a node call alone, by name, and out of everything that leaves it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from pydantic import Field

from engine.errors import NodeFailure
from engine.events import LogRecorded, NodeChange, RunError, Usage
from engine.graph.bound_node import BoundNode
from engine.runtime.attempts import NodeResult, run_attempts
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Outcome, Output, WaitForAnswer, WaitUntil
from engine.spec.model import NodeSpec, Retry
from engine.states import LogLevel
from engine.types import JSON
from engine.validation.validator import validate
from engine.values.redaction import MARK
from tests.engine.node_runner import TYPES, NodeHarness
from tests.engine.secret_values import VALUE, MemorySecrets


class TellingConfig(NodeConfig):
    text: JSON = Field(json_schema_extra={"format": "template"})
    ends: str = "output"


class Telling(NodeType[TellingConfig]):
    """Tells what it was given in every way that a node has."""

    name: ClassVar[str] = "telling"
    Config: ClassVar[type[NodeConfig]] = TellingConfig

    async def execute(self, config: TellingConfig, ctx: NodeContext) -> Outcome:
        value = ctx.render(config.text)
        ctx.note_input({"text": value})
        ctx.log(LogLevel.INFO, f"got {value}", value=value)
        ctx.progress(0.5, f"working on {value}")
        for one in f"{value} is what I say: {value[:-2]}":
            ctx.text(one)
        ctx.add_usage(Usage(f"model/{value}", 1, 1))
        if config.ends == "failure":
            raise NodeFailure("TELLING", f"{value} is wrong", details={value: [value]})
        if config.ends == "fault":
            raise ValueError(f"could not read {value!r}")
        if config.ends == "cut":
            raise NodeFailure("TELLING", f"could not read {value}"[:30])
        if config.ends == "question":
            return WaitForAnswer(f"is it {value}?", {"title": value})
        if config.ends == "timer":
            return WaitUntil(datetime.now(UTC), Output(value))
        return Output({"echo": f"({value})", value: 1})


def node(config: dict[str, Any], kind: NodeType[Any] | None = None, **fields: Any) -> BoundNode:
    kind = kind or Telling()
    return BoundNode(NodeSpec("n", kind.name, config=config, **fields), kind, kind.Config.model_validate(config))


async def executed(given: NodeHarness, work: BoundNode) -> NodeResult:
    return await run_attempts(work, given.context, lambda number, error, pause: None, lambda number: None)


def everything_told(given: NodeHarness, result: NodeResult) -> str:
    return repr((given.events, given.deltas, given.context.noted_input, result))


@pytest.mark.parametrize("ends", ["output", "failure", "fault", "cut", "question", "timer"])
async def test_what_a_node_tells_holds_no_secret(ends: str) -> None:
    given = NodeHarness({"input": 1}, {"secrets": MemorySecrets(key=VALUE)})
    result = await executed(given, node({"text": "{{ secrets.key }}", "ends": ends}))
    assert VALUE[:-2] not in everything_told(given, result)
    assert given.context.noted_input == {"text": MARK}
    assert "".join(delta.text for delta in given.deltas) == f"{MARK} is what I say: {MARK}"
    logged = [what for what in given.events if isinstance(what, LogRecorded)]
    assert [(one.message, one.fields) for one in logged] == [(f"got {MARK}", {"value": MARK})]
    states = [what.state for what in given.events if isinstance(what, NodeChange)]
    assert f"working on {MARK}" in {state.message for state in states}
    expected: dict[str, Any] = {
        "output": Output({"echo": f"({MARK})", MARK: 1}),
        "failure": RunError("TELLING", f"{MARK} is wrong", "n", False, {MARK: [MARK]}),
        "fault": RunError("NODE", f"ValueError: could not read '{MARK}'", "n", False),
        "cut": RunError("TELLING", f"could not read {MARK}", "n", False),
        "question": WaitForAnswer(f"is it {MARK}?", {"title": MARK}),
    }
    if ends == "timer":
        assert isinstance(result.outcome, WaitUntil)
        assert result.outcome.output == Output(MARK)
    else:
        assert (result.outcome or result.error) == expected[ends]


async def test_a_cancelled_node_leaves_no_part_of_a_secret_behind() -> None:
    begun = asyncio.Event()

    class Hanging(Telling):
        async def execute(self, config: TellingConfig, ctx: NodeContext) -> Outcome:
            ctx.text(ctx.render(config.text)[:-1])
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

    given = NodeHarness({}, {"secrets": MemorySecrets(key=VALUE)})
    task = asyncio.create_task(executed(given, node({"text": "{{ secrets.key }}"}, Hanging())))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "".join(delta.text for delta in given.deltas) == MARK


async def test_what_a_node_tells_after_its_end_holds_no_secret_either() -> None:
    class Late(Telling):
        async def execute(self, config: TellingConfig, ctx: NodeContext) -> Outcome:
            value = ctx.render(config.text)
            asyncio.get_running_loop().call_later(0.01, ctx.log, LogLevel.INFO, f"late {value}")
            return Output(None)

    given = NodeHarness({}, {"secrets": MemorySecrets(key=VALUE)})
    await executed(given, node({"text": "{{ secrets.key }}"}, Late()))
    assert not given.events
    given.posted.clear()
    await given.posted.wait()
    assert [what.message for what in given.events if isinstance(what, LogRecorded)] == [f"late {MARK}"]


async def test_each_attempt_asks_for_the_secrets_again_and_the_scope_forgets_them() -> None:
    known, given = MemorySecrets(key=VALUE), NodeHarness({})
    given.context.resources = {"secrets": known}
    work = node({"text": "{{ secrets.key }}", "ends": "failure"}, retry=Retry(3, 0.0, 1.0, 0.0))
    result = await executed(given, work)
    assert (result.attempts, known.calls) == (3, 3)
    assert "secrets" not in given.context.scope


@pytest.mark.parametrize(
    ("resources", "said"), [({}, "no access to secrets"), ({"secrets": MemorySecrets(other=VALUE)}, "'key'")]
)
async def test_a_secret_that_is_not_there_fails_the_node_once(resources: dict[str, Any], said: str) -> None:
    work = node({"text": "{{ secrets.key | default('x') }}"}, retry=Retry(3, 0.0, 1.0, 0.0))
    result = await executed(NodeHarness({}, resources), work)
    assert result.error is not None
    assert (result.error.code, result.attempts) == ("SECRET", 1)
    assert said in result.error.message


async def test_a_quick_node_sees_secrets_and_is_launched() -> None:
    for config, kind in (
        ({"output": "Bearer {{ secrets.key }}"}, "transform"),
        ({"condition": "secrets.key == input"}, "conditional"),
        ({"cases": [{"port": "a", "condition": "{{ secrets['key'] }} == input"}]}, "switch"),
        ({"output": {"a": [{"b": "{% if input %}{{ secrets.key }}{% endif %}"}]}}, "end"),
    ):
        work = node(config, TYPES[kind])
        assert (work.secrets, work.is_inline) == (frozenset({"key"}), False)
        given = NodeHarness({"input": VALUE}, {"secrets": MemorySecrets(key=VALUE)})
        result = await executed(given, work)
        assert isinstance(result.outcome, Output), result.error
        assert VALUE not in everything_told(given, result)
    assert node({"output": "{{ input }} of secrets.key"}, TYPES["transform"]).is_inline


async def test_a_template_that_takes_long_sees_secrets_too() -> None:
    text = "{% for i in range(3) %}{{ (secrets.key ~ i) | replace('x', 'yy') }} {% endfor %}"
    given = NodeHarness({}, {"secrets": MemorySecrets(key=VALUE)})
    result = await executed(given, node({"output": text}, TYPES["transform"]))
    assert result.outcome == Output(f"{MARK}0 {MARK}1 {MARK}2 ")


def of(output: Any, **fields: Any) -> dict[str, Any]:
    return {"nodes": [{"id": "a", "type": "transform", "config": {"output": output}}], **fields}


CALL = {
    "nodes": [
        {"id": "a", "type": "subworkflow", "config": {"workflow": "wf_1", "inputs": {"key": "{{ secrets.key }}"}}}
    ]
}
EDGES = {"edges": [{"source": "__start__", "target": "a", "condition": "secrets.key == 1"}]}
REFUSED: dict[str, tuple[Any, str]] = {
    "in an edge's condition": (of(1, **EDGES), "edges[0].condition"),
    "in the run's outputs": (of(1, outputs={"x": "{{ secrets.key }}"}), "outputs.x"),
    "in what another run is given": (CALL, "nodes[0].config.inputs.key"),
    "all at once": (of("{{ secrets }}"), "nodes[0].config.output"),
    "one after the other": (of("{% for x in secrets %}{{ x }}{% endfor %}"), "nodes[0].config.output"),
    "by a name that is worked out": (of("{{ secrets[input.name] }}"), "nodes[0].config.output"),
    "by a method": (of("{{ secrets.items() }}"), "nodes[0].config.output"),
    "by another name": (of("{% set s = secrets %}{{ s.key }}"), "nodes[0].config.output"),
    "beside one that is named": (of("{{ secrets.key }}{{ secrets | length }}"), "nodes[0].config.output"),
}


@pytest.mark.parametrize("where", REFUSED)
def test_secrets_are_refused(where: str) -> None:
    raw, path = REFUSED[where]
    report = validate(raw, TYPES)
    assert {(problem.field, problem.code) for problem in report.errors} == {(path, "SECRET")}


@pytest.mark.parametrize(
    "text", ["{{ secrets.key }}", "{{ secrets['key'] }}", "a {{ secrets.key | upper }} b", "secrets.key"]
)
def test_secrets_are_let_in(text: str) -> None:
    assert validate(of(text), TYPES).ok


def test_a_node_cannot_be_called_secrets() -> None:
    raw = {"nodes": [{"id": "secrets", "type": "transform", "config": {"output": 1}}]}
    assert [problem.code for problem in validate(raw, TYPES).errors] == ["RESERVED_ID"]


def test_a_changed_work_names_its_own_secrets() -> None:
    work = node({"text": "{{ secrets.key }}"})
    assert replace(work, spec=replace(work.spec, config={"text": "{{ secrets.other }}"})).secrets == {"other"}
