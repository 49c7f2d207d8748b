"""The task of a worker that sends messages to endpoints, against endpoints that behave in every way."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.settings import Settings
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from engine.notifications import message, sender
from engine.notifications.message import next_pause, signed_headers
from engine.notifications.sender import ExchangeLimits, send
from engine.triggers.webhook import SignatureVerdict, WebhookMessage, WebhookSignature, verify
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.runs.run import Run
from persistence.secrets import store
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import SecretResolver, open_secrets
from tests.executor_worker import eventually
from tests.peers.http import Peer
from tests.persistence.notifications.stored_endpoints import delivery_rows, new_endpoint, set_status
from tests.worker.notifications.all_deliveries import send_all
from worker.deliveries import DeliveryLoop

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOCAL = GuardedHttp(Allowed.parse("127.0.0.1"))


@pytest.fixture
async def secrets(database: Database, caller: Caller, project: str, tmp_path: Path) -> SecretResolver:
    resolver = await open_secrets(database, KeySource.of(Settings(data_dir=tmp_path)))
    async with database.begin() as connection:
        await store.put(connection, caller, resolver.keys.keyring(), project, "hook_key", KEY)
    return resolver


def delivery_loop(database: Database, secrets: SecretResolver, http: GuardedHttp = LOCAL) -> DeliveryLoop:
    return DeliveryLoop(database, http, secrets, max_failing=timedelta(days=5))


def test_messages_are_signed_as_the_specification_shows() -> None:
    body = b'{"test": 2432232314}'
    headers = signed_headers(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert len(signed_headers(f"{KEY} another_key", "m", 1, body)["webhook-signature"].split(" ")) == 2


def test_attempts_are_spread_over_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "JITTER", 0)
    pauses = [next_pause(failures) for failures in range(1, 12)]
    assert pauses[0] == timedelta(seconds=5) and pauses[-1] is None
    total = sum((pause for pause in pauses if pause is not None), timedelta())
    assert timedelta(hours=23) < total < timedelta(hours=25)
    assert next_pause(1, retry_after_s=90) == timedelta(seconds=90)
    assert next_pause(1, retry_after_s=1e9) == timedelta(days=1)
    assert next_pause(11, retry_after_s=1) is None


ENDPOINTS: dict[str, tuple[str, str, int | None, str | None]] = {
    "/echo": ("DELIVERED", "hook_key", 200, None),
    "/status?code=204": ("DELIVERED", "hook_key", 204, None),
    "/gib-announced": ("DELIVERED", "hook_key", 200, None),
    "/status?code=500": ("PENDING", "hook_key", 500, "the endpoint answered 500"),
    "/status?code=410": ("FAILED", "hook_key", 410, "the endpoint answered 410: it wants no more messages"),
    "/to?url=http://127.0.0.1/&code=308": ("PENDING", "hook_key", 308, "a redirect, which is not followed"),
    "/closed": ("PENDING", "hook_key", None, "the connection was lost before the response was complete"),
    "/echo?secret": ("PENDING", "gone", None, "cannot be signed: there is no secret 'gone'"),
    "http://10.0.0.1/": ("PENDING", "hook_key", None, "10.0.0.1 is not on the public internet"),
    "http://no-such-host.invalid/": ("PENDING", "hook_key", None, "no connection: the name cannot be resolved"),
}
"""Per address of an endpoint: the status of its delivery, its secret, the response and a part of the error."""


async def test_each_answer_of_an_endpoint_has_its_result(
    database: Database, caller: Caller, project: str, run: Run, peer: Peer, secrets: SecretResolver
) -> None:
    expected: dict[str, Any] = {}
    for path, result in ENDPOINTS.items():
        url = path if path.startswith("http") else peer.url + path
        endpoint = await new_endpoint(database, caller, project, url=url, secret=result[1])
        expected[endpoint.id] = result
    await set_status(database, run.id, "FAILED", "NODE")
    await send_all(delivery_loop(database, secrets))
    rows = await delivery_rows(database)
    assert len(rows) == len(ENDPOINTS)
    for row in rows:
        status, _, response, error = expected[row["endpoint_id"]]
        assert (row["status"], row["response_status"], row["attempts"]) == (status, response, 1), row["error"]
        assert (error or "") in (row["error"] or "") and (error is None) == (row["error"] is None), row["error"]
    received = next(request for request in peer.seen if request.path == "/echo" and not request.query)
    assert received.headers["webhook-id"] in {row["id"] for row in rows}
    assert orjson.loads(received.body)["data"]["runId"] == run.id
    signature, headers = WebhookSignature(kind="standard", secret="hook_key"), received.headers
    checked = verify(signature, KEY, WebhookMessage("POST", headers, {}, received.body), datetime.now(UTC))
    assert checked == (SignatureVerdict.VALID, headers["webhook-id"])
    endpoints = await database.pool.fetch("SELECT * FROM endpoints")
    assert {one["url"].rpartition("=")[2] for one in endpoints if not one["enabled"]} == {"410"}
    assert all((one["failing_since"] is None) == (expected[one["id"]][0] == "DELIVERED") for one in endpoints)


async def test_the_guard_refuses_private_addresses_whatever_their_name(peer: Peer) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433"):
        attempt = await send(GuardedHttp(), f"http://{host}:{peer.port}/echo?token=abc", {}, b"{}")
        assert attempt.status is None and "is not on the public internet" in (attempt.error or ""), host
        assert "abc" not in (attempt.error or "")
    assert peer.seen == []


async def test_an_attempt_has_a_time_limit(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_LIMITS", ExchangeLimits(0.2, 0, 0, reads_body=False))
    attempt = await send(LOCAL, peer.url + "/hang", {}, b"{}")
    assert attempt.error == f"POST {peer.url}/••• did not finish within 0.2 s"


async def test_an_endpoint_that_hangs_holds_up_no_other_and_gets_a_message_again_when_its_worker_is_lost(
    database: Database, caller: Caller, project: str, run: Run, peer: Peer, secrets: SecretResolver
) -> None:
    await new_endpoint(database, caller, project, url=peer.url + "/hang-once")
    await new_endpoint(database, caller, project, url=peer.url + "/echo")
    await set_status(database, run.id, "FAILED")
    first, second = delivery_loop(database, secrets), delivery_loop(database, secrets)
    task = asyncio.create_task(first.deliver_forever())

    async def only_one_hangs() -> bool:
        return peer.count("/hang-once") == 1 and len(first._in_flight) == 1

    await eventually(only_one_hangs)
    assert [row["status"] for row in await delivery_rows(database)].count("DELIVERED") == 1
    for sending in list(first._in_flight):  # As a SIGKILL: no result is recorded.
        sending.cancel()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await database.pool.execute("UPDATE deliveries SET next_attempt_at = now() WHERE status = 'PENDING'")
    await send_all(second)
    assert {row["status"] for row in await delivery_rows(database)} == {"DELIVERED"}
    repeats = [request.headers["webhook-id"] for request in peer.seen if request.path == "/hang-once"]
    assert len(repeats) == 2 and len(set(repeats)) == 1
