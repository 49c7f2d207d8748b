"""Attacks on the boundaries between processes, stores, projects and sites. Nothing may get through."""

import asyncio
import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
from arq.constants import job_key_prefix
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.hostile.deployment import OTHER, OWN, AttackedDeployment
from tests.hostile.report import AttackResult, codes

QUEUE = "treadle"
TEST_NODE = """
mutation ($input: TestNodeInput!) { testNode(input: $input) { output error { code message } errors { code } } }
"""
RUN = "mutation ($input: RunAdhocInput!) { runAdhoc(input: $input) { run { id status output error { code } } errors { code } } }"
SESSION_CHANGES = (
    "SELECT set_config('role', 'victims', false)",
    "SELECT set_config('session_authorization', 'victims', false)",
    "SELECT set_config('search_path', 'pg_catalog, evil', false)",
    "SELECT set_config('statement_timeout', '1', false)",
    "SELECT set_config('timezone', 'Asia/Tokyo', false)",
    "SELECT pg_advisory_lock(42)::text",
    "SELECT pg_notify('evil', 'x')::text",
    "SELECT set_config('default_transaction_read_only', 'off', false)",
    "SELECT lo_create(4711)",
)
SESSION = """SELECT current_user::text AS u, session_user::text AS s, current_setting('search_path') AS p,
current_setting('timezone') AS z, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS l"""
CHANGES = 'mutation { createProject(input: {name: "evil"}) { project { id } errors { code } } }'
READ = "{ viewer { subject } }"
WAITING = {"id": "a", "type": "delay", "config": {"seconds": 3}}
TEXT = {"content-type": "text/plain"}
GUARDED_CALL = json.dumps([{"name": "sql:guarded", "arguments": {"query": "SELECT 1"}}])
OURS = ("TREADLE_", "PYTHON", "LOOP_MONITOR", "PG")
"""The beginnings of variables that only the processes of the host may have."""
SITES = ("cross-site", "same-site")
CHAIN = [{"source": "n0", "target": "n1"}, {"source": "n1", "target": "n2"}]
GARBAGE = b"written by another user of this Redis"
MALFORMED = (b"", b"\xff\x00", b"null", b"[]", b"{}", b"5", b"[{}]", b"[[]]", b'[{"type": "NODE_STATE"}]', b'["a"]', b"9" * 5000,
    b"[" * 5000, b'{"projectId": 5}', b"progress \xff", b"*" * 100_000)  # fmt: skip
"""Entries and messages that another program could write to a shared Redis."""
EVIL = "https://evil.example"


