"""Invalid input for every node type.

An invalid config is a problem at its field before the run. A failure in a run is a RunError with a
code, the node id and a message. The tests of each type have more rows.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.graph.bound_node import BoundNode
from engine.isolation.suspension import suspendable
from engine.nodes.registry import BUILT_IN
from engine.runtime.attempts import NodeResult, run_attempts
from engine.sdk.node import Output
from engine.spec.model import NodeSpec
from engine.validation.validator import validate
from tests.engine.node_runner import TYPES, NodeHarness
from tests.engine.nodes.node_resources import open_resources
from tests.peers.http import Peer, http_peer
from tests.peers.http_protocol import MIB

TEXT, WHOLE, NUMBER = "must be a text", "must be a whole number", "must be a number"
EITHER = "give either `prompt` or `messages`"
URL = "http://example.com"
EACH = {"items": "{{ input }}"}

INVALID_CONFIGS: list[tuple[str, Any, str, str]] = [
    ("start", {"output": 1}, ".output", "is not a known field"),
    ("start", [], "", "must be an object"),
    ("end", {"out": 1}, ".out", "is not a known field"),
    ("end", 7, "", "must be an object"),
    ("transform", {}, ".output", "is required"),
    ("transform", {"output": "{{ 1 +"}, ".output", "`{{` has no end"),
    ("conditional", {}, ".condition", "is required"),
    ("conditional", {"condition": 5}, ".condition", TEXT),
    ("conditional", {"condition": "1 >"}, ".condition", "unexpected end of expression"),
    ("switch", {}, ".cases", "is required"),
    ("switch", {"cases": "a"}, ".cases", "must be a list"),
    ("switch", {"cases": []}, ".cases", "must not be empty"),
    ("switch", {"cases": [{"port": 1, "condition": "1"}]}, ".cases[0].port", TEXT),
    ("switch", {"cases": [{"port": "a"}]}, ".cases[0].condition", "is required"),
    ("code", {}, ".code", "is required"),
    ("code", {"code": 5}, ".code", TEXT),
    ("code", {"code": "x = 1"}, ".code", "must define a function `process`"),
    ("code", {"code": "def process(): pass", "timeoutS": "long"}, ".timeoutS", NUMBER),
    ("fail", {}, ".message", "is required"),
    ("fail", {"message": "a", "code": "not good"}, ".code", "must match the pattern"),
    ("fail", {"message": "{{ 1 +"}, ".message", "`{{` has no end"),
    ("delay", {}, "", "give either `seconds` or `until`"),
    ("delay", {"seconds": True}, ".seconds", "must be a number, or a template"),
    ("delay", {"until": "soon"}, ".until", "must give a date and time (RFC 3339)"),
    ("human", {}, ".prompt", "is required"),
    ("human", {"prompt": "?", "schema": 5}, ".schema", "must be an object"),
    ("human", {"prompt": "?", "schema": {"type": "nonsense"}}, ".schema", "is no JSON Schema"),
    ("human", {"prompt": "?", "expiresS": -1}, ".expiresS", "must be greater than 0"),
    ("wait_event", {"name": 5}, ".name", "must be a text"),
    ("wait_event", {"schema": {"type": "nonsense"}}, ".schema", "is no JSON Schema"),
    ("wait_event", {"expiresS": 0}, ".expiresS", "must be greater than 0"),
    ("http", {}, ".url", "is required"),
    ("http", {"url": 5}, ".url", TEXT),
    ("http", {"url": "ftp://x"}, ".url", "begins with http:// or https://"),
    ("http", {"url": URL, "method": "GRAB"}, ".method", "must be 'GET'"),
    ("http", {"url": URL, "expect": ["fine"]}, ".expect", "'fine' is no status; write 200 or 2xx"),
    ("http", {"url": URL, "body": {"type": "json"}}, ".body.content", "is required"),
    ("http", {"url": URL, "body": {"type": "yaml", "content": 1}}, ".body", "must have one of 'json', 'form'"),
    ("http", {"url": URL, "auth": {"token": "a"}}, ".auth", "needs the field 'type'"),
    ("http", {"url": URL, "timeoutS": 0}, ".timeoutS", "must be greater than 0"),
    ("http", {"url": URL, "response": {"maxBytes": 10**9}}, ".response.maxBytes", "must be at most 8,388,608"),
    ("http", {"url": ""}, ".url", "must not be empty"),
    ("llm", {"prompt": "a"}, ".model", "is required"),
    ("llm", {"model": "m"}, "", EITHER),
    ("llm", {"model": 7, "prompt": "a"}, ".model", TEXT),
    ("llm", {"model": "m", "prompt": "a", "temperature": "hot"}, ".temperature", NUMBER),
    ("llm", {"model": "m", "prompt": "a", "responseSchema": {"type": "string"}}, ".responseSchema", "the type object"),
    ("tool", {}, ".tool", "is required"),
    ("tool", {"tool": 7}, ".tool", TEXT),
    ("tool", {"tool": "hash_text", "arguments": "text"}, ".arguments", "must be an object"),
    ("agent", {"prompt": "a"}, ".model", "is required"),
    ("agent", {"model": "m"}, "", EITHER),
    ("agent", {"model": "m", "prompt": "a", "maxSteps": "many"}, ".maxSteps", WHOLE),
    ("agent", {"model": "m", "prompt": "a", "budget": 5}, ".budget", "must be an object"),
    ("subworkflow", {}, ".workflow", "is required"),
    ("subworkflow", {"workflow": 5}, ".workflow", TEXT),
    ("subworkflow", {"workflow": "wf_1", "version": "latest"}, ".version", WHOLE),
    ("map", {}, ".items", "is required"),
    ("map", EACH, "", "give either `node` or `spec`"),
    ("map", {**EACH, "node": {"type": "transform", "config": {}}}, ".node.config.output", "is required"),
    ("map", {**EACH, "spec": []}, ".spec", "must be an object"),
]


@pytest.mark.parametrize(("kind", "config", "field", "message"), INVALID_CONFIGS)
def test_an_invalid_config_is_a_problem_at_its_field(kind: str, config: Any, field: str, message: str) -> None:
    report = validate({"nodes": [{"id": "n", "type": kind, "config": config}], "edges": []}, TYPES)
    [problem] = report.errors
    assert (problem.field, problem.node_id) == (f"nodes[0].config{field}", "n")
    assert message in problem.message
    assert foreign_words(problem.message) == []


LIBRARY_WORDS = (
    "Input should", "validation error", "pydantic", "Value error", "httpx", "httpcore", "Errno", "Traceback",
    "minijinja", "monty", "NoneType", "<class", "object at 0x", "variable block",
)  # fmt: skip
"""Words that only the messages of libraries have."""


def foreign_words(message: str) -> list[str]:
    return [word for word in LIBRARY_WORDS if word.lower() in message.lower()]


BROKEN = "{{ input.nope.deeper }}"
ASK = {"prompt": "hi"}
CALL = {"name": "hash_text", "arguments": {"text": "a"}}
ASKS = {"model": "calls", "messages": [{"role": "user", "content": json.dumps([CALL])}]}
QUICK = {"timeoutS": 0.3, "retry": {"maxAttempts": 1}}

IN_A_RUN: list[tuple[str, dict[str, Any], str, str]] = [
    ("end", {"output": BROKEN}, "TEMPLATE", "input.nope"),
    ("transform", {"output": BROKEN}, "TEMPLATE", "input.nope"),
    ("transform", {"output": "{{ range(100000000) | sum }}"}, "TEMPLATE", ""),
    ("conditional", {"condition": "input.nope.deeper"}, "TEMPLATE", "input.nope"),
    ("switch", {"cases": [{"port": "a", "condition": "input.nope.deeper"}]}, "TEMPLATE", "input.nope"),
    ("code", {"code": "def process(a): pass", "input_mapping": {"a": BROKEN}}, "TEMPLATE", "input.nope"),
    ("code", {"code": "def process():\n    return rude()"}, "CODE", "line 2: RuntimeError: rude raised"),
    (
        "code",
        {"code": "def process():\n    mcp_peer_die()"},
        "CODE",
        "line 2: RuntimeError: the MCP server 'peer' was lost",
    ),
    ("code", {"code": "def process():\n    while True: pass", "timeoutS": 0.3}, "TIMEOUT", "0.3 s"),
    ("fail", {"message": BROKEN}, "TEMPLATE", "input.nope"),
    ("fail", {"message": "this is not {{ input.word }}", "code": "NOT_NOW"}, "NOT_NOW", "this is not soon"),
    ("delay", {"seconds": BROKEN}, "TEMPLATE", "input.nope"),
    ("delay", {"seconds": "{{ input.word }}"}, "CONFIG", "`seconds` must give a number from 0"),
    ("delay", {"until": "{{ input.word }}"}, "CONFIG", "`until` must give a date and time"),
    ("human", {"prompt": BROKEN}, "TEMPLATE", "input.nope"),
    ("wait_event", {"key": BROKEN}, "TEMPLATE", "input.nope"),
    ("wait_event", {"key": "{{ input.list }}"}, "CONFIG", "`key` must give a text of at most 200 characters"),
    ("subworkflow", {"workflow": BROKEN}, "TEMPLATE", "input.nope"),
    ("subworkflow", {"workflow": "{{ input.list }}"}, "CONFIG", "`workflow` must give the id of a workflow"),
    ("subworkflow", {"workflow": "wf_1", "inputs": {"a": BROKEN}}, "TEMPLATE", "input.nope"),
    ("map", {"items": BROKEN, "node": {"type": "transform", "config": {"output": 1}}}, "TEMPLATE", "input.nope"),
    ("map", {"items": "{{ input.word }}", "node": {"type": "transform", "config": {"output": 1}}}, "CONFIG", "list"),
    ("map", {"items": [1], "node": {"type": "transform", "config": {"output": BROKEN}}}, "TEMPLATE", "input.nope"),
    ("map", {"items": [1], "node": {"type": "tool", "config": {"tool": "rude"}}}, "TOOL_FAILED", "go away"),
    (
        "map",
        {"items": [1], "node": {"type": "http", "config": {"url": "PEER/short"}}},
        "HTTP_RESPONSE",
        "connection was lost",
    ),
    ("http", {"url": BROKEN}, "TEMPLATE", "input.nope"),
    ("http", {"url": "http://127.0.0.1:1", "headers": {"a": "\u00e9\u4e2d"}, **QUICK}, "HTTP_CONNECT", "was refused"),
    ("http", {"url": "http://nowhere.invalid", **QUICK}, "HTTP_CONNECT", "cannot be resolved"),
    ("http", {"url": "PEER:99999999"}, "CONFIG", "gives no valid address"),
    ("http", {"url": "{{ input.word }}"}, "CONFIG", ""),
    ("http", {"url": "http://127.0.0.1:1", **QUICK}, "HTTP_CONNECT", "no connection"),
    ("http", {"url": "PEER/hang", **QUICK}, "HTTP_TIMEOUT", "did not finish within 0.3 s"),
    ("http", {"url": "PEER/drip", **QUICK}, "HTTP_TIMEOUT", "did not finish within 0.3 s"),
    ("http", {"url": "PEER/short", "retry": {"maxAttempts": 1}}, "HTTP_RESPONSE", "before the response was complete"),
    ("http", {"url": "PEER/gib"}, "HTTP_RESPONSE", "the limit in `response.maxBytes`"),
    ("http", {"url": "PEER/broken-utf8"}, "HTTP_RESPONSE", "is no utf-8 text at byte 3"),
    ("tool", {"tool": "hash_text", "arguments": {"text": BROKEN}}, "TEMPLATE", "input.nope"),
    ("tool", {"tool": "hash_text", "arguments": {"text": "{{ input.list }}"}}, "TOOL_ARGUMENTS", "arguments.text"),
    ("tool", {"tool": "rude"}, "TOOL_FAILED", "rude raised RuntimeError: go away"),
    ("tool", {"tool": "hsh_text"}, "TOOL_UNKNOWN", "did you mean 'hash_text'?"),
    ("tool", {"tool": "mcp:away/find"}, "TOOL_FAILED", "the MCP server 'away' cannot be used"),
    ("tool", {"tool": "mcp:peer/die"}, "TOOL_FAILED", "was lost during the call of 'die'"),
    ("tool", {"tool": "mcp:peer/hang", "timeoutS": 0.3}, "TIMEOUT", "did not finish within 0.3 s"),
    ("tool", {"tool": "mcp:peer/broken_utf8"}, "TOOL_FAILED", "is not UTF-8"),
    ("tool", {"tool": "mcp:faulty/drip", "timeoutS": 0.3}, "TIMEOUT", "did not finish within 0.3 s"),
    ("tool", {"tool": "mcp:faulty/short"}, "TOOL_FAILED", "ended too early"),
    ("tool", {"tool": "mcp:faulty/gib"}, "TOOL_FAILED", "longer than 16 MiB"),
    *(
        (kind, config, code, message)
        for kind in ("llm", "agent")
        for config, code, message in (
            ({"model": "repeats", "prompt": BROKEN}, "TEMPLATE", "input.nope"),
            ({"model": "repeats", "messages": "{{ input.word }}"}, "CONFIG", "`messages` must give a list"),
            ({"model": "rpeats", **ASK}, "MODEL_UNKNOWN", "did you mean 'repeats'?"),
            ({"model": "repeats", **ASK, "tools": ["hsh_text"]}, "TOOL_UNKNOWN", "did you mean 'hash_text'?"),
            ({"model": "unreachable", **ASK}, "MODEL_UNAVAILABLE", "cannot be reached"),
            ({"model": "hangs", **ASK, "timeoutS": 0.3}, "MODEL_TIMEOUT", "did not finish within 0.3 s"),
            ({"model": "drips", **ASK, "timeoutS": 0.3}, "MODEL_TIMEOUT", "did not finish within 0.3 s"),
            ({"model": "lies-about-length", **ASK}, "MODEL_STREAM", "lost the connection"),
            ({"model": "gib", **ASK}, "MODEL_STREAM", "larger than"),
            ({"model": "broken-utf8", **ASK}, "MODEL_STREAM", "cannot be parsed"),
            ({**ASKS, "model": "calls-for-ever", "tools": ["hash_text"]}, "BUDGET", "after"),
        )
    ),
]


@pytest.fixture(scope="module")
async def peer() -> AsyncIterator[Peer]:
    async with http_peer() as peer:
        yield peer


@pytest.fixture(scope="module")
async def resources(peer: Peer) -> AsyncIterator[dict[str, Any]]:
    async with open_resources(peer) as opened:
        yield opened


async def run_node(kind: str, config: dict[str, Any], resources: dict[str, Any]) -> NodeResult:
    harness = NodeHarness({"input": {"word": "soon", "list": [1]}, "nodes": {}}, resources)
    spec = NodeSpec("n", kind, config=config, timeout_s=30)
    work = BoundNode(spec, TYPES[kind], TYPES[kind].Config.model_validate(config))
    return await suspendable(run_attempts(work, harness.context))


@pytest.mark.parametrize(("kind", "config", "code", "message"), IN_A_RUN)
async def test_a_failure_in_a_run_has_a_code_a_node_id_and_a_message(
    kind: str, config: dict[str, Any], code: str, message: str, resources: dict[str, Any], peer: Peer
) -> None:
    peer.written = 0
    config = json.loads(json.dumps(config).replace("PEER", peer.url))
    error = (await run_node(kind, config, resources)).error
    assert error is not None
    assert (error.code, error.node_id) == (code, "n")
    assert message in error.message
    assert len(error.message.split()) > 3
    assert foreign_words(error.message) == []
    assert peer.written < 128 * MIB


@pytest.mark.parametrize("tool", ["rude", "mcp:peer/die", "mcp:faulty/short"])
async def test_the_failure_of_a_tool_is_sent_to_the_model_of_the_agent(tool: str, resources: dict[str, Any]) -> None:
    name = tool.replace(":", "_").replace("/", "_")
    content = json.dumps([{"name": name, "arguments": {}}])
    config = {"model": "calls", "messages": [{"role": "user", "content": content}], "tools": [tool]}
    outcome = (await run_node("agent", config, resources)).outcome
    assert isinstance(outcome, Output)
    assert outcome.value["toolCalls"] == [{"tool": tool, "arguments": {}, "failed": True}]
    assert "raised" in outcome.value["text"] or "lost" in outcome.value["text"]


def test_every_node_type_has_rows_in_the_tables() -> None:
    names = {kind.name for kind in BUILT_IN}
    assert {kind for kind, *_ in INVALID_CONFIGS} == names
    assert {kind for kind, *_ in IN_A_RUN} == names - {"start"}
