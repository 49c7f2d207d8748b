"""Attacks on secrets and on the log: what an author or a peer may make visible. Nothing may get through."""

import asyncio
import re
from collections import Counter
from typing import Any

from tests.end_to_end.support.secret_workflows import FORMS, ODD, PLAIN
from tests.hostile.deployment import OWN, AttackedDeployment
from tests.hostile.report import AttackResult, codes

SET_SECRET = "mutation ($input: SetSecretInput!) { setSecret(input: $input) { errors { code } } }"
RUN = """
mutation ($input: RunAdhocInput!) { runAdhoc(input: $input) {
  run { id status output error { code message details }
    nodeStates { nodeId status input output partialOutput error { code message details } }
    events(first: 1000) { nodes { __typename ... on LogRecorded { message fields } } }
    checkpoints { nodes { state } } }
  errors { code detail ... on ValidationProblem { errors { field code message } } } } }
"""
TEST_NODE = """
mutation ($input: TestNodeInput!) { testNode(input: $input) {
  output port input partialOutput logs error { code message details } errors { code detail } } }
"""
HOSTS = (
    "http://{{ secrets.plain }}.invalid/",
    "http://{{ secrets.odd }}/",
    "http://a.invalid:{{ secrets.plain }}/",
    "https://{{ secrets.plain }}@a.invalid/{{ secrets.odd }}",
    "http://{{ secrets.plain | upper }}.invalid",
    "{{ secrets.plain }}://a.invalid",
    "http://a.invalid/{{ secrets.odd }}?{{ secrets.plain }}",
    "http://127.0.0.1:1/{{ secrets.plain }}",
)
BOTH = "{{ [secrets.plain, secrets.odd] }}"
ECHO = {"type": "transform", "config": {"output": "{{ item }}"}}
CODE_OF_ITEM = {
    "type": "code",
    "config": {
        "code": "def process(x):\n    print(x)\n    raise ValueError(x)",
        "input_mapping": {"x": "{{ item }} {{ secrets.plain }}"},
    },
}
REVERSED = "def process(x):\n    return [x[::-1][::-1], x.encode().hex(), {x: x}]"
BRANCHES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("switch", {"cases": [{"port": "a", "condition": f"secrets.plain[{i}] == '{PLAIN[i]}'"} for i in range(6)], "default": "b"}),
    ("switch", {"cases": [{"port": "{{ secrets.plain }}", "condition": "true"}], "default": "b"}),
    ("conditional", {"condition": f"secrets.odd is string and secrets.odd < '{ODD[:3]}'"}),
    ("map", {"items": BOTH, "node": ECHO}),
    ("map", {"items": [1, 2], "node": {"type": "transform", "config": {"output": BOTH}}}),
    ("map", {"items": [1, 2], "node": CODE_OF_ITEM, "onItemError": "collect"}),
    ("map", {"items": [1, 2], "node": CODE_OF_ITEM}),
    ("map", {"items": "{{ secrets.plain | list }}", "node": ECHO}),
    ("code", {"code": REVERSED, "input_mapping": {"x": "{{ secrets.plain }}"}}),
)  # fmt: skip
REPETITIVE = ("a" * 8188 + "bcde", "bcde" + "a" * 8188, "ab" * 4094 + "cdef", "abcd" * 2048)
"""Secrets of the largest size that are hard to search for."""
TEXTS = "def process(x):\n    return ['a' * 1000 + 'ab' * 200 + str(i) for i in range(4000)]"
LINES = (
    "\n2026-01-01T00:00:00Z [error    ] forged                         user=admin",
    '\r\n{"event": "forged", "level": "error"}',
    "\x1b[2J\x1b]0;forged\x07",
    "\u2028forged\u0085forged\x0bforged",
)


