"""Specs with a node of every type that uses secrets, and all the forms that a secret may appear in.

`PLAIN` is a typical key. `ODD` looks different in JSON, in a URL, in HTML and in Python.
"""

import base64
import html
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

from tests.peers.http_protocol import Peer

PLAIN = "canary81kQz0pLw2xT5vB9nM"
ODD = """Odd/canary "7f3'Q+z&0=p<L;w%2\\e?9}Zq"""
MODEL_KEY = "sk-canary-0f1e2d3c4b5a6978"
SECRETS = {"plain": PLAIN, "odd": ODD, "model_key": MODEL_KEY}
BOTH = "{{ secrets.plain }} and {{ secrets.odd }}"


def _forms_of(value: str) -> set[str]:
    """Return the forms of a value, computed independently of the engine."""
    data = value.encode()
    forms = {value, json.dumps(value)[1:-1], json.dumps(json.dumps(value))[3:-3], repr(value)[1:-1]}
    forms |= {quote(value), quote(value, ""), quote_plus(value), html.escape(value), data.hex(), data.hex().upper()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms |= {encode(bytes(before) + data).decode().rstrip("=")[4:-2] for before in range(3)}
    # A truncated value still has one of its ends. Hosts in URLs are in lower case.
    return forms | {value[:12], value[-12:], value.lower()}


FORMS = sorted(form for value in SECRETS.values() for form in _forms_of(value))


def forms_in(data: bytes | str) -> list[str]:
    """Return all forms of the secrets that `data` contains."""
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    return [form for form in FORMS if form.encode() in raw]


@dataclass(frozen=True)
class Row:
    """A node, and its expected result.

    Attributes:
        config: The config of the node; `{peer}` is replaced by the address of the peer.
        code: The code of its error; None if it succeeds.
        more: Further fields of the node.
    """

    type: str
    config: dict[str, Any]
    code: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def spec(self, peer: Peer) -> dict[str, Any]:
        """Return a spec with the node, and a second node that receives its output."""
        config = json.loads(json.dumps(self.config).replace("{peer}", peer.url))
        node = {"id": "n", "type": self.type, "config": config, **self.more}
        after = {"id": "after", "type": "transform", "config": {"output": ["{{ n.output }}", "{{ n.status }}"]}}
        return {"nodes": [node, after], "edges": [{"source": "n", "target": "after"}]}


def _http(path: str, code: str | None = None, **config: Any) -> Row:
    retry = {"maxAttempts": 1} if code else {}
    return Row("http", {"url": f"{{peer}}{path}", **({"retry": retry} if retry else {}), **config}, code, _AGAIN)


def _llm(model: str, prompt: str, code: str | None = None, **config: Any) -> Row:
    return Row("llm", {"model": model, "prompt": prompt, **config}, code)


def _code(body: str, code: str | None = None) -> Row:
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    mapping = {"key": "{{ secrets.plain }}", "odd": "{{ secrets.odd }}"}
    return Row("code", {"code": f"def process(key, odd):\n{lines}", "input_mapping": mapping}, code, _AGAIN)


def _calls(**calls: dict[str, Any]) -> str:
    return json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls.items()])


_PLAIN, _BAD = "{{ secrets.plain }}", "{{ secrets.plain }}["
_RETRY = {"maxAttempts": 2, "backoffS": 0, "on": ["CODE", "HTTP_STATUS", "HTTP_RESPONSE", "HTTP_TIMEOUT"]}
_AGAIN = {"retry": _RETRY}
_KEY = {"x-key": "{{ secrets.odd }}"}
_GREETING = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]}

_RAISES = {
    "type": "code",
    "config": {"code": "def process(key):\n    print(key)\n    raise ValueError(key)", "input_mapping": {"key": BOTH}},
    "retry": _RETRY,
}
_INNER = {
    "nodes": [
        {
            "id": "a",
            "type": "code",
            "config": {"code": "def process(x):\n    return x", "input_mapping": {"x": "{{ item }} {{ secrets.odd }}"}},
        },
        {
            "id": "b",
            "type": "http",
            "config": {"url": "{peer}/echo-secrets", "query": {"key": "{{ a.output }}{{ item }}"}},
        },
        {"id": "c", "type": "transform", "config": {"output": ["{{ a.output }}", "{{ b.output }}", "{{ item }}"]}},
    ],
    "edges": [{"source": "a", "target": "b"}, {"source": "b", "target": "c"}],
    "outputs": {"a": "{{ a.output }}", "c": "{{ c.output }}", "item": "{{ item }}"},
}

