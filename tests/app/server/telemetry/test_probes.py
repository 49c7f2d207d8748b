"""/ping, /livez and /readyz of a server, and its log lines about live workers."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from structlog.testing import capture_logs

from app.server.telemetry.probes import NO_WORKER, Probes
from persistence.db.database import Database, dsn
from persistence.maintenance.presence import LIVE_S, Presence, count_live
from tests.journal_worker import wait_until


@pytest.fixture
async def presence(database: Database, database_url: str) -> AsyncIterator[Presence]:
    presence = Presence(dsn(database_url), database.pool, "worker", 41, "host", 1)
    yield presence
    await presence.unregister()


@pytest.mark.parametrize(("path", "text"), [("/ping", "pong"), ("/livez", '"status":"ok"')])
async def test_a_process_answers_without_a_worker(client: httpx.AsyncClient, path: str, text: str) -> None:
    response = await client.get(path)
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    assert text in response.text


async def test_a_server_is_ready_only_with_a_live_worker(client: httpx.AsyncClient, presence: Presence) -> None:
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["workers"], response.json()["problems"]) == (503, 0, [NO_WORKER])
    assert await presence.acquire()
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["status"], response.json()["workers"]) == (200, "ready", 1)
    await presence.unregister()
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/health")).status_code == 200


async def test_a_worker_whose_lock_is_not_visible_counts_while_it_reports(
    client: httpx.AsyncClient, presence: Presence, database: Database
) -> None:
    await presence.report_alive()
    assert (await client.get("/readyz")).json()["workers"] == 1
    past = "UPDATE worker_heartbeats SET seen_at = now() - make_interval(secs => $1)"
    await database.pool.execute(past, LIVE_S + 1)
    assert (await client.get("/readyz")).json()["workers"] == 0
    await presence.report_alive()
    assert await count_live(database.pool) == 1


async def test_a_worker_that_hangs_with_its_lock_does_not_count(presence: Presence, database: Database) -> None:
    assert await presence.acquire()
    await database.pool.execute("UPDATE workers SET seen_at = now() - make_interval(secs => $1)", LIVE_S + 1)
    assert await count_live(database.pool) == 0


async def test_a_database_that_lacks_migrations_is_not_ready(client: httpx.AsyncClient, database: Database) -> None:
    await database.pool.execute("UPDATE alembic_version SET version_num = '0001'")
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert "run `treadle migrate`" in response.json()["problems"][0]


async def test_the_loss_and_the_return_of_the_last_worker_are_logged_once_each(
    database: Database, presence: Presence
) -> None:
    class OpenStores:
        redis = None

        def __init__(self) -> None:
            self.database = database

    with capture_logs() as logs:
        watch = asyncio.create_task(Probes(OpenStores()).watch_workers(0.01))
        await wait_until(lambda: logs)
        assert await presence.acquire()
        await wait_until(lambda: len(logs) > 1)
        await presence.unregister()
        await wait_until(lambda: len(logs) > 2)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
    assert [entry["event"] for entry in logs] == ["workers.away", "workers.back", "workers.away"]
    assert "start `treadle worker`" in logs[0]["error"]


class GatedLook:
    """A look at a store that ends when the test lets it."""

    def __init__(self) -> None:
        self.count, self.go = 0, asyncio.Event()

    async def look(self) -> int:
        self.count += 1
        await self.go.wait()
        return self.count


async def test_requests_that_arrive_during_a_look_at_a_store_share_it() -> None:
    probes, gated = Probes(None), GatedLook()  # type: ignore[arg-type]
    look = gated.look
    requests = [asyncio.ensure_future(probes._shared(look)) for _ in range(100)]
    await asyncio.sleep(0)
    requests[0].cancel()  # Its client has disconnected.
    await asyncio.sleep(0)
    gated.go.set()
    answers = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [1] * 99
    assert await probes._shared(look) == 2
    assert not probes._looks
