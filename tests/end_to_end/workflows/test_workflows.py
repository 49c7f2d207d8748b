"""Workflows as users of other systems would write them, each a file with its inputs, answers and result."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.support import workflow_peers as workflow_peers  # registers its paths
from tests.end_to_end.support.client_actions import mutate
from tests.end_to_end.support.system import SystemUnderTest
from tests.peers.http import Peer

FILES = {path.stem: json.loads(path.read_text()) for path in Path(__file__).parent.glob("*.json")}
VALIDATE = "query ($spec: JSON!) { validateSpec(spec: $spec) { errors { field message } warnings { field message } } }"
WAITS = "query ($id: ID!) { run(id: $id) { status waits { nodeId ... on InputWait { waitId } } } }"


@pytest.mark.parametrize("name", sorted(FILES))
async def test_a_workflow_gives_its_result(system: SystemUnderTest, peer: Peer, name: str) -> None:
    content = FILES[name]
    report = (await system.execute(VALIDATE, spec=content["spec"]))["validateSpec"]
    assert (report["errors"], report["warnings"]) == ([], [])
    inputs = {key: peer.url if value == "PEER" else value for key, value in content["inputs"].items()}
    started = await system.run(content["spec"], inputs, mode="ASYNC")
    assert started["errors"] == []
    run_id = started["run"]["id"]
    for node_id, answers in content.get("answers", {}).items():
        for answer in answers:
            await give_answer(system, run_id, node_id, answer)
    run = await system.wait_for_end(run_id)
    expected = content["expected"]
    assert (run["status"], run["output"], run["error"]) == (expected["status"], expected["output"], None)
    statuses = {state["nodeId"]: state["status"] for state in run["nodeStates"]}
    assert {node_id: statuses[node_id] for node_id in expected.get("nodes", {})} == expected.get("nodes", {})
    assert not {"IDLE", "RUNNING", "WAITING", "RETRYING"} & set(statuses.values())


async def give_answer(system: SystemUnderTest, run_id: str, node_id: str, answer: Any) -> None:
    """Wait for the question of a node, and answer it."""
    async with asyncio.timeout(30):
        async for _ in system.node_states(run_id):
            waits = (await system.execute(WAITS, id=run_id))["run"]["waits"]
            wait_id = next((wait["waitId"] for wait in waits if wait["nodeId"] == node_id), None)
            if wait_id is not None:
                payload = await mutate(system, "resumeRun", runId=run_id, waitId=wait_id, answer=answer)
                assert payload["errors"] == []
                return
    raise AssertionError(f"{node_id} asked nothing")
