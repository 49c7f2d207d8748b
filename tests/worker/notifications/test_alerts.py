"""A worker evaluates alert rules, and the messages of their changes reach the endpoint signed."""

import asyncio
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from app.settings import Settings
from engine.metrics import ALERT_CHANGES
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.secrets import store
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from tests.peers.http import Peer
from tests.persistence.alerts.stored_rules import end_run, new_rule
from tests.persistence.notifications.stored_endpoints import new_endpoint
from tests.worker.notifications.all_deliveries import send_all
from worker import statistics
from worker.deliveries import DeliveryLoop


async def test_an_alert_reaches_its_endpoint(
    database: Database, caller: Caller, project: str, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = await open_secrets(database, KeySource.of(Settings(data_dir=tmp_path)))
    async with database.begin() as connection:
        await store.put(connection, caller, secrets.keys.keyring(), project, "hook_key", "the key")
    await new_endpoint(database, caller, project, url=peer.url + "/echo", events=["ALERT"])
    rule = await new_rule(database, caller, project)
    await end_run(database, caller, project, "FAILED")
    before = ALERT_CHANGES.labels("FIRING")._value.get()
    reported = asyncio.Event()
    monkeypatch.setattr(statistics, "INTERVAL_S", 0.01)
    evaluating = asyncio.create_task(statistics.evaluate_forever(database.pool, reported.set))
    async with asyncio.timeout(10):
        await reported.wait()
    evaluating.cancel()
    await asyncio.gather(evaluating, return_exceptions=True)
    http = GuardedHttp(Allowed.parse("127.0.0.1"))
    await send_all(DeliveryLoop(database, http, secrets, max_failing=timedelta(days=5)))
    [request] = [one for one in peer.seen if one.path == "/echo"]
    body = orjson.loads(request.body)
    assert (body["type"], body["data"]["ruleId"]) == ("alert.firing", rule.id)
    assert "webhook-signature" in request.headers
    assert ALERT_CHANGES.labels("FIRING")._value.get() == before + 1
