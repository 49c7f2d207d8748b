"""`http` nodes on real workers, with a real server on an allowed loopback address."""

import asyncio
import json
import signal
from typing import Any

import pytest

from tests.end_to_end.support.client_actions import mutate
from tests.end_to_end.support.system import CANCEL, ROOT, SystemUnderTest, running
from tests.peers.http import Peer

KEY = "dk-4a7f0c9be2d1"


async def test_a_lead_is_enriched_scored_and_sent_once(
    system: SystemUnderTest, peer: Peer, example_service: str
) -> None:
    content = json.loads((ROOT / "examples" / "lead_enrichment.json").read_text())
    inputs = {**content["exampleInputs"], "directory": peer.url, "desk": peer.url}
    refused = (await system.run(content["spec"], inputs))["run"]
    assert "there is no secret 'directory_key' in this project; set it with setSecret" in refused["output"]["problem"]
    payload = await mutate(system, "setSecret", "errors { detail }", name="directory_key", value=KEY)
    assert payload["errors"] == []
    run = (await system.run(content["spec"], inputs))["run"]
    lead = {"email": "ann@example.com", "company": "Example Ltd", "score": "hot"}
    assert (run["status"], run["error"]) == ("COMPLETED", None)
    assert run["output"] == {"lead": lead, "response": {"lead": 1, **lead}, "problem": None}
    assert [one.headers["authorization"] for one in peer.seen if one.path == "/enrich"] == [f"Bearer {KEY}"] * 2
    assert all("authorization" not in one.headers for one in peer.seen if one.path == "/leads")
    run = (await system.run(content["spec"], {**inputs, "email": "eve@example.com"}))["run"]
    assert run["status"] == "COMPLETED"
    assert "answered 404 Not Found" in run["output"]["problem"]
    assert peer.count("/leads") == 1
    # As shipped, with the service and the key that its `needs` names.
    await mutate(system, "setSecret", "errors { detail }", name="directory_key", value="example-directory-key")
    shipped = json.loads(json.dumps(content["exampleInputs"]).replace("http://127.0.0.1:9000", example_service))
    run = (await system.run(content["spec"], shipped))["run"]
    assert (run["status"], run["output"]) == (
        "COMPLETED",
        {"lead": lead, "response": {"accepted": lead}, "problem": None},
    )


def calling(**config: Any) -> dict[str, Any]:
    return {"nodes": [{"id": "call", "type": "http", "config": config}], "edges": []}


async def test_a_response_is_the_output_of_the_node(system: SystemUnderTest, peer: Peer) -> None:
    answer = await system.run(calling(url=f"{peer.url}/gzip"))
    assert answer["run"]["status"] == "COMPLETED"
    assert answer["run"]["output"]["call"]["body"] == {"packed": True}


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("http://169.254.169.254/latest/meta-data", "HTTP_BLOCKED", "169.254.169.254 is not on the public internet"),
        ("{peer}/status?code=404", "HTTP_STATUS", "answered 404 Refused"),
        ("{peer}/broken-utf8", "HTTP_RESPONSE", "is no utf-8 text at byte 3"),
        ("{peer}/gib", "HTTP_RESPONSE", "more than 2,097,152 bytes"),
    ],
)
async def test_a_failed_call_is_an_error_of_its_node(
    system: SystemUnderTest, peer: Peer, url: str, code: str, message: str
) -> None:
    answer = await system.run(calling(url=url.replace("{peer}", peer.url)))
    error = answer["run"]["error"]
    assert answer["run"]["status"] == "FAILED"
    assert (error["code"], error["nodeId"], message in error["message"]) == (code, "call", True), error


async def test_a_cancelled_run_closes_its_connection(system: SystemUnderTest, peer: Peer) -> None:
    run_id = (await system.run(calling(url=f"{peer.url}/hang"), mode="ASYNC"))["run"]["id"]
    async with asyncio.timeout(20):
        await peer.until(lambda: peer.seen)
        assert (await system.execute(CANCEL, id=run_id))["cancelRun"]["errors"] == []
        await peer.left.wait()
    assert (await system.wait_for_end(run_id))["status"] == "CANCELLED"


async def test_a_call_that_is_repeated_after_a_crash_has_the_same_idempotency_key(
    database_url: str, redis_url: str, peer: Peer
) -> None:
    async with running(database_url, redis_url, workers=2, http_allow="127.0.0.1") as system:
        spec = calling(method="POST", url=f"{peer.url}/hang-once", body={"type": "json", "content": {"pay": 1}})
        run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
        await peer.until(lambda: peer.seen)
        worker = await system.worker_of(run_id)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert (await system.wait_for_end(run_id))["status"] == "COMPLETED"
    first, second = [request.headers["idempotency-key"] for request in peer.seen]
    assert first == second == f"{run_id}/0/call/1"