class Touch:
    """Creates a file when its pickle is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


async def inherit_descriptors(target: AttackedDeployment) -> AttackResult:
    """Start an MCP server, a sandbox and helpers, and look for sockets and variables of their parent."""
    code = {"type": "code", "config": {"code": "def process():\n    return 1"}}
    tool = {"type": "tool", "config": {"tool": "mcp:desk/add", "arguments": {"a": 1, "b": 2}}}
    heavy = {"type": "transform", "config": {"output": "{% for i in range(90000) %}{{ range(9) | sum }}{% endfor %}"}}
    answers = [await target.execute(TEST_NODE, input=node) for node in (code, tool, heavy)]
    tried, passed = 0, []
    for process in target.system.processes[:2]:
        own = _sockets(process.pid)
        for child in _descendants(process.pid):
            tried += 1
            passed += [f"process {child} holds {name} of its parent" for name in _sockets(child) & own]
            passed += [
                f"process {child} has the variable {name}" for name in _variables(child) if name.startswith(OURS)
            ]
    assert tried >= 2, "no child of the server or worker was found"
    return AttackResult(codes(answers), tried, passed)


def _descendants(pid: int) -> list[int]:
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [*children, *(inner for child in children for inner in _descendants(child))]


def _variables(pid: int) -> list[str]:
    return [line.partition("=")[0] for line in Path(f"/proc/{pid}/environ").read_text().split("\0")]


def _sockets(pid: int) -> set[str]:
    """Return the sockets that a process holds, by their names with inode numbers."""
    names = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue  # It was closed in the meantime.
    return {name for name in names if name.startswith("socket:")}


async def leave_session_state(target: AttackedDeployment) -> AttackResult:
    """Change roles, settings, locks and messages by the tool `sql`; then another project queries."""
    refused, passed = Counter[str](), []
    listener = await asyncpg.connect(target.system.database_url)
    await listener.add_listener("evil", lambda *message: passed.append(f"a notification: {message[-1]}"))
    before = await _query_as_other(target, SESSION)
    assert before is not None, "the other project cannot query"
    for change in SESSION_CHANGES:
        config = {"tool": "sql:shop", "arguments": {"query": change}}
        answer = await target.execute(TEST_NODE, input={"type": "tool", "config": config})
        refused += codes(answer)
        after = await _query_as_other(target, SESSION)
        if after != before:
            passed.append(f"{change}: the next query has {after}")
    await listener.close()
    return AttackResult(refused, len(SESSION_CHANGES), passed)


async def _query_as_other(target: AttackedDeployment, query: str) -> Any:
    node = {"type": "tool", "config": {"tool": "sql:shop", "arguments": {"query": query}}, "projectId": OTHER}
    answer = await target.execute_as(target.headers("other", {OTHER: "editor"}), TEST_NODE, input=node)
    return answer["data"]["testNode"]["output"]


async def write_pickles(target: AttackedDeployment) -> AttackResult:
    """Write pickles to every key of the queue in Redis, and wait until a run was started after them."""
    redis, file = Redis.from_url(target.system.redis_url), target.folder / "executed"
    attack, spec = pickle.dumps(Touch(file)), {"nodes": [WAITING], "edges": []}
    started = await target.execute(RUN, input={"spec": spec, "mode": "ASYNC"})
    run = started["data"]["runAdhoc"]["run"]["id"]
    for number in range(50):
        await redis.set(f"{job_key_prefix}{QUEUE}:{number}", attack)
        await redis.set(f"{job_key_prefix}{number}", attack)
        await redis.zadd(QUEUE, {f"{QUEUE}:{number}": 1, str(number): 1})
        await redis.set(f"arq:result:{number}", attack)
        for channel in ("rests", f"runs:{OWN}", f"progress:{OWN}"):
            await redis.publish(channel, attack)
        await redis.xadd(f"events:{run}", {"e": attack})
    spec = {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}
    answers = [await target.execute(RUN, input={"spec": spec, "mode": "SYNC"}) for _ in range(20)]
    await redis.aclose()
    return AttackResult(codes(answers), 50, ["a pickle was executed"] if file.exists() else [])


async def write_malformed_entries(target: AttackedDeployment) -> AttackResult:
    """Write wrong types and entries to every key of Redis during a run that is watched: nobody may miss its end."""
    redis, tried, passed = Redis.from_url(target.system.redis_url), 0, []
    spec = {"nodes": [{"id": f"n{i}", "type": "delay", "config": {"seconds": 0.2}} for i in range(3)], "edges": CHAIN}
    for garbage in (_write_entries, _write_large_id, _write_other_types):
        started = await target.execute(RUN, input={"spec": spec, "mode": "ASYNC"})
        run, tried = started["data"]["runAdhoc"]["run"]["id"], tried + 1
        watching = asyncio.ensure_future(_watch(target, run))
        await garbage(redis, run)
        try:
            seen = await asyncio.wait_for(watching, 30)
        except TimeoutError:
            seen = ["nothing"]
        if seen[-1:] != ["COMPLETED"] or seen != sorted(set(seen), key=seen.index):
            passed.append(f"{garbage.__name__}: the watcher has seen {seen}")
    keys = [key async for key in redis.scan_iter("*") if await redis.type(key) == b"string"]
    await redis.delete(*[key for key in keys if await redis.get(key) == GARBAGE])
    await redis.aclose()
    light = {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}
    answers = [await target.execute(RUN, input={"spec": light, "mode": "SYNC"}) for _ in range(5)]
    passed += [f"a run failed: {answer}" for answer in answers if "COMPLETED" not in str(answer)]
    return AttackResult(codes(answers), tried, passed)


async def _write_entries(redis: Any, run: str) -> None:
    for entry in MALFORMED:
        await redis.xadd(f"events:{run}", {"e": entry})
        await redis.xadd(f"events:{run}", {"d": entry})
        await redis.xadd(f"events:{run}", {"other": entry})
        for channel in (await redis.pubsub_channels("*")) or ["rests"]:
            await redis.publish(channel, entry)
        await redis.set(f"{job_key_prefix}{QUEUE}:bad", entry)
        await redis.zadd(QUEUE, {f"{QUEUE}:bad": 1, entry: 2})


async def _write_large_id(redis: Any, run: str) -> None:
    await redis.xadd(f"events:{run}", {"e": b"[]"}, id=f"{2**63}-0")


async def _write_other_types(redis: Any, run: str) -> None:
    for key in {f"events:{run}".encode(), QUEUE.encode(), *[key async for key in redis.scan_iter("*")]}:
        await redis.set(key, GARBAGE)


async def _watch(target: AttackedDeployment, run: str) -> list[str]:
    """Watch a run until the subscription ends. Returns the statuses that it has shown."""
    uri, protocol, statuses = f"ws://127.0.0.1:{target.port}/graphql", Subprotocol("graphql-transport-ws"), list[str]()
    query = f'subscription {{ runEvents(runId: "{run}") {{ seq ... on RunStatusChanged {{ status }} }} }}'
    async with connect(uri, subprotocols=[protocol], additional_headers=target.headers(), proxy=None) as socket:
        await socket.send('{"type": "connection_init"}')
        await socket.recv()
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": query}}))
        while (message := json.loads(await socket.recv()))["type"] == "next":
            event = message["payload"]["data"]["runEvents"]
            statuses += [event["status"]] if "status" in event else []
        return statuses if message["type"] == "complete" else [*statuses, str(message)[:200]]


async def send_from_other_sites(target: AttackedDeployment) -> AttackResult:
    """Send queries, changes and subscriptions as a browser does for a page of another site."""
    statuses, passed, tried = Counter[str](), [], 0
    marks = [*({"sec-fetch-site": site} for site in SITES), {"origin": EVIL}, {"origin": "null"}]
    for mark in marks:
        headers = {**target.headers(), **mark, "cookie": "a=b"}
        for query in (READ, CHANGES):
            responses = [
                await target.attacker.get("/graphql", params={"query": query}, headers=headers),
                await target.attacker.post("/graphql", json={"query": query}, headers=headers),
                await target.attacker.post("/graphql", content=json.dumps({"query": query}), headers={**headers, **TEXT}),
                await target.attacker.post("/graphql", data={"query": query}, headers=headers),
                await target.attacker.get("/graphql", params={"query": "{ tools { name } }"}, headers=headers),
            ]  # fmt: skip
            tried += len(responses)
            statuses.update(f"HTTP {response.status_code}" for response in responses)
            passed += [f"{mark}: {response.text[:100]}" for response in responses if response.status_code == 200]
    for origin in (EVIL, "null"):
        tried += 1
        try:
            uri, protocol = f"ws://127.0.0.1:{target.port}/graphql", Subprotocol("graphql-transport-ws")
            async with connect(
                uri, subprotocols=[protocol], origin=Origin(origin), additional_headers=target.headers(), proxy=None
            ):
                passed.append(f"a WebSocket of {origin}")
        except InvalidStatus as refused:
            statuses[f"HTTP {refused.response.status_code}"] += 1
    return AttackResult(statuses, tried, passed)


async def read_files_of_the_host(target: AttackedDeployment) -> AttackResult:
    """Look for files in the data folder that another user of the machine may read."""
    files = [path for path in target.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    passed = [f"{path} can be read by others" for path in files if _is_open(path, target.folder)]
    assert files, "the data folder is empty"
    return AttackResult(Counter(), len(files), passed)


def _is_open(path: Path, folder: Path) -> bool:
    """Whether other users may read a file: its own mode, and the modes of the folders above it."""
    folders = [parent for parent in path.parents if parent.is_relative_to(folder)]
    if any(part.startswith("programs-") for part in path.parts):
        return False  # A copy of Postgres's programs, which are public.
    return bool(path.stat().st_mode & 0o044) and all(parent.stat().st_mode & 0o011 for parent in folders)


async def call_tools_beyond_scopes(target: AttackedDeployment) -> AttackResult:
    """Call tools that need the scope `admin` as a runner and an editor: by nodes, code, and an agent."""
    arguments = {"tool": "sql:guarded", "arguments": {"query": "SELECT 1 AS n"}}
    nodes = [
        ("tool", arguments),
        ("tool", {"tool": "mcp:guarded/add", "arguments": {"a": 1, "b": 2}}),
        ("code", {"code": "def process():\n    return sql_guarded(query='SELECT 1 AS n')"}),
        ("map", {"items": [1], "node": {"type": "tool", "config": arguments}}),
        ("agent", {"model": "calls", "prompt": GUARDED_CALL, "tools": ["sql:guarded"]}),
    ]  # fmt: skip
    answers, passed, tried = list[Any](), [], 0
    for role in ("runner", "editor"):
        headers = target.headers(f"a {role}", {OWN: role})
        for type, config in nodes:
            test = await target.execute_as(headers, TEST_NODE, input={"type": type, "config": config})
            spec = {"nodes": [{"id": "a", "type": type, "config": config}], "edges": []}
            run = await target.execute_as(headers, RUN, input={"spec": spec, "mode": "SYNC"})
            tried, answers = tried + 2, [*answers, test, run]
            passed += [f"{role}, {type}: {answer}"[:300] for answer in (test, run) if _called(answer)]
    return AttackResult(codes(answers), tried, passed)


def _called(answer: Any) -> bool:
    """Whether an answer contains the result of the guarded tool."""
    return "'n': 1" in str(answer) or '"n": 1' in str(answer)


async def reach_other_projects(target: AttackedDeployment) -> AttackResult:
    """Read, start, change and watch the objects of another project by their ids."""
    theirs = target.headers("other", {OTHER: "editor"})
    spec = {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}
    create = (
        "mutation ($input: CreateWorkflowInput!) { createWorkflow(input: $input) { workflow { id } errors { code } } }"
    )
    made = await target.execute_as(theirs, create, input={"name": "theirs", "spec": spec, "projectId": OTHER})
    workflow = made["data"]["createWorkflow"]["workflow"]["id"]
    ran = await target.execute_as(theirs, RUN, input={"spec": spec, "mode": "SYNC", "projectId": OTHER})
    run = ran["data"]["runAdhoc"]["run"]["id"]
    operations = [
        f'{{ node(id: "{workflow}") {{ id }} }}',
        f'{{ nodes(ids: ["{workflow}", "{run}"]) {{ id }} }}',
        f'{{ workflow(id: "{workflow}") {{ name }} }}',
        f'{{ run(id: "{run}") {{ output }} }}',
        f'{{ runs(projectId: "{OTHER}") {{ nodes {{ id }} }} }}',
        f'{{ secrets(projectId: "{OTHER}") {{ name }} }}',
        f'{{ project(id: "{OTHER}") {{ name }} }}',
        f'mutation {{ runWorkflow(input: {{workflowId: "{workflow}"}}) {{ run {{ id }} errors {{ code }} }} }}',
        f'mutation {{ cancelRun(input: {{runId: "{run}"}}) {{ run {{ id }} errors {{ code }} }} }}',
        f'mutation {{ retryRun(input: {{runId: "{run}"}}) {{ run {{ id }} errors {{ code }} }} }}',
        f'mutation {{ deleteWorkflow(input: {{workflowId: "{workflow}"}}) {{ deletedId errors {{ code }} }} }}',
        f'mutation {{ setSecret(input: {{projectId: "{OTHER}", name: "a", value: "abcdefgh1"}}) {{ secret {{ name }} }} }}',
    ]
    answers = [await target.execute(operation) for operation in operations]
    passed = [f"{text}: {answer}"[:300] for text, answer in zip(operations, answers, strict=True) if _shows(answer)]
    return AttackResult(codes(answers), len(operations), passed)


def _shows(answer: Any) -> bool:
    """Whether an answer holds any value besides null, errors and empty lists."""

    def values(value: Any) -> bool:
        if isinstance(value, dict):
            return any(values(inner) for name, inner in value.items() if name != "errors")
        return any(map(values, value)) if isinstance(value, list) else value is not None

    return values(answer.get("data"))


async def rotate_keys_under_load(target: AttackedDeployment) -> AttackResult:
    """Rotate the key of the secrets while runs and node tests use them. None of them may fail."""
    value = "rotated-secret-value-1"
    await target.execute(
        "mutation ($input: SetSecretInput!) { setSecret(input: $input) { errors { code } } }",
        input={"projectId": OWN, "name": "rotated", "value": value},
    )
    config = {"tool": "json_query", "arguments": {"data": f"{{{{ secrets.rotated == '{value}' }}}}", "expression": "@"}}
    spec = {
        "nodes": [{"id": f"n{i}", "type": "tool", "config": config} for i in range(10)],
        "edges": [{"source": f"n{i}", "target": f"n{i + 1}"} for i in range(9)],
    }
    process = target.system.start("rotate-key")
    waiting = asyncio.ensure_future(asyncio.to_thread(process.wait, 60))
    answers: list[Any] = []
    while not waiting.done():
        calls = [target.execute(RUN, input={"spec": spec, "mode": "SYNC"}) for _ in range(4)]
        calls.append(target.execute(TEST_NODE, input={"type": "tool", "config": config}))
        answers += await asyncio.gather(*calls)
    target.system.processes.remove(process)
    passed = [] if await waiting == 0 else ["the rotation failed"]
    passed += [f"a use of a secret failed: {answer}"[:300] for answer in answers if "True" not in str(answer)]
    return AttackResult(codes(answers), len(answers), passed)


async def watch_deleted_workflows(target: AttackedDeployment) -> AttackResult:
    """Watch a workflow and its run, delete both, and start runs: no watcher may hear more of them."""
    spec = {"nodes": [{"id": "a", "type": "delay", "config": {"seconds": 60}}], "edges": []}
    create = (
        "mutation ($input: CreateWorkflowInput!) { createWorkflow(input: $input) { workflow { id } errors { code } } }"
    )
    made = await target.execute(create, input={"name": "deleted", "spec": spec})
    workflow = made["data"]["createWorkflow"]["workflow"]["id"]
    start = "mutation ($input: RunWorkflowInput!) { runWorkflow(input: $input) { run { id } errors { code } } }"
    started = await target.execute(start, input={"workflowId": workflow})
    run = started["data"]["runWorkflow"]["run"]["id"]
    uri, protocol = f"ws://127.0.0.1:{target.port}/graphql", Subprotocol("graphql-transport-ws")
    async with connect(uri, subprotocols=[protocol], additional_headers=target.headers(), proxy=None) as socket:
        await socket.send('{"type": "connection_init"}')
        await socket.recv()
        watched = {
            "updates": f'subscription {{ runUpdates(runId: "{run}") {{ __typename }} }}',
            "events": f'subscription {{ runEvents(runId: "{run}") {{ seq }} }}',
            "states": f'subscription {{ nodeStates(runId: "{run}") {{ seq }} }}',
        }
        for id, query in watched.items():
            await socket.send(json.dumps({"id": id, "type": "subscribe", "payload": {"query": query}}))
        delete = (
            "mutation ($input: DeleteWorkflowInput!) { deleteWorkflow(input: $input) { deletedId errors { code } } }"
        )
        deleted = await target.execute(delete, input={"id": workflow, "cancelRuns": True})
        open_operations = set(watched)
        async with asyncio.timeout(20):
            while open_operations:
                message = json.loads(await socket.recv())
                if message["type"] in ("complete", "error"):
                    open_operations.discard(message["id"])
    read = await target.execute(f'{{ run(id: "{run}") {{ id }} }}')
    again = await target.execute(start, input={"workflowId": workflow})
    passed = [f"the workflow starts: {again}"] if again["data"]["runWorkflow"]["run"] else []
    return AttackResult(codes([deleted, read, again]), 1 + len(watched), passed)
