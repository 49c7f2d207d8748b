"""The node types, each executed outside of a run."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError, field_validator

from engine.errors import NodeFailure
from engine.nodes.registry import load_node_types
from engine.sdk.node import Answerers, NodeConfig, NodeType, Output, WaitForAnswer, WaitUntil
from engine.sdk.node_types import NodeTypes
from engine.spec.parser import parse
from engine.validation.validator import validate
from tests.engine.node_runner import TYPES, NodeHarness


async def output(name: str, config: dict[str, Any], scope: dict[str, Any] | None = None) -> tuple[Any, str | None]:
    outcome = await NodeHarness(scope).run(name, config)
    assert isinstance(outcome, Output)
    return outcome.value, outcome.port


INPUT = {"input": {"value": 12, "at": "2030-01-01T10:00:00+02:00"}}


async def test_start_returns_the_input() -> None:
    assert await output("start", {}, INPUT) == (INPUT["input"], None)


async def test_transform_and_end_render_their_output() -> None:
    assert await output("transform", {"output": {"v": "{{ input.value }}"}}, INPUT) == ({"v": 12}, None)
    assert await output("end", {"output": "v{{ input.value }}"}, INPUT) == ("v12", None)
    assert await output("end", {"output": None}, INPUT) == (None, None)
    assert await output("end", {}, INPUT) == (None, None)


@pytest.mark.parametrize(
    ("nodes", "edges", "expected"),
    [
        ({"a": ("COMPLETED", 1)}, [{"source": "a"}], 1),
        ({"a": ("COMPLETED", 1), "b": ("SKIPPED", None)}, [{"source": "a"}, {"source": "b"}], 1),
        ({"a": ("COMPLETED", 1), "b": ("COMPLETED", 2)}, [{"source": "a"}, {"source": "b"}], {"a": 1, "b": 2}),
        ({"a": ("COMPLETED", 1), "b": ("FAILED", None)}, [{"source": "a"}, {"source": "b"}], {"a": 1, "b": None}),
        # The conditional has run, but left by another port.
        ({"c": ("COMPLETED", {}), "a": ("COMPLETED", 1)}, [{"source": "c", "port": "true"}, {"source": "a"}], 1),
        ({"c": ("COMPLETED", 5), "a": ("SKIPPED", 1)}, [{"source": "c", "port": "true"}, {"source": "a"}], 5),
        ({"c": ("COMPLETED", 5)}, [{"source": "c", "condition": "1"}], 5),
        ({"a": ("SKIPPED", None)}, [{"source": "a"}], None),
        ({}, [{"source": "__start__"}], INPUT["input"]),
    ],
)
async def test_an_end_without_output_passes_on_the_output_of_its_predecessor(
    nodes: dict[str, tuple[str, Any]], edges: list[dict[str, Any]], expected: Any
) -> None:
    listed = [{"id": node_id, "type": "transform", "config": {"output": 1}} for node_id in nodes]
    spec = parse(
        {"nodes": [*listed, {"id": "end", "type": "end"}], "edges": [{**edge, "target": "end"} for edge in edges]}
    )
    scope = {**INPUT, "nodes": {node_id: {"status": status, "output": out} for node_id, (status, out) in nodes.items()}}
    assert (await output("end", spec.nodes[-1].config, scope))[0] == expected


async def test_human_asks_and_waits_for_the_answer() -> None:
    schema = {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]}
    harness = NodeHarness(INPUT)
    outcome = await harness.run("human", {"prompt": {"text": "Pay {{ input.value }}?"}, "schema": schema})
    assert outcome == WaitForAnswer({"text": "Pay 12?"}, schema, None)
    assert harness.context.noted_input == {"text": "Pay 12?"}


async def test_a_question_names_who_may_answer() -> None:
    config = {"prompt": "?", "answerers": {"role": "admin", "subjects": ["ada", "{{ 'b' ~ 'ob' }}"]}}
    outcome = await NodeHarness(INPUT).run("human", config)
    assert isinstance(outcome, WaitForAnswer)
    assert outcome.answerers == Answerers("admin", ("ada", "bob"), except_starter=False)


@pytest.mark.parametrize("subject", ["{{ input.value }}", "{{ '' }}"])
async def test_a_subject_that_is_no_text_fails_the_node(subject: str) -> None:
    with pytest.raises(NodeFailure, match=r"answerers\.subjects") as raised:
        await NodeHarness(INPUT).run("human", {"prompt": "?", "answerers": {"subjects": [subject]}})
    assert raised.value.code == "CONFIG"


async def test_a_question_may_expire() -> None:
    before = datetime.now(UTC)
    outcome = await NodeHarness(INPUT).run("human", {"prompt": "?", "expiresS": 60})
    assert isinstance(outcome, WaitForAnswer) and outcome.expires_at is not None
    assert timedelta(seconds=60) <= outcome.expires_at - before < timedelta(seconds=90)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prompt": "?", "schema": {"properties": {"a": {"type": "nope"}}}}, "schema.properties.a.type"),
        ({"prompt": "?", "schema": {"$ref": "http://example.com"}}, "outside of this schema"),
        ({"prompt": "?", "expiresS": 0}, "greater than 0"),
        ({}, "Field required"),
        ({"prompt": "?", "answerers": {"role": "owner"}}, "'runner', 'editor' or 'admin'"),
        ({"prompt": "?", "answerers": {"subjects": "ada"}}, "list"),
        ({"prompt": "?", "answerers": {"anyone": True}}, "not permitted"),
    ],
)
def test_an_invalid_question_is_found_before_the_run(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        TYPES["human"].Config.model_validate(config)


async def test_conditional_leaves_by_true_or_false() -> None:
    assert await output("conditional", {"condition": "{{input.value}} > 10"}, INPUT) == ({"result": True}, "true")
    assert await output("conditional", {"condition": "input.value > 99"}, INPUT) == ({"result": False}, "false")


async def test_switch_leaves_by_the_first_true_case() -> None:
    cases = [
        {"port": "none", "condition": "input.value > 99"},
        {"port": "big", "condition": "input.value > 10"},
        {"port": "small", "condition": "input.value / 0"},
    ]
    assert await output("switch", {"cases": cases}, INPUT) == ({"port": "big"}, "big")
    assert await output("switch", {"cases": cases[:1], "default": "else"}, INPUT) == ({"port": "else"}, "else")
    assert await output("switch", {"cases": cases[:1]}, INPUT) == ({"port": None}, None)


async def test_a_template_that_fails_fails_the_node() -> None:
    with pytest.raises(NodeFailure, match=r"input\.nope") as failed:
        await output("transform", {"output": "{{ input.nope }}"}, INPUT)
    assert failed.value.code == "TEMPLATE"


async def test_delay_returns_the_time_and_does_not_wait() -> None:
    before = datetime.now(UTC)
    outcome = await NodeHarness(INPUT).run("delay", {"seconds": "{{ input.value * 10 }}"})
    assert isinstance(outcome, WaitUntil)
    assert timedelta(seconds=120) <= outcome.until - before < timedelta(seconds=125)
    outcome = await NodeHarness(INPUT).run("delay", {"until": "{{ input.at }}"})
    assert isinstance(outcome, WaitUntil)
    assert outcome.until == datetime(2030, 1, 1, 8, tzinfo=UTC)
    assert outcome.output == Output({"until": "2030-01-01T08:00:00Z"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", "abc"),
        ("seconds", "-1"),
        ("seconds", "nan"),
        ("until", "tomorrow"),
        ("until", "12"),
        ("until", "9999-12-31T23:59:59-23:00"),
    ],
)
async def test_an_invalid_delay_is_found_before_the_run_and_fails_in_one(field: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TYPES["delay"].Config.model_validate({field: value})
    assert [error["loc"][0] for error in refused.value.errors()] == [field]
    with pytest.raises(NodeFailure) as failed:
        await NodeHarness({"input": value}).run("delay", {field: "{{ input }}"})
    assert failed.value.code == "CONFIG" and f"`{field}`" in failed.value.message


def test_every_config_can_be_shown_as_a_form() -> None:
    for kind in TYPES.values():
        for name, field in kind.Config.model_json_schema().get("properties", {}).items():
            assert field["title"] and field["description"], (kind.name, name)
            assert field.get("examples") or "items" in field, (kind.name, name)


def test_types_are_found_by_name() -> None:
    assert set(TYPES) >= {"start", "end", "transform", "conditional", "switch", "code", "delay", "human", "subworkflow"}
    assert TYPES.broken == {}
    assert "nope" not in TYPES


def test_a_package_adds_a_type_and_a_broken_one_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shout_plugin.py").write_text(
        "from engine.sdk.node import NodeConfig, NodeType, Output\n"
        "class Shout(NodeType[NodeConfig]):\n"
        "    name, title, description, Config = 'shout', 'Shout', 'Shouts.', NodeConfig\n"
        "    async def execute(self, config, ctx):\n"
        "        return Output('HEY')\n"
        "class Start(Shout):\n"
        "    name = 'start'\n"
        "class Untold(Shout):\n"
        "    name, output_schema = 'untold', {'type': object()}\n"
        "class Unshown(Shout):\n"
        "    name, ports = 'unshown', (1,)\n"
    )
    (tmp_path / "quits.py").write_text("raise SystemExit(3)\n")
    info = tmp_path / "shout-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shout\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[treadle.nodes]\nshout = shout_plugin:Shout\nstart = shout_plugin:Start\n"
        "gone = no_such_module:X\nodd = shout_plugin:NodeConfig\n"
        "untold = shout_plugin:Untold\nunshown = shout_plugin:Unshown\nquits = quits:X\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    types: NodeTypes = load_node_types()
    assert types["shout"].title == "Shout"
    assert type(types["start"]).__module__ == "engine.nodes.start"
    assert set(types.broken) == {"start", "gone", "odd", "untold", "unshown", "quits"}
    assert "its output_schema is no JSON" in types.broken["untold"]
    assert "No module named 'no_such_module'" in types.broken["gone"]


def test_a_type_whose_validator_raises_is_reported_as_faulty() -> None:
    class Fragile(NodeConfig):
        size: int = 0

        @field_validator("size")
        @classmethod
        def _looked_up(cls, size: int) -> int:
            return {1: 1}[size]

    class Breaks(NodeType[Fragile]):
        name, title, description, Config = "breaks", "Breaks", "Breaks.", Fragile

    spec = {"nodes": [{"id": "n", "type": "breaks", "config": {"size": 2}}], "edges": []}
    [problem] = validate(spec, NodeTypes([Breaks()])).errors
    assert (problem.field, problem.code, problem.node_id) == ("nodes[0].config", "CONFIG", "n")
    assert "a fault of the type: KeyError(2)" in problem.message
