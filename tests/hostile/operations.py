"""Attacks of a caller with operations: the largest bodies and documents, and the worst allowed queries."""

import asyncio
import json
from collections import Counter
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.hostile.deployment import AttackedDeployment
from tests.hostile.report import AttackResult, codes

MAX_BODY = 4 * 1024 * 1024
EVALUATE = 'query ($context: JSON!) { evaluateExpression(expression: "1", context: $context) { type } }'
VALIDATE = "query ($spec: JSON!) { validateSpec(spec: $spec) { ok } }"
RUN = "mutation ($input: RunAdhocInput!) { runAdhoc(input: $input) { run { id status } errors { code } } }"
TRANSPORT = Subprotocol("graphql-transport-ws")
FILLINGS = {
    "objects": "{}",
    "lists": "[[]]",
    "records": '{"a":1,"b":"cccccccc"}',
    "rows": "[1,2,3,4,5,6,7,8,9,0]",
    "numbers": "1.5",
    "texts": '"a"',
    "escapes": '"\\u00e9"',
}
"""What a large body repeats. Each costs another part of the server most."""
NODES = {"nodes": [{"id": "a", "type": "transform", "config": {"output": "{{ input.x | length }}"}}], "edges": []}
RUN_FIELDS = """id source status statusMessage inputs output progress attempt lineage lastSeq mode createdBy deadlineAt
createdAt queuedAt startedAt resumedAt pausedAt cancelledAt finishedAt historyExpiredAt"""


def _body(query: str, name: str, filling: str) -> bytes:
    """Return a body of nearly the largest size, whose variable is a list with one value again and again."""
    empty = json.dumps({"query": query, "variables": {name: {"x": []}}})
    count = (MAX_BODY - len(empty) - 100) // (len(filling) + 1)
    return empty.replace("[]", f"[{','.join([filling] * count)}]").encode()


def _body_of_keys() -> bytes:
    """Return a body of nearly the largest size, whose variable is an object with short keys."""
    members = ",".join(f'"{number:x}":1' for number in range(380_000))
    return json.dumps({"query": EVALUATE, "variables": {"context": {"x": 0}}}).replace('"x": 0', members).encode()


async def send_largest_bodies(target: AttackedDeployment) -> AttackResult:
    """Send 28 bodies of 4 MiB at once, with different values."""
    bodies = [*(_body(EVALUATE, "context", filling) for filling in FILLINGS.values()), _body_of_keys()]
    return AttackResult(codes(await asyncio.gather(*(_post(target, body) for body in bodies * 4))))


async def validate_largest_specs(target: AttackedDeployment) -> AttackResult:
    """Send 12 specs of 4 MiB at once, with different values."""
    bodies = [_body(VALIDATE, "spec", filling) for filling in FILLINGS.values()]
    return AttackResult(codes(await asyncio.gather(*(_post(target, body) for body in bodies * 2))))


async def send_largest_messages(target: AttackedDeployment) -> AttackResult:
    """Send messages of 4 MiB on 21 WebSockets at once."""
    bodies = [_body(EVALUATE, "context", filling) for filling in FILLINGS.values()]
    answers = await asyncio.gather(*(_message(target, body) for body in bodies * 3))
    return AttackResult(sum(answers, Counter()))


async def start_runs_with_large_inputs(target: AttackedDeployment) -> AttackResult:
    """Start 16 runs with inputs of 1 MiB at once."""
    inputs = [
        {"x": json.loads(f"[{','.join([filling] * (1_000_000 // (len(filling) + 1)))}]")}
        for filling in FILLINGS.values()
    ]
    calls = [{"spec": NODES, "inputs": one, "mode": "SYNC", "timeoutMs": 20_000} for one in inputs * 3]
    return AttackResult(codes(await asyncio.gather(*(target.execute(RUN, input=call) for call in calls))))


async def send_worst_documents(target: AttackedDeployment) -> AttackResult:
    """Send 30 documents with as many fields, tokens and levels as are allowed, none of them twice."""
    return AttackResult(codes(await asyncio.gather(*(target.execute(_document(number)) for number in range(30)))))


async def read_worst_pages(target: AttackedDeployment) -> AttackResult:
    """Send 12 queries at once that cost as many points as are allowed."""
    runs = f"{{ runs(first: 100) {{ nodes {{ {RUN_FIELDS} }} }} }}"
    events = "{ runs(first: 15) { nodes { id events(first: 1000) { nodes { __typename seq at nodeId } } } } }"
    nested = "{ runs(first: 20) { nodes { id nodeStates { nodeId status output input error { code } } version { id spec } } } }"
    return AttackResult(codes(await asyncio.gather(*(target.execute(query) for query in [runs, events, nested] * 4))))


def _document(number: int) -> str:
    """Return a document with 390 fields that overlap, which takes longest to validate, and many values."""
    fields = "viewer { subject scopes projects { id } }\n" * 75
    values = ",".join("1" for _ in range(2000))
    return (
        f'# {number}\nquery {{ {fields} evaluateExpression(expression: "1", context: {{x: [{values}]}}) {{ type }} }}'
    )


async def _post(target: AttackedDeployment, body: bytes) -> Any:
    headers = {"content-type": "application/json", **target.headers()}
    response = await target.attacker.post("/graphql", content=body, headers=headers)
    return response.json()


async def _message(target: AttackedDeployment, body: bytes) -> Counter[str]:
    """Send an operation on a socket of its own. Returns the codes of its answer, or the close code."""
    uri = f"ws://127.0.0.1:{target.port}/graphql"
    async with connect(
        uri,
        subprotocols=[TRANSPORT],
        proxy=None,
        max_size=None,
        ping_interval=None,
        additional_headers=target.headers(),
    ) as socket:
        await socket.send('{"type": "connection_init"}')
        await socket.recv()
        try:
            await socket.send(f'{{"id": "1", "type": "subscribe", "payload": {body.decode()}}}')
            return codes(json.loads(await socket.recv()))
        except ConnectionClosed as closed:
            return Counter([f"close code {closed.rcvd.code if closed.rcvd else 'none'}"])
