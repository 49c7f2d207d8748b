"""Retries of `http` nodes: which status, which pause, and the idempotency key."""

import asyncio
from typing import Any

import pytest

from engine.errors import NodeInterrupted
from tests.engine.nodes.http.http_nodes import QUICK, HttpVisit, failure, output
from tests.peers.http import Peer


async def test_an_unexpected_status_has_an_excerpt_of_the_body(peer: Peer) -> None:
    failed = await failure(url=f"{peer.url}/status?code=429&after=7", retry={"maxAttempts": 1})
    assert failed.retryable
    assert failed.details == {"status": 429, "body": '{"said": "why"}', "retryAfterS": 7.0}
    assert (await output(url=f"{peer.url}/status?code=404", expect=["2xx", 404]))["status"] == 404


async def test_a_failed_request_is_retried(peer: Peer) -> None:
    call = HttpVisit({"url": f"{peer.url}/flaky?times=2&code=503", "retry": QUICK})
    assert (await call.output())["status"] == 200
    assert peer.count("/flaky") == 3
    request = f"GET {peer.url}/flaky answered"
    assert [line.partition("; ")[0] for line in call.logs] == [
        *(f"{request} 503", "503 Refused") * 2,
        f"{request} 200",
    ]
    assert "; attempt 2 in" in call.logs[1]


async def test_a_run_that_stops_ends_the_pause_between_two_requests(peer: Peer) -> None:
    call = HttpVisit({"url": f"{peer.url}/status?code=503&after=60"})
    call.harness.context.stopping.set()
    async with asyncio.timeout(5):
        with pytest.raises(NodeInterrupted):
            await call.output()
    assert peer.count("/status") == 1


async def test_the_pause_of_retry_after_is_respected(peer: Peer) -> None:
    call = HttpVisit(
        {"url": f"{peer.url}/flaky?times=1&code=503&after=0", "retry": {"maxAttempts": 2, "backoffS": 600}}
    )
    async with asyncio.timeout(5):
        assert (await call.output())["status"] == 200
    failed = await failure(url=f"{peer.url}/status?code=503&after=600", retry={"maxWaitS": 5})
    assert (failed.code, failed.retryable) == ("HTTP_STATUS", True)
    assert peer.count("/status") == 1


@pytest.mark.parametrize(
    ("code", "retry", "requests"),
    [
        ("500", QUICK, 1),
        ("429", QUICK, 3),
        ("500", {**QUICK, "anyMethod": True}, 3),
        ("501", {**QUICK, "anyMethod": True}, 1),
    ],
)
async def test_a_post_is_repeated_only_if_safe_or_configured(
    peer: Peer, code: str, retry: dict[str, Any], requests: int
) -> None:
    await failure(method="POST", url=f"{peer.url}/status?code={code}", retry=retry)
    assert peer.count("/status") == requests
    assert len({request.headers["idempotency-key"] for request in peer.seen}) == 1


async def test_an_idempotency_key_names_the_visit(peer: Peer) -> None:
    headers = (await output(method="POST", url=f"{peer.url}/echo"))["body"]["headers"]
    assert headers["idempotency-key"] == "run_1/0/n/1"
    assert "idempotency-key" not in (await output(url=f"{peer.url}/echo"))["body"]["headers"]
    own = await output(method="POST", url=f"{peer.url}/echo", headers={"Idempotency-Key": "mine"})
    assert own["body"]["headers"]["idempotency-key"] == "mine"
