"""Answers of models that once gave a wrong result, as whole runs against a scripted endpoint."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.states import RunStatus
from tests.engine.memory_runs import run
from tests.engine.nodes.node_resources import open_resources
from tests.peers.http import Peer, http_peer

FOLDER = Path(__file__).parents[2] / "cases" / "models"
CASES = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}


@pytest.fixture(scope="module")
async def resources() -> AsyncIterator[dict[str, Any]]:
    async with http_peer() as peer, open_resources(peer) as opened:
        yield {**opened, "peer": peer}


@pytest.mark.parametrize("name", CASES)
async def test_a_case_has_its_right_value(name: str, resources: dict[str, Any]) -> None:
    case, peer = CASES[name], resources["peer"]
    assert isinstance(peer, Peer)
    expected = case["expected"]
    ended = await run(json.loads(json.dumps(case["spec"]).replace("PEER", peer.url)), case["inputs"], resources)
    assert (ended.error and ended.error.code) == expected.get("error")
    assert ended.status is (RunStatus.FAILED if ended.error else RunStatus.COMPLETED)
    assert ended.output == expected.get("output")
    if "finishReason" in expected:
        assert ended.states["n"].finish_reason == expected["finishReason"]
    if "log" in expected:
        assert any(expected["log"] in message for message in ended.logs)
    if "notLogged" in expected:
        assert expected["notLogged"] not in ended.logs


async def test_another_attempt_begins_without_the_thinking_of_the_one_before(resources: dict[str, Any]) -> None:
    config = {"model": "thinks-then-fails-once", "prompt": "hi"}
    node = {"id": "n", "type": "llm", "config": config, "retry": {"maxAttempts": 2, "backoffS": 0}}
    ended = await run({"nodes": [node]}, {}, resources)
    state = ended.states["n"]
    assert (ended.output, state.attempt) == ({"n": "now"}, 2)
    assert (state.partial_output, state.thinking, state.finish_reason) == ("now", None, "stop")
