"""The node types, each executed by itself."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_monty import AsyncMonty

from engine.context import Context
from engine.events import Happening, LogRecorded, NodeChange, OutputDelta
from engine.memory import Memory
from engine.nodes.base import NodeFailure, Outcome, Output, WaitForAnswer, WaitUntil
from engine.nodes.registry import NodeTypes, load_node_types
from engine.ports import Entry
from engine.report import Report
from engine.spec import parse
from engine.states import LogLevel
from engine.takeup import RunFacts

TYPES = load_node_types()


class Given:
    """What a node is given, and what it told."""

    def __init__(self, scope: dict[str, Any] | None = None, resources: Mapping[str, Any] | None = None) -> None:
        self.happenings: list[Happening] = []
        self.shown: list[str | None] = []
        self.texts: list[OutputDelta] = []
        self.saw = asyncio.Event()
        facts = RunFacts("run_1", "prj_1", 1, 0, (scope or {}).get("input"))
        report = Report(facts, "n", 1, Memory("run_1", 1, {}), self)
        self.context = Context(facts, "n", 1, scope or {}, resources or {}, report)

    def post(self, entry: Entry) -> None:
        for _, what in entry.happenings:
            self.happenings.append(what)
            if isinstance(what, NodeChange):
                self.shown.append(what.state.message)
        self.saw.set()

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        self.texts.append(delta)

    def commit(self, entry: Entry) -> Awaitable[int]:
        raise AssertionError("a node commits nothing")

    async def run(self, name: str, config: dict[str, Any]) -> Outcome:
        kind = TYPES[name]
        return await kind.execute(kind.Config.model_validate(config), self.context)


async def output(name: str, config: dict[str, Any], scope: dict[str, Any] | None = None) -> tuple[Any, str | None]:
    outcome = await Given(scope).run(name, config)
    assert isinstance(outcome, Output)
    return outcome.value, outcome.port


INPUT = {"input": {"value": 12, "at": "2030-01-01T10:00:00+02:00"}}


async def test_start_gives_the_input() -> None:
    assert await output("start", {}, INPUT) == (INPUT["input"], None)


async def test_transform_and_end_render_what_they_are_given() -> None:
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
        # The conditional has run, and it was the other way that led here.
        ({"c": ("COMPLETED", {}), "a": ("COMPLETED", 1)}, [{"source": "c", "port": "true"}, {"source": "a"}], 1),
        ({"c": ("COMPLETED", 5), "a": ("SKIPPED", 1)}, [{"source": "c", "port": "true"}, {"source": "a"}], 5),
        ({"c": ("COMPLETED", 5)}, [{"source": "c", "condition": "1"}], 5),
        ({"a": ("SKIPPED", None)}, [{"source": "a"}], None),
        ({}, [{"source": "__start__"}], INPUT["input"]),
    ],
)
async def test_an_end_without_output_passes_on_what_led_to_it(
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
    given = Given(INPUT)
    asked = await given.run("human", {"prompt": {"text": "Pay {{ input.value }}?"}, "schema": schema})
    assert asked == WaitForAnswer({"text": "Pay 12?"}, schema, None)
    assert given.context.noted_input == {"text": "Pay 12?"}


async def test_a_question_may_expire() -> None:
    before = datetime.now(UTC)
    asked = await Given(INPUT).run("human", {"prompt": "?", "expiresS": 60})
    assert isinstance(asked, WaitForAnswer) and asked.expires_at is not None
    assert timedelta(seconds=60) <= asked.expires_at - before < timedelta(seconds=90)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prompt": "?", "schema": {"properties": {"a": {"type": "nope"}}}}, "schema.properties.a.type"),
        ({"prompt": "?", "schema": {"$ref": "http://example.com"}}, "outside of this schema"),
        ({"prompt": "?", "expiresS": 0}, "greater than 0"),
        ({}, "Field required"),
    ],
)
def test_a_question_that_cannot_be_asked_is_found_before_a_run(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        TYPES["human"].Config.model_validate(config)


async def test_conditional_leaves_by_true_or_false() -> None:
    assert await output("conditional", {"condition": "{{input.value}} > 10"}, INPUT) == ({"result": True}, "true")
    assert await output("conditional", {"condition": "input.value > 99"}, INPUT) == ({"result": False}, "false")


async def test_switch_leaves_by_the_first_case_that_holds() -> None:
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


async def test_delay_says_until_when_and_does_not_wait() -> None:
    before = datetime.now(UTC)
    outcome = await Given(INPUT).run("delay", {"seconds": "{{ input.value * 10 }}"})
    assert isinstance(outcome, WaitUntil)
    assert timedelta(seconds=120) <= outcome.until - before < timedelta(seconds=125)
    outcome = await Given(INPUT).run("delay", {"until": "{{ input.at }}"})
    assert isinstance(outcome, WaitUntil)
    assert outcome.until == datetime(2030, 1, 1, 8, tzinfo=UTC)
    assert outcome.output == Output({"until": "2030-01-01T08:00:00Z"})


@pytest.mark.parametrize(
    "config",
    [
        {"seconds": "{{ input.at }}"},
        {"seconds": "-1"},
        {"seconds": "nan"},
        {"until": "tomorrow"},
        {"until": "{{ input.value }}"},
        {"until": "9999-12-31T23:59:59-23:00"},
    ],
)
async def test_a_delay_that_is_no_time_fails(config: dict[str, Any]) -> None:
    with pytest.raises(NodeFailure) as failed:
        await Given(INPUT).run("delay", config)
    assert failed.value.code == "CONFIG"


def test_every_config_can_be_a_form() -> None:
    for kind in TYPES.values():
        for name, field in kind.Config.model_json_schema().get("properties", {}).items():
            assert field["title"] and field["description"], (kind.name, name)
            assert field.get("examples") or "items" in field, (kind.name, name)


def test_types_are_found_by_name() -> None:
    assert set(TYPES) >= {"start", "end", "transform", "conditional", "switch", "code", "delay", "human", "subworkflow"}
    assert TYPES.broken == {}
    assert "nope" not in TYPES


def test_a_plug_in_is_added_and_a_broken_one_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shout_plugin.py").write_text(
        "from engine.nodes.base import NodeConfig, NodeType, Output\n"
        "class Shout(NodeType[NodeConfig]):\n"
        "    name, title, description, Config = 'shout', 'Shout', 'Shouts.', NodeConfig\n"
        "    async def execute(self, config, ctx):\n"
        "        return Output('HEY')\n"
        "class Start(Shout):\n"
        "    name = 'start'\n"
    )
    info = tmp_path / "shout-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shout\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[treadle.nodes]\nshout = shout_plugin:Shout\nstart = shout_plugin:Start\n"
        "gone = no_such_module:X\nodd = shout_plugin:NodeConfig\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    types: NodeTypes = load_node_types()
    assert types["shout"].title == "Shout"
    assert type(types["start"]).__module__ == "engine.nodes.start"
    assert set(types.broken) == {"start", "gone", "odd"}
    assert "No module named 'no_such_module'" in types.broken["gone"]


# ── code ──


@pytest.fixture
async def sandbox() -> AsyncIterator[AsyncMonty]:
    async with AsyncMonty(min_processes=1, max_processes=2) as pool:
        yield pool


def resources(pool: AsyncMonty) -> dict[str, Any]:
    return {"sandbox": pool, "sandbox_memory_mb": 64}


async def run_code(pool: AsyncMonty, code: str, **config: Any) -> Any:
    outcome = await Given({"input": {"value": "}}' + x"}}, resources(pool)).run("code", {"code": code, **config})
    assert isinstance(outcome, Output)
    return outcome.value


async def test_code_gets_values_and_returns_one(sandbox: AsyncMonty) -> None:
    code = "def process(input_data, rows=()):\n    return {'data': input_data, 'n': len(rows)}"
    mapping = {"input_data": "{{input.value}}", "rows": [1, {"a": "{{ input }}"}]}
    assert await run_code(sandbox, code, input_mapping=mapping) == {"data": "}}' + x", "n": 2}


async def test_what_code_prints_goes_to_the_log_line_by_line(sandbox: AsyncMonty) -> None:
    given = Given({}, resources(sandbox))
    await given.run("code", {"code": "def process():\n    print('one')\n    print('two\\nthree', end='')"})
    logs = [what for what in given.happenings if isinstance(what, LogRecorded)]
    assert [log.message for log in logs] == ["one", "two", "three"]
    assert {(log.level, log.node_id) for log in logs} == {(LogLevel.INFO, "n")}


@pytest.mark.parametrize(
    ("code", "failure", "message"),
    [
        ("def process():\n\n    return 1 / 0", "CODE", "line 3: ZeroDivisionError"),
        ("def process():\n    raise TimeoutError('feed time limit')", "CODE", "line 2: TimeoutError"),
        ("def process():\n    import socket", "CODE", "line 2: ModuleNotFoundError"),
        ("def process():\n    return open('/etc/passwd').read()", "CODE", "PermissionError"),
        ("process = 1", "CODE", "TypeError"),
        ("def process():\n    while True: pass", "TIMEOUT", "0.5 s"),
        ("def process():\n    import time\n    time.sleep(60)", "TIMEOUT", "0.5 s"),
        ("def process():\n    return 'x' * (10 * 2**30)", "MEMORY_LIMIT", "32 MB"),
        ("def process():\n    x = [0]\n    while True: x = x + x", "MEMORY_LIMIT", "32 MB"),
        ("def process():\n    return float('nan')", "OUTPUT", "nan"),
        ("def process():\n    return {'rows': [{1, 2}]}", "OUTPUT", ".rows[0] is a set"),
        ("def process():\n    return [b'x']", "OUTPUT", "bytes"),
        ("def process():\n    return (1, 2)", "OUTPUT", "tuple"),
        ("def process():\n    return {'a': 10 ** 40}", "OUTPUT", ".a is a whole number beyond 64 bits"),
        ("def process():\n    return 10 ** 5000", "OUTPUT", "64 bits"),
        ("def process():\n    return 'a\\x00'", "OUTPUT", "NUL"),
        ("def process():\n    return {1: 2}", "OUTPUT", "key 1"),
        ("def process():\n    return 'x' * 10_000_000", "OUTPUT", "larger than 8 MiB"),
        ("def process():\n    x = []\n    for _ in range(500): x = [x]\n    return x", "OUTPUT", "levels deep"),
    ],
)
async def test_bad_code_fails_its_node_and_says_why(sandbox: AsyncMonty, code: str, failure: str, message: str) -> None:
    with pytest.raises(NodeFailure) as failed:
        await run_code(sandbox, code, timeoutS=0.5, memoryMB=32)
    assert (failed.value.code, message in failed.value.message) == (failure, True), failed.value.message
    assert await run_code(sandbox, "def process():\n    return 'still there'") == "still there"


async def test_cancelled_code_is_stopped_at_once_and_gives_its_place_free() -> None:
    others = children()
    loops = "def process():\n    print('on')\n    while True: print(end='')"
    async with AsyncMonty(min_processes=2, max_processes=2) as pool:
        given = [Given({}, resources(pool)) for _ in range(2)]
        tasks = [asyncio.create_task(one.run("code", {"code": loops})) for one in given]
        for one in given:
            await one.saw.wait()
        busy = children() - others
        assert len(busy) == 2
        started = asyncio.get_running_loop().time()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not children() & busy
        assert asyncio.get_running_loop().time() - started < 0.08
        assert all(task.cancelled() for task in tasks)
        assert await run_code(pool, "def process():\n    return 1") == 1


async def test_waiting_for_a_sandbox_is_shown_and_takes_none_of_the_time(sandbox: AsyncMonty) -> None:
    loops = {"code": "def process():\n    print('on')\n    while True: print(end='')", "timeoutS": 0.6}
    given = [Given({}, resources(sandbox)) for _ in range(2)]
    busy = [asyncio.create_task(one.run("code", loops)) for one in given]
    for one in given:
        await one.saw.wait()
    waiting = Given({}, resources(sandbox))
    answer = await waiting.run("code", {"code": "def process():\n    return 7", "timeoutS": 0.2})
    assert answer == Output(7)
    assert waiting.shown == ["waiting for a sandbox", None]
    ended = await asyncio.gather(*busy, return_exceptions=True)
    assert {getattr(one, "code", None) for one in ended} == {"TIMEOUT"}


def children() -> set[int]:
    """The sandbox processes of this process that are running."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(status.parent.name))
    return found
