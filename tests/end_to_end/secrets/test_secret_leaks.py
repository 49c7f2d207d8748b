"""Secrets used by every node type appear in no table, file, stream, log, event or response."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from engine.nodes.registry import load_node_types
from engine.values.redaction import MARK
from tests.end_to_end.support import echo_peers, secret_workflows
from tests.end_to_end.support.recorded_system import (
    EVENTS,
    WHOLE,
    RecordedSystem,
    catalog,
    package,
    run_and_test_row,
    run_row,
    set_up,
)
from tests.end_to_end.support.secret_workflows import MODEL_KEY, ODD, PLAIN, ROWS, forms_in
from tests.end_to_end.support.system import CANCEL, RUN, copy_database, running
from tests.peers import chat
from tests.peers.http import Peer, http_peer

WITHOUT_TEMPLATES = frozenset({"start"})
"""Node types whose config has no templates."""
WITHOUT_OUTPUT = frozenset({"subworkflow"})
"""Node types that use a value without sending it anywhere."""


@pytest.fixture(scope="module")
async def peer() -> AsyncIterator[Peer]:
    async with http_peer() as peer:
        yield peer


@pytest.fixture(scope="module")
async def redis_commands(embedded: tuple[str, str]) -> AsyncIterator[list[str]]:
    """Every command that Redis receives from now on, from any client."""
    commands: list[str] = []
    client = Redis.from_url(embedded[1])
    async with client.monitor() as monitor:
        listening = asyncio.Event()

        async def listen() -> None:
            listening.set()
            async for command in monitor.listen():
                commands.append(str(command["command"]))

        task = asyncio.create_task(listen())
        await listening.wait()
        yield commands
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await client.aclose()


@pytest.fixture(scope="module")
async def recorded(
    template: str,
    embedded: tuple[str, str],
    peer: Peer,
    redis_commands: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RecordedSystem]:
    folder = tmp_path_factory.mktemp("canary")
    models = [
        {"name": name, "base_url": f"{peer.url}/v1", "check": False, "api_key_secret": "model_key"}
        for name in chat.MODELS
    ]
    (folder / "treadle.toml").write_text(catalog())
    settings = {
        "http_allow": "127.0.0.1",
        "models": json.dumps(models),
        "log_level": "debug",
        "data_dir": str(folder),
        "catalog_file": str(folder / "treadle.toml"),
    }
    urls = await copy_database(template, "with_canary"), embedded[1].replace("db=0", "db=3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", package(tmp_path_factory.mktemp("packages")))
        async with running(*urls, log=folder / "treadle.log", **settings) as system:
            recorded = RecordedSystem(system, peer, folder / "treadle.log")
            await set_up(recorded)
            yield recorded


@pytest.fixture
async def everything(recorded: RecordedSystem) -> RecordedSystem:
    """The recorded system after all rows.

    With parallel test processes, others may have run some of them.
    """
    for name in ROWS:
        if name not in recorded.finished_rows:
            await run_and_test_row(recorded, name)
    return recorded


@pytest.mark.parametrize("name", ROWS)
async def test_a_node_leaks_no_secret(recorded: RecordedSystem, name: str) -> None:
    row = ROWS[name]
    run = await run_and_test_row(recorded, name)
    if row.code == "SECRET":
        assert {problem["code"] for problem in run["errors"][0]["errors"]} == {"SECRET"}
    elif row.code is None:
        assert run["error"] is None
        assert run["status"] == "COMPLETED"
    else:
        assert (run["status"], run["error"]["code"]) == ("FAILED", row.code), run["error"]
    assert recorded.leaks(name) == []
    # The masked value proves that the node has sent the secret.
    assert (
        row.code in ("SECRET", "TEMPLATE")
        or row.type in WITHOUT_OUTPUT
        or any(MARK in text for row_name, text in recorded.outputs if row_name == name)
    )


async def test_the_peers_really_receive_the_secrets(recorded: RecordedSystem) -> None:
    """Without this, the tests above prove nothing.

    Peers receive the values in a header, in a body, in a URL, and as the key of a model.
    """
    names = ["http: in a header", "http: in the query", "llm: repeats", "llm: the key of the model", "tool: in base64"]
    runs = {name: await run_row(recorded, name) for name in names}
    requests = [echo_peers.request_text(request) for request in recorded.peer.seen]
    assert any(f"x-key: {ODD}" in text for text in requests)
    assert any(f"x-plain: {PLAIN}" in text for text in requests)
    assert any(json.dumps(f"{PLAIN} and {ODD}")[1:-1] in text for text in requests)
    assert any(f"Bearer {MODEL_KEY}" in text for text in requests)
    assert runs["llm: repeats"]["output"] == {"after": [f"{MARK} and {MARK}", "COMPLETED"]}
    assert runs["tool: in base64"]["output"]["after"][0].startswith(MARK)


async def test_the_partial_output_of_a_cancelled_node_contains_no_secret(recorded: RecordedSystem) -> None:
    config = {"model": "echo-hangs", "prompt": secret_workflows.BOTH}
    spec = {"nodes": [{"id": "n", "type": "llm", "config": config}], "edges": []}
    run_id = (await recorded.execute("cancelled", RUN, input={"spec": spec, "mode": "ASYNC"}))["runAdhoc"]["run"]["id"]
    recorded.peer.left.clear()
    async with asyncio.timeout(60), recorded.recording("cancelled", run_id):
        async for event in recorded.system.subscribe(EVENTS, id=run_id):
            # A reader that joins after the next event of the node finds the text in its state.
            if event["runEvents"].get("text") or event["runEvents"].get("nodeState", {}).get("partialOutput"):
                break
        await recorded.system.execute(CANCEL, id=run_id)
    run = (await recorded.execute("cancelled", WHOLE, id=run_id))["run"]
    assert run["status"] == "CANCELLED"
    assert run["nodeStates"][0]["partialOutput"].startswith(f"{MARK} and")
    assert recorded.leaks("cancelled") == []


async def test_the_response_to_an_invalid_call_does_not_repeat_a_secret(recorded: RecordedSystem) -> None:
    address = f"http://127.0.0.1:{recorded.system.port}/graphql"
    query = "mutation ($i: SetSecretInput!) { setSecret(input: $i) { errors { detail } } }"
    inputs: list[Any] = [
        {"name": "a", "value": [PLAIN]},
        {"name": "a", "vlue": ODD},
        {"name": f"{PLAIN}-", "value": ODD},
        PLAIN,
    ]
    bodies = [json.dumps({"query": query, "variables": {"i": one}}) for one in inputs]
    text = f'mutation {{ setSecret(input: {{name: "a", value: "{PLAIN}"}}) {{ errors {{ detail }} }} }}'
    bodies += [bodies[0][:-4], text, json.dumps([PLAIN]), json.dumps({"query": text.replace('"}', "}")})]
    async with httpx.AsyncClient(trust_env=False) as client:
        for body in bodies:
            response = await client.post(address, content=body, headers={"content-type": "application/json"})
            recorded.outputs.append(("an invalid call", response.text))
        response = await client.get(address, params={"query": text})
        recorded.outputs.append(("an invalid call", response.text))
    assert recorded.leaks("an invalid call") == []


async def test_every_node_type_has_a_row() -> None:
    assert set(load_node_types()) - WITHOUT_TEMPLATES == {row.type for row in ROWS.values()} - {"faulty"}


async def test_no_table_contains_a_secret(everything: RecordedSystem) -> None:
    connection = await asyncpg.connect(everything.system.database_url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = 0
        for (table,) in tables:
            for row in await connection.fetch(f'SELECT * FROM "{table}"'):
                rows += 1
                for column, value in row.items():
                    data = value if isinstance(value, bytes) else str(value)
                    assert forms_in(data) == [], f"{table}.{column} of {row}"
    finally:
        await connection.close()
    assert {"events", "node_outputs", "checkpoints", "waits", "secrets"} <= {table for (table,) in tables}
    assert rows > 10 * len(ROWS)


async def test_no_file_of_postgres_contains_a_secret(everything: RecordedSystem) -> None:
    """Files include the write-ahead log, with deleted rows, and the log of the server."""
    connection = await asyncpg.connect(everything.system.database_url)
    try:
        await connection.execute("CHECKPOINT")
        folder = Path(await connection.fetchval("SHOW data_directory")).parent
    finally:
        await connection.close()
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any("pg_wal" in file.parts for file in files)
    for file in files:
        assert forms_in(file.read_bytes()) == [], file


async def test_redis_contains_and_receives_no_secret(everything: RecordedSystem, redis_commands: list[str]) -> None:
    client = Redis.from_url(everything.system.redis_url)
    reads: dict[bytes, Any] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    kinds = set()
    async for key in client.scan_iter():
        kinds.add(kind := await client.type(key))
        assert forms_in(repr((key, await reads[kind](key)))) == [], key
    await client.aclose()
    assert b"stream" in kinds
    assert any("XADD" in command for command in redis_commands)
    assert [command for command in redis_commands if forms_in(command)] == []


async def test_no_log_line_contains_a_secret(everything: RecordedSystem) -> None:
    lines = everything.log.read_text().splitlines()
    assert sum(f"RuntimeError: '{MARK} and {MARK}' cannot be used" in line for line in lines) >= 2, lines
    assert [line for line in lines if forms_in(line)] == []