ROWS: dict[str, Row] = {
    "http: in a header": _http("/echo-secrets", headers={"x-key": "{{ secrets.odd }}", "x-plain": "{{ secrets.plain }}"}),
    "http: in the query": _http("/echo-secrets", query={"a": BOTH}),
    "http: in the url": _http("/echo-secrets?key={{ secrets.plain }}&other={{ secrets.odd | urlencode }}"),
    "http: in a JSON body": _http("/echo-secrets", method="POST", body={"type": "json", "content": {"a": [BOTH]}}),
    "http: in a form": _http("/echo-secrets", method="POST", body={"type": "form", "content": {"a": BOTH}}),
    "http: in raw text": _http(
        "/echo-secrets-text", method="POST", body={"type": "raw", "content": BOTH}, response={"kind": "text"}
    ),
    "http: a bearer token": _http("/echo-secrets", auth={"type": "bearer", "token": "{{ secrets.plain }}"}),
    "http: a password": _http("/echo-secrets", auth={"type": "basic", "username": "me", "password": "{{ secrets.odd }}"}),
    "http: as base64": _http("/echo-secrets", headers=_KEY, response={"kind": "base64"}),
    "http: refused": _http("/echo-secrets?code=403", "HTTP_STATUS", headers=_KEY),
    "http: busy": _http("/echo-secrets?code=503", "HTTP_STATUS", headers=_KEY),
    "http: redirected": _http("/echo-secrets-redirect", headers=_KEY),
    "http: no JSON": _http("/echo-secrets-text", "HTTP_RESPONSE", headers=_KEY, response={"kind": "json"}),
    "http: no server": Row(
        "http", {"url": "http://127.0.0.1:1/{{ secrets.plain }}", "retry": {"maxAttempts": 1}}, "HTTP_CONNECT"
    ),
    "http: no such host": Row(
        "http", {"url": "http://{{ secrets.plain }}.invalid/", "retry": {"maxAttempts": 1}}, "HTTP_CONNECT"
    ),
    "http: no URL": Row("http", {"url": "{{ secrets.plain }}"}, "CONFIG"),
    "http: hangs": _http("/hang?key={{ secrets.plain }}", "HTTP_TIMEOUT", timeoutS=0.3),
    "llm: repeats": _llm("repeats", BOTH),
    "llm: structured output": _llm("repeats", '{"said": "{{ secrets.plain }}"}', responseSchema=_GREETING),
    "llm: wrong structured output": _llm("repeats", BOTH, "MODEL_OUTPUT", responseSchema=_GREETING),
    "llm: in the system prompt": _llm("repeats", "{{ secrets.plain }}", system=BOTH),
    "llm: refused": _llm("echo-refuses", BOTH, "MODEL_REQUEST"),
    "llm: calls a tool": _llm(
        "calls", _calls(base64_encode={"text": "{{ secrets.plain }}"}), tools=["base64_encode"]
    ),
    "llm: the key of the model": _llm("locked", "go", "MODEL_AUTH"),
    "agent: calls tools": Row(
        "agent",
        {
            "model": "calls",
            "prompt": _calls(base64_encode={"text": _PLAIN}, json_query={"data": _PLAIN, "expression": "@"}),
            "tools": ["base64_encode", "json_query"],
        },
    ),
    "agent: calls tools with wrong arguments": Row(
        "agent",
        {"model": "calls", "prompt": _calls(json_query={"data": 1, "expression": _BAD}), "tools": ["json_query"]},
    ),
    "tool: returns it": Row("tool", {"tool": "json_query", "arguments": {"data": {"a": BOTH}, "expression": "a"}}),
    "tool: in base64": Row("tool", {"tool": "base64_encode", "arguments": {"text": BOTH}}),
    "tool: fails": Row("tool", {"tool": "json_query", "arguments": {"data": 1, "expression": _BAD}}, "TOOL_FAILED"),
    "tool: wrong arguments": Row(
        "tool", {"tool": "math_evaluate", "arguments": {"expression": [_PLAIN]}}, "TOOL_ARGUMENTS"
    ),
    "tool: unknown argument": Row("tool", {"tool": "json_query", "arguments": {"dta": BOTH}}, "TOOL_ARGUMENTS"),
    "tool: of an MCP server": Row("tool", {"tool": "mcp:desk/weather", "arguments": {"city": BOTH}}),
    "code: returns": _code("print(key, odd)\nreturn {key: [odd, key.lower() == 'x']}"),
    "code: raises": _code("print(key)\nraise ValueError(key + odd)", "CODE"),
    "code: fails with it": _code("return {}[odd]", "CODE"),
    "code: calls a tool": _code("return json_query(data=[key], expression='[0]')"),
    "code: calls a tool with wrong arguments": _code("return json_query(data=1, expression=key + '[')", "CODE"),
    "code: gets it changed": Row(
        "code",
        {
            "code": "def process(odd, plain, both):\n    print(odd, plain, both)\n    return [odd, plain, both]",
            "input_mapping": {
                "odd": ["{{ secrets.odd | tojson }}", "{{ secrets.odd | urlencode }}", "a {{ secrets.odd | lower }} b"],
                "plain": ["{{ secrets.plain[:14] }}", "{{ secrets.plain | list }}", "{{ secrets.plain | reverse }}"],
                "both": "{{ [secrets.plain, {'a': secrets.odd}] }}",
            },
        },
    ),
    "code: gets no value": Row(
        "code",
        {"code": "def process(x):\n    return x", "input_mapping": {"x": "{{ secrets.plain | fromjson }}"}},
        "TEMPLATE",
    ),
    "transform": Row("transform", {"output": {"a": [BOTH, "{{ secrets.odd | tojson }}"]}}, "SECRET"),
    "conditional": Row("conditional", {"condition": f"secrets.plain == '{PLAIN[:5]}'"}, "SECRET"),
    "switch": Row("switch", {"cases": [{"port": "a", "condition": "secrets.plain < 'a'"}], "default": "b"}, "SECRET"),
    "human": Row("human", {"prompt": {"text": f"May I use {BOTH}?"}, "expiresS": 3600}, "SECRET"),
    "wait_event": Row("wait_event", {"key": "{{ secrets.plain }}", "expiresS": 3600}, "SECRET"),
    "delay": Row("delay", {"until": "{{ secrets.plain }}"}, "SECRET"),
    "fail": Row("fail", {"message": BOTH}, "SECRET"),
    "end": Row("end", {"output": {"key": BOTH}}, "SECRET"),
    "map: the items": Row(
        "map",
        {"items": "{{ [secrets.plain, secrets.odd] }}", "node": {"type": "transform", "config": {"output": "{{ item }}"}}},
        "SECRET",
    ),
    "map: its node": Row(
        "map", {"items": [1, 2], "node": {"type": "http", "config": {"url": "{peer}/echo-secrets", "headers": _KEY}}}
    ),
    "map: its spec": Row("map", {"items": ["one"], "spec": _INNER}),
    "map: a model": Row("map", {"items": [1], "node": {"type": "llm", "config": {"model": "repeats", "prompt": BOTH}}}),
    "map: an item fails": Row("map", {"items": [1, 2], "node": _RAISES}, "CODE"),
    "map: items that fail": Row("map", {"items": [1, 2], "node": _RAISES, "onItemError": "collect"}),
    "faulty: raises": Row("faulty", {"output": BOTH}, "NODE"),
    "subworkflow: its input": Row("subworkflow", {"workflow": "wf_1", "inputs": {"key": BOTH}}, "SECRET"),
    "subworkflow: its node": Row("subworkflow", {"workflow": "{child}", "inputs": {}}),
}  # fmt: skip
"""At least one row for each node type, which a test checks."""
