"""Secrets in a whole Treadle: used by every node type, and found in no table, no stream, no log, no event and no answer."""

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
from tests.end_to_end import echo_peers, secret_workflows
from tests.end_to_end.recorded_system import EVENTS, WHOLE, Watched, catalog, package, play, run_row, set_all
from tests.end_to_end.secret_workflows import MODEL_KEY, ODD, PLAIN, ROWS, found_in
from tests.end_to_end.system import CANCEL, RUN, copied, running
from tests.peers import chat
from tests.peers.http import Peer, http_peer

WITHOUT = frozenset({"start"})
"""Node types whose config has no templates."""
DECIDING = frozenset({"conditional", "switch", "delay", "subworkflow"})
"""Those that go by a value and do not tell it."""


@pytest.fixture(scope="module")
async def peer() -> AsyncIterator[Peer]:
    async with http_peer() as peer:
        yield peer


@pytest.fixture(scope="module")
async def heard(embedded: tuple[str, str]) -> AsyncIterator[list[str]]:
    """Every command that Redis gets from now on, whoever sends it."""
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
async def watched(
    template: str, embedded: tuple[str, str], peer: Peer, heard: list[str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Watched]:
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
    urls = await copied(template, "with_canary"), embedded[1].replace("db=0", "db=3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", package(tmp_path_factory.mktemp("packages")))
        async with running(*urls, log=folder / "treadle.log", **settings) as system:
            watched = Watched(system, peer, folder / "treadle.log")
            await set_all(watched)
            yield watched


@pytest.fixture
async def everything(watched: Watched) -> Watched:
    """With every row played here: where tests are shared out, another process may have taken some."""
    for name in ROWS:
        if name not in watched.played:
            await play(watched, name)
    return watched


@pytest.mark.parametrize("name", ROWS)
async def test_a_node_tells_no_secret(watched: Watched, name: str) -> None:
    row = ROWS[name]
    run = await play(watched, name)
    if row.code == "SECRET":
        assert {problem["code"] for problem in run["errors"][0]["errors"]} == {"SECRET"}
    elif row.code is None:
        assert run["error"] is None
        assert run["status"] == "COMPLETED"
    else:
        assert (run["status"], run["error"]["code"]) == ("FAILED", row.code), run["error"]
    assert watched.wrong(name) == []
    # It was there to be hidden.
    assert row.type in DECIDING or any(MARK in text for what, text in watched.told if what == name)


async def test_the_peers_were_really_given_them(watched: Watched) -> None:
    """Else nothing above says anything. Each can be seen by a peer: in a header, in a body, in a URL, as the key of a model."""
    names = ["http: in a header", "http: in the query", "llm: repeats", "llm: the key of the model", "tool: in base64"]
    runs = {name: await run_row(watched, name) for name in names}
    seen = [echo_peers.whole(request) for request in watched.peer.seen]
    assert any(f"x-key: {ODD}" in text for text in seen)
    assert any(f"x-plain: {PLAIN}" in text for text in seen)
    assert any(json.dumps(f"{PLAIN} and {ODD}")[1:-1] in text for text in seen)
    assert any(f"Bearer {MODEL_KEY}" in text for text in seen)
    assert runs["llm: repeats"]["output"] == {"after": [f"{MARK} and {MARK}", "COMPLETED"]}
    assert runs["tool: in base64"]["output"]["after"][0].startswith(MARK)


async def test_a_cancelled_node_leaves_none_in_what_it_had_said(watched: Watched) -> None:
    config = {"model": "parrot-hangs", "prompt": secret_workflows.BOTH}
    spec = {"nodes": [{"id": "n", "type": "llm", "config": config}], "edges": []}
    run_id = (await watched.ask("cancelled", RUN, input={"spec": spec, "mode": "ASYNC"}))["runAdhoc"]["run"]["id"]
    watched.peer.left.clear()
    async with asyncio.timeout(60), watched.watching("cancelled", run_id):
        async for event in watched.system.follow(EVENTS, id=run_id):
            if event["runEvents"].get("text"):
                break
        await watched.system.ask(CANCEL, id=run_id)
    run = (await watched.ask("cancelled", WHOLE, id=run_id))["run"]
    assert run["status"] == "CANCELLED"
    assert run["nodeStates"][0]["partialOutput"].startswith(f"{MARK} and")
    assert watched.wrong("cancelled") == []


async def test_a_wrong_call_is_not_repeated_by_the_server(watched: Watched) -> None:
    address = f"http://127.0.0.1:{watched.system.port}/graphql"
    query = "mutation ($i: SetSecretInput!) { setSecret(input: $i) { errors { detail } } }"
    given: list[Any] = [
        {"name": "a", "value": [PLAIN]},
        {"name": "a", "vlue": ODD},
        {"name": f"{PLAIN}-", "value": ODD},
        PLAIN,
    ]
    bodies = [json.dumps({"query": query, "variables": {"i": one}}) for one in given]
    text = f'mutation {{ setSecret(input: {{name: "a", value: "{PLAIN}"}}) {{ errors {{ detail }} }} }}'
    bodies += [bodies[0][:-4], text, json.dumps([PLAIN]), json.dumps({"query": text.replace('"}', "}")})]
    async with httpx.AsyncClient(trust_env=False) as client:
        for body in bodies:
            answer = await client.post(address, content=body, headers={"content-type": "application/json"})
            watched.told.append(("a wrong call", answer.text))
        answer = await client.get(address, params={"query": text})
        watched.told.append(("a wrong call", answer.text))
    assert watched.wrong("a wrong call") == []


async def test_every_node_type_has_a_row() -> None:
    assert set(load_node_types()) - WITHOUT == {row.type for row in ROWS.values()} - {"faulty"}


async def test_no_table_holds_one(everything: Watched) -> None:
    connection = await asyncpg.connect(everything.system.database_url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = 0
        for (table,) in tables:
            for row in await connection.fetch(f'SELECT * FROM "{table}"'):
                rows += 1
                for column, value in row.items():
                    data = value if isinstance(value, bytes) else str(value)
                    assert found_in(data) == [], f"{table}.{column} of {row}"
    finally:
        await connection.close()
    assert {"events", "node_outputs", "checkpoints", "waits", "secrets"} <= {table for (table,) in tables}
    assert rows > 10 * len(ROWS)


async def test_no_file_of_postgres_holds_one(everything: Watched) -> None:
    """Not even one that was deleted: the write-ahead log is among them, and what the servers log."""
    connection = await asyncpg.connect(everything.system.database_url)
    try:
        await connection.execute("CHECKPOINT")
        folder = Path(await connection.fetchval("SHOW data_directory")).parent
    finally:
        await connection.close()
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any("pg_wal" in file.parts for file in files)
    for file in files:
        assert found_in(file.read_bytes()) == [], file


async def test_redis_holds_none_and_was_told_none(everything: Watched, heard: list[str]) -> None:
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
        assert found_in(repr((key, await reads[kind](key)))) == [], key
    await client.aclose()
    assert b"stream" in kinds
    assert any("XADD" in command for command in heard)
    assert [command for command in heard if found_in(command)] == []


async def test_no_line_of_a_log_holds_one(everything: Watched) -> None:
    lines = everything.log.read_text().splitlines()
    assert sum(f"RuntimeError: '{MARK} and {MARK}' cannot be used" in line for line in lines) >= 2, lines
    assert [line for line in lines if found_in(line)] == []
