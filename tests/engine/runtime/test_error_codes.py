"""Every documented error code: its `retryable`, the error branch, and what `retry` repeats."""

import ast
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import pytest

from docs.reference.errors import read_texts
from engine.events import RunError
from engine.nodes.registry import load_node_types
from engine.runtime.attempts import is_repeated
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.sdk.node_types import NodeTypes
from engine.sdk.tool import ToolFailed, ToolInfo
from engine.spec.model import Retry
from engine.states import RunStatus
from engine.tools.catalog import open_tools
from engine.types import JSON
from tests.engine.memory_runs import EndedRun, run
from tests.engine.nodes.map.map_nodes import MemoryItems
from tests.engine.nodes.node_resources import open_resources
from tests.engine.secret_values import MemorySecrets
from tests.paths import ROOT
from tests.peers.http import Peer, http_peer

TEXTS = read_texts()
DOCUMENTED = {code: texts["retryable"] for section in ("node", "run") for code, texts in TEXTS[section].items()}
"""What the page of errors says of `retryable`, by code."""


def call_sites() -> Iterator[tuple[str, bool | None]]:
    """Every creation of an error as (code, its flag, or None if it is computed)."""
    for package in ("engine", "persistence", "worker"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                    name, code = getattr(node.func, "id", ""), node.args[0].value
                    if name in ("NodeFailure", "NotSent", "RunError"):
                        yield str(code), _flag(node, name)
    for node in ast.walk(ast.parse((ROOT / "engine/chat_models/errors.py").read_text())):
        if isinstance(node, ast.Tuple) and len(node.elts) == 3 and isinstance(node.elts[0], ast.Constant):
            yield str(node.elts[0].value), _constant(node.elts[2])


def _flag(call: ast.Call, name: str) -> bool | None:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "retryable"]
    given += call.args[3:4] if name == "RunError" else []
    return _constant(given[0]) if given else False


def _constant(node: ast.expr) -> bool | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, bool) else None


@pytest.mark.parametrize("code", DOCUMENTED)
def test_every_place_that_creates_an_error_agrees_with_the_documents(code: str) -> None:
    flags = {flag for site, flag in call_sites() if site == code}
    expected = {"no": {False}, "yes": {True}}.get(DOCUMENTED[code])
    if expected is None:
        assert flags & {None} or flags == {True, False}
    else:
        assert flags == expected


class RaisingConfig(NodeConfig):
    fault: str


class RaisingNode(NodeType[RaisingConfig]):
    """Raises an exception of Python, as a type with a defect or a lost connection does."""

    name: ClassVar[str] = "raising"
    title: ClassVar[str] = "Raising"
    description: ClassVar[str] = "For tests."
    Config: ClassVar[type[NodeConfig]] = RaisingConfig

    async def execute(self, config: RaisingConfig, ctx: NodeContext) -> Output:
        raise {"TypeError": TypeError, "ConnectionResetError": ConnectionResetError}[config.fault]("as told")


class RefusingTool:
    """A tool that refuses every call, for a reason that may pass or not."""

    def __init__(self, name: str, *, retryable: bool = False, scopes: frozenset[str] = frozenset()) -> None:
        self.info = ToolInfo(name, "Refuses.", {"type": "object"}, "python", scopes)
        self._retryable = retryable

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        raise ToolFailed("not now", retryable=self._retryable)


TYPES = NodeTypes([*load_node_types().values(), RaisingNode()])


def code(body: str, **config: Any) -> tuple[str, dict[str, Any]]:
    return "code", {"code": f"def process():\n    {body}", **config}


def http(path: str, **config: Any) -> tuple[str, dict[str, Any]]:
    return "http", {"url": f"PEER{path}", "retry": {"maxAttempts": 1}, **config}