async def repeat_secrets(target: AttackedDeployment) -> AttackResult:
    """Use long secrets that repeat characters, in nodes with 4,000 long texts."""
    answers: list[Any] = [await _set(target, f"repeated_{i}", value) for i, value in enumerate(REPETITIVE)]
    mapping = {"x": " ".join(f"{{{{ secrets.repeated_{i} }}}}" for i in range(len(REPETITIVE)))}
    config = {"code": TEXTS, "input_mapping": mapping}
    spec = {"nodes": [{"id": f"n{i}", "type": "code", "config": config} for i in range(4)], "edges": []}
    test = {"type": "code", "config": config}
    answers += await asyncio.gather(
        target.execute(RUN.replace("events(first: 1000)", "events(first: 1)"), input={"spec": spec, "mode": "SYNC"}),
        *(target.execute(TEST_NODE, input=test) for _ in range(3)),
    )
    return AttackResult(codes(answers))


async def name_secrets_in_hosts(target: AttackedDeployment) -> AttackResult:
    """Put secrets into hosts, ports, names of users and schemes of addresses that fail."""
    return await _leaks(target, [("http", {"url": url, "retry": {"maxAttempts": 1}, "timeoutS": 2}) for url in HOSTS])


async def branch_on_secrets(target: AttackedDeployment) -> AttackResult:
    """Branch on secrets, map over them, and return them in other forms."""
    return await _leaks(target, list(BRANCHES))


async def _leaks(target: AttackedDeployment, nodes: list[tuple[str, dict[str, Any]]]) -> AttackResult:
    """Run and test each node. What responses, checkpoints and the log show of the secrets got through."""
    answers: list[Any] = [await _set(target, "plain", PLAIN), await _set(target, "odd", ODD)]
    logged = len(target.log)
    for type, config in nodes:
        spec = {"nodes": [{"id": "n", "type": type, "config": config}], "edges": []}
        answers.append(await target.execute(RUN, input={"spec": spec, "mode": "SYNC"}))
        answers.append(await target.execute(TEST_NODE, input={"type": type, "config": config}))
    # What an author has written itself is no leak.
    written = str([config for _, config in nodes])
    forms = [form for form in FORMS if form not in written]
    texts = [*map(str, answers), target.log[logged:]]
    passed = [f"a secret is visible: {text[:200]}" for text in texts if any(form in text for form in forms)]
    return AttackResult(codes(answers), 2 * len(nodes), passed)


async def _set(target: AttackedDeployment, name: str, value: str) -> Any:
    return await target.execute(SET_SECRET, input={"projectId": OWN, "name": name, "value": value})


async def forge_log_lines(target: AttackedDeployment) -> AttackResult:
    """Put line breaks and control characters into everything that may be logged."""
    logged, statuses = len(target.log), Counter[str]()
    for line in LINES:
        headers = {
            **target.headers(),
            "origin": line.encode("ascii", "ignore").decode().replace("\n", "").replace("\r", ""),
        }
        header = re.sub(r"[^\x20-\x7e]", "", headers["origin"])
        response = await target.attacker.post("/graphql", json={"query": line}, headers={**headers, "origin": header})
        statuses[f"HTTP {response.status_code}"] += 1
        answers = [
            await target.execute(f"query {line}"),
            await target.execute(
                _code(f"raise ValueError({line!r})")["query"], **_code(f"raise ValueError({line!r})")["variables"]
            ),
            await target.execute(SET_SECRET, input={"projectId": OWN, "name": line, "value": line}),
        ]
        statuses += codes(answers)
        path = await target.attacker.get("/" + re.sub(r"[^a-z]", "%0A", line))
        statuses[f"HTTP {path.status_code}"] += 1
    written = target.log[logged:].split("\n")
    passed = [
        f"forged: {line!r}"[:200] for line in written if re.match(r'\S* ?\[error +\] forged|\{"event": "forged', line)
    ]
    passed += [
        f"a control character: {line!r}"[:200]
        for line in written
        if re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028]", line)
    ]
    return AttackResult(statuses, 5 * len(LINES), passed)


def _code(body: str) -> dict[str, Any]:
    config = {"code": f"def process():\n    {body}"}
    return {"query": TEST_NODE, "variables": {"input": {"type": "code", "config": config}}}
