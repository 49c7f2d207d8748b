"""Secrets with real processes: keys are rotated, lost and restored while a worker runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from persistence.secrets.key_file import NAME, read
from tests.end_to_end.support.client_actions import mutate
from tests.end_to_end.support.system import SystemUnderTest, running
from tests.peers import chat
from tests.peers.http import Peer

VALUE = "sk-canary-5tGb6yHn7uJm"
SECRETS = "{ secrets { name updatedBy lastUsedAt } }"
MODELS = "{ models { name available problem } }"
ASK = {"nodes": [{"id": "ask", "type": "llm", "config": {"model": "repeats", "prompt": "hello"}}], "edges": []}


@pytest.fixture
async def system(database_url: str, redis_url: str, peer: Peer, tmp_path: Path) -> AsyncIterator[SystemUnderTest]:
    model = {"name": "repeats", "base_url": f"{peer.url}/v1", "api_key_secret": "model_key"}
    settings = {"data_dir": str(tmp_path), "models": json.dumps([model]), "http_allow": "127.0.0.1"}
    async with running(database_url, redis_url, log=tmp_path / "treadle.log", **settings) as system:
        yield system


async def set_secret(system: SystemUnderTest, name: str, value: str = VALUE) -> list[str]:
    """Set a secret, and return the details of errors."""
    payload = await mutate(system, "setSecret", "secret { name } errors { code detail }", name=name, value=value)
    return [error["detail"] for error in payload["errors"]]


def checking_spec(name: str, times: int = 1) -> dict[str, Any]:
    """Create a chain of nodes, each of which returns whether the secret has the right value."""
    is_right = f"{{{{ secrets.{name} == '{VALUE}' }}}}"
    config = {"tool": "json_query", "arguments": {"data": is_right, "expression": "@"}}
    nodes = [{"id": f"n{number}", "type": "tool", "config": config} for number in range(times)]
    edges = [{"source": f"n{number}", "target": f"n{number + 1}"} for number in range(times - 1)]
    return {"nodes": nodes, "edges": edges}


async def output_of(system: SystemUnderTest, command: str) -> str:
    """Run a command with the settings of the system, and return the output of all processes."""
    process = system.start(command)
    await asyncio.to_thread(process.wait, 60)
    assert system.log is not None
    return system.log.read_text()


async def key_ids(system: SystemUnderTest) -> set[str]:
    connection = await asyncpg.connect(system.database_url)
    try:
        return {row["key_id"] for row in await connection.fetch("SELECT key_id FROM secrets")}
    finally:
        await connection.close()


async def test_a_key_is_changed_while_runs_use_secrets(system: SystemUnderTest, tmp_path: Path) -> None:
    """No process restarts, no node fails, and all secrets are encrypted under the new key."""
    for name in ("key", "other"):
        assert await set_secret(system, name) == []
    [old] = read(tmp_path / NAME)
    runs = asyncio.gather(*(system.run(checking_spec("key", times=60)) for _ in range(4)))
    text = await output_of(system, "rotate-key")
    for answer in await runs:
        assert (answer["run"]["status"], answer["run"]["output"]) == ("COMPLETED", {"n59": True})
    new, previous = read(tmp_path / NAME)
    assert previous == old
    assert f"2 of 2 secrets are now encrypted under key {new.id} of {tmp_path / NAME}" in text
    assert await key_ids(system) == {new.id}
    assert await set_secret(system, "third") == []
    assert await key_ids(system) == {new.id}
    # The old key is of no more use, but for backups.
    (tmp_path / NAME).write_text(new.text)
    for name in ("key", "other", "third"):
        answer = await system.run(checking_spec(name))
        assert answer["run"]["output"] == {"n0": True}
    assert all(process.poll() is None for process in system.processes[:2])
    secrets = (await system.execute(SECRETS))["secrets"]
    assert [secret["name"] for secret in secrets] == ["key", "other", "third"]
    assert all(secret["lastUsedAt"] for secret in secrets)


async def test_a_missing_key_is_reported_and_is_used_again_after_its_return(
    system: SystemUnderTest, tmp_path: Path
) -> None:
    assert await set_secret(system, "key") == []
    [key] = read(tmp_path / NAME)
    (tmp_path / NAME).rename(tmp_path / "elsewhere")
    answer = await system.run(checking_spec("key"))
    error = answer["run"]["error"]
    assert (error["code"], error["nodeId"]) == ("SECRET", "n0")
    assert f"was encrypted under the key {key.id}, which this host does not have" in error["message"]
    assert "run `treadle doctor` for details" in error["message"]
    [text] = await set_secret(system, "other")
    assert f"restore {tmp_path / NAME}, or set TREADLE_SECRET_KEY" in text
    doctor = await output_of(system, "doctor")
    assert "1 of 1 secrets cannot be decrypted (restore the key with TREADLE_SECRET_KEY or the key file" in doctor
    assert f"default/key: it was encrypted under the key {key.id}, which this host does not have" in doctor
    (tmp_path / "elsewhere").rename(tmp_path / NAME)
    answer = await system.run(checking_spec("key"))
    assert answer["run"]["output"] == {"n0": True}


async def test_a_model_whose_key_is_a_secret_can_be_used_from_the_moment_it_is_set(
    system: SystemUnderTest, peer: Peer
) -> None:
    assert chat.MODELS
    [model] = [one for one in (await system.execute(MODELS))["models"] if one["name"] == "repeats"]
    assert (model["available"], "'model_key'" in model["problem"]) == (False, True)
    failed = (await system.run(ASK))["run"]["error"]
    assert (failed["code"], "setSecret" in failed["message"]) == ("SECRET", True)
    assert await set_secret(system, "model_key") == []
    [model] = [one for one in (await system.execute(MODELS))["models"] if one["name"] == "repeats"]
    assert (model["available"], model["problem"]) == (True, None)
    assert (await system.run(ASK))["run"]["output"] == {"ask": "hello"}
    authorization = [request.headers.get("authorization") for request in peer.seen if request.method == "POST"]
    assert authorization == [f"Bearer {VALUE}"]
    deletion = await mutate(system, "deleteSecret", "deletedId errors { detail }", name="model_key")
    assert deletion["errors"] == []
    assert (await system.run(ASK))["run"]["error"]["code"] == "SECRET"