def tool(name: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tool", {"tool": name, "arguments": arguments}


def llm(model: str, **config: Any) -> tuple[str, dict[str, Any]]:
    return "llm", {"model": model, "prompt": "hi", **config}


BROKEN = "{{ input.nope.deeper }}"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
CALL = "{% raw %}" + json.dumps([{"name": "hash_text", "arguments": {"text": "a"}}]) + "{% endraw %}"
FAILURES: list[tuple[str, bool, tuple[str, dict[str, Any]]]] = [
    ("CONFIG", False, ("delay", {"seconds": "{{ input.word }}"})),
    ("TEMPLATE", False, ("transform", {"output": BROKEN})),
    ("OUTPUT", False, code("return float('nan')")),
    ("SECRET", False, ("transform", {"output": "{{ secrets.nosuch }}"})),
    ("TIMEOUT", True, code("while True: pass", timeoutS=0.3)),
    ("NODE", False, ("raising", {"fault": "TypeError"})),
    ("NODE", True, ("raising", {"fault": "ConnectionResetError"})),
    ("CODE", False, code("raise ValueError('no')")),
    ("CODE", False, code("never()")),
    ("CODE", True, code("busy()")),
    ("MEMORY_LIMIT", False, code("return [0] * 50_000_000", memoryMB=8)),
    ("HTTP_BLOCKED", False, ("http", {"url": "http://10.0.0.1/"})),
    ("HTTP_CONNECT", True, ("http", {"url": "http://127.0.0.1:1/", "retry": {"maxAttempts": 1}})),
    ("HTTP_TIMEOUT", True, http("/hang", timeoutS=0.3)),
    ("HTTP_STATUS", False, http("/status?code=404")),
    ("HTTP_STATUS", False, http("/status?code=501")),
    *(("HTTP_STATUS", True, http(f"/status?code={status}")) for status in (408, 425, 429, 500, 502, 503, 504)),
    ("HTTP_RESPONSE", True, http("/short")),
    ("HTTP_RESPONSE", False, http("/broken-utf8")),
    ("TOOL_UNKNOWN", False, tool("nosuch")),
    ("TOOL_UNKNOWN", False, llm("repeats", tools=["nosuch"])),
    ("TOOL_ARGUMENTS", False, tool("hash_text", text=[1])),
    ("TOOL_FORBIDDEN", False, tool("forbidden")),
    ("TOOL_FAILED", False, tool("never")),
    ("TOOL_FAILED", True, tool("busy")),
    ("TOOL_FAILED", True, tool("rude")),
    ("TOOL_FAILED", False, tool("json_query", data=1, expression="((")),
    ("TOOL_FAILED", True, tool("mcp:peer/fail")),
    ("TOOL_FAILED", True, tool("mcp:away/find")),
    ("MODEL_UNKNOWN", False, llm("nosuch")),
    ("MODEL_UNKNOWN", False, llm("gone")),
    ("MODEL_AUTH", False, llm("locked")),
    ("MODEL_RATE_LIMIT", True, llm("busy")),
    ("MODEL_RATE_LIMIT", False, llm("poor")),
    ("MODEL_CONTEXT", False, llm("full")),
    ("MODEL_FILTERED", False, llm("prude")),
    ("MODEL_REQUEST", False, llm("choosy")),
    ("MODEL_TIMEOUT", True, llm("hangs", timeoutS=0.3)),
    ("MODEL_UNAVAILABLE", True, llm("sick")),
    ("MODEL_STREAM", True, llm("breaks-off")),
    ("MODEL_OUTPUT", True, llm("repeats", responseSchema=SCHEMA)),
    ("MODEL_OUTPUT", False, llm("cut-short", responseSchema=SCHEMA)),
    ("BUDGET", False, ("agent", {**llm("calls-for-ever")[1], "prompt": CALL, "tools": ["hash_text"], "maxSteps": 1})),
]
"""(code, whether it is retryable, the type and the config of a node that fails with it)"""


@pytest.fixture(scope="module")
async def resources() -> AsyncIterator[dict[str, Any]]:
    refusing = [
        RefusingTool("never"),
        RefusingTool("busy", retryable=True),
        RefusingTool("forbidden", scopes=frozenset({"secret:read"})),
    ]
    async with http_peer() as peer, open_resources(peer) as opened, open_tools({}, refusing) as tools:
        yield {**opened, "peer": peer, "refusing": tools, "secrets": MemorySecrets()}


def with_peer(config: Any, resources: dict[str, Any]) -> Any:
    peer: Peer = resources["peer"]
    return json.loads(json.dumps(config).replace("PEER", peer.url))


async def run_node(kind: str, config: dict[str, Any], resources: dict[str, Any], **fields: Any) -> EndedRun:
    """Run a node with an error branch, after which the run's output is {output, attempt}."""
    names = {"never", "busy", "forbidden"}
    used = set(re.findall(r"\w+", json.dumps(config)))
    own = {**resources, "tools": resources["refusing"]} if used & names and kind != "llm" else resources
    node = {"id": "n", "type": kind, "config": with_peer(config, resources), "onError": "branch", **fields}
    nodes = [node, {"id": "after", "type": "transform", "config": {"output": "{{ n.output }}"}}]
    edges = [{"source": "n", "target": "after", "port": "error"}]
    return await run({"nodes": nodes, "edges": edges}, {"word": "soon"}, own, TYPES)


@pytest.mark.parametrize(("expected", "retryable", "node"), FAILURES, ids=[row[0] for row in FAILURES])
async def test_an_error_branch_sees_the_whole_error_and_retry_repeats_what_may_pass(
    expected: str, retryable: bool, node: tuple[str, dict[str, Any]], resources: dict[str, Any]
) -> None:
    ended = await run_node(*node, resources, retry={"maxAttempts": 2, "backoffS": 0, "maxS": 0})
    assert ended.status is RunStatus.COMPLETED, ended.error
    state = ended.states["n"]
    assert state.error is not None
    assert ended.output == {
        "after": {
            "error": {
                "code": expected,
                "message": state.error.message,
                "nodeId": "n",
                "retryable": retryable,
                "details": state.error.details,
            }
        }
    }
    assert state.attempt == (2 if retryable else 1)


RUN_CODES = TEXTS["run"].keys()
NO_ROW = {"CALLBACK", "SANDBOX", "SUBWORKFLOW", "RECURSION", *RUN_CODES}
"""Codes of runs, of a host without keys, of a process that dies, and of child runs, which other tests make."""


def test_every_code_of_a_node_has_a_row_for_each_of_its_flags() -> None:
    rows: dict[str, set[bool]] = {}
    for code_, retryable, _ in FAILURES:
        rows.setdefault(code_, set()).add(retryable)
    assert set(rows) == set(DOCUMENTED) - NO_ROW
    flags = {"no": {False}, "yes": {True}}
    others = {"MODEL_UNAVAILABLE"}  # the catalog entry is the cause: tests/engine/nodes/ai
    assert {name: flags.get(DOCUMENTED[name], {True, False}) for name in rows if name not in others} == {
        name: row for name, row in rows.items() if name not in others
    }


async def test_the_details_of_a_status_are_seen_by_a_condition(resources: dict[str, Any]) -> None:
    ended = await run_node(*http("/status?code=404"), resources)
    error = ended.output["after"]["error"]
    assert error["details"] == {"status": 404, "body": '{"said": "why"}'}


@pytest.mark.parametrize(
    ("on", "attempts"),
    [([], 1), (["HTTP_STATUS"], 3), (["CODE", "HTTP_STATUS"], 3), (["HTTP_CONNECT"], 1)],
)
async def test_retry_on_names_the_codes_that_are_repeated(
    on: list[str], attempts: int, resources: dict[str, Any]
) -> None:
    retry = {"maxAttempts": 3, "backoffS": 0, "on": on}
    assert (await run_node(*http("/status?code=404"), resources, retry=retry)).states["n"].attempt == attempts


async def test_a_retryable_error_that_retry_on_does_not_name_is_not_repeated(resources: dict[str, Any]) -> None:
    retry = {"maxAttempts": 3, "backoffS": 0, "on": ["HTTP_CONNECT"]}
    assert (await run_node(*http("/status?code=503"), resources, retry=retry)).states["n"].attempt == 1


@pytest.mark.parametrize(("path", "on", "requests"), [("404", [], 1), ("503", [], 3), ("404", ["HTTP_STATUS"], 3)])
async def test_the_retry_of_an_item_of_a_map_has_the_same_rule(
    path: str, on: list[str], requests: int, resources: dict[str, Any]
) -> None:
    kind, config = http(f"/status?code={path}")
    node = {"type": kind, "config": config, "retry": {"maxAttempts": 3, "backoffS": 0, "on": on}}
    peer: Peer = resources["peer"]
    before = peer.count("/status")
    spec = {"id": "m", "type": "map", "config": {"items": [1], "onItemError": "collect", "node": node}}
    ended = await run({"nodes": [with_peer(spec, resources)]}, {}, {**resources, "items": MemoryItems()})
    assert isinstance(ended.output, dict), ended.error
    [error] = ended.output["m"]["errors"]
    assert (error["code"], error["retryable"]) == ("HTTP_STATUS", path == "503")
    assert error["details"]["status"] == int(path)
    assert peer.count("/status") - before == requests


def test_an_attempt_never_follows_the_loss_of_the_lease() -> None:
    assert not is_repeated(RunError("FENCED", "", retryable=True), Retry(on=frozenset({"FENCED"})))
