"""While Postgres connections are killed, each response is JSON, correct or UNAVAILABLE."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from app.settings import Settings
from persistence.db.database import Database, create_engine
from persistence.db.transient import is_transient
from persistence.problems import Conflict
from tests.app_server import TRANSPORT, serving
from tests.schema_client import LINEAR

KILL = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""
CREATE = 'mutation($s: JSON!) { createWorkflow(input: {name: "w", spec: $s}) { workflow { id } } }'
READ = "{ workflows { nodes { id draft { revision } runs(first: 3) { nodes { id } } } } viewer { projects { id } } }"
LIST = "{ runs(first: 10) { nodes { id status events(first: 3) { nodes { seq } } nodeStates { status output } } } }"
RUN = "mutation($i: RunWorkflowInput!) { runWorkflow(input: $i) { run { id } errors { code } } }"
VERSION = "mutation($i: CreateVersionInput!) { createVersion(input: $i) { version { id } errors { code } } }"
WATCH = "subscription { runs { id status workflow { name } } }"
RESPONSES_PER_KILL, CLIENTS = 5, 10
"""Connections are killed after a number of responses, at any point of other calls."""


@pytest.fixture
async def killer(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


class KillLoad:
    """Clients that send requests and kill connections, until both kinds of responses occurred."""

    def __init__(self, client: httpx.AsyncClient, killer: asyncpg.Connection, workflow_id: str) -> None:
        self._client, self._killer, self._workflow_id = client, killer, workflow_id
        self._kill_lock = asyncio.Lock()
        self.responses: Counter[str] = Counter()

    @property
    def is_over(self) -> bool:
        seldom = min(self.responses[name] for name in ("UNAVAILABLE", "health", "hook 404"))
        return min(self.responses["correct"], seldom * 5, self.responses["hook 503"] * 100) >= 100

    async def run_client(self, number: int) -> None:
        run = {"workflowId": self._workflow_id, "inputs": {"value": 1}}
        while not self.is_over:
            self._count(await self._execute(READ))
            self._count(await self._execute(RUN, i=run))
            self._count(await self._execute(RUN, i={**run, "idempotencyKey": f"{number}"}))
            self._count(await self._execute(VERSION, i={"workflowId": self._workflow_id}))
            self._count(await self._execute(LIST))
            await self._post_message()
            health = (await self._client.get("/health")).json()
            self.responses["health"] += health["database"] in ("up", "down")
            if sum(self.responses.values()) % RESPONSES_PER_KILL == 0:
                async with self._kill_lock:
                    await self._killer.execute(KILL)

    async def _post_message(self) -> None:
        """Post to a webhook that does not exist: only the database knows that."""
        response = await self._client.post("/hooks/whk_unknown", json={})
        assert response.status_code in (404, 503), response.text
        assert response.status_code == 404 or response.headers["Retry-After"] == "1"
        self.responses[f"hook {response.status_code}"] += 1

    async def _execute(self, query: str, **variables: Any) -> httpx.Response:
        return await self._client.post("/graphql", json={"query": query, "variables": variables})

    def _count(self, response: httpx.Response) -> None:
        body = response.json()
        codes = {error["extensions"]["code"] for error in body.get("errors", ())}
        assert codes <= {"UNAVAILABLE"}, body
        assert codes or all(not part.get("errors") for part in body["data"].values()), body
        self.responses["UNAVAILABLE" if codes else "correct"] += 1


async def watch(address: str, load: KillLoad) -> None:
    """Subscribe repeatedly.

    A subscription that fails ends with an error under its id, or with code 1013.
    """
    while not load.is_over:
        try:
            async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) as socket:
                await socket.send(json.dumps({"type": "connection_init"}))
                await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": WATCH}}))
                async for message in socket:
                    update = json.loads(message)
                    for error in (update.get("payload") or {}).get("errors", ()):
                        assert error["extensions"]["code"] == "UNAVAILABLE"
                    if update["type"] == "complete" or load.is_over:
                        break
        except ConnectionClosedError as closed:
            assert closed.rcvd is not None and closed.rcvd.code == 1013


async def test_every_response_is_correct_or_unavailable_while_connections_are_killed(
    database_url: str, redis_url: str, killer: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(database_url=database_url, redis_url=redis_url)
    with capture_logs() as logs, caplog.at_level(logging.ERROR, "uvicorn"):
        async with serving(settings) as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
            created = await client.post("/graphql", json={"query": CREATE, "variables": {"s": LINEAR}})
            load = KillLoad(client, killer, created.json()["data"]["createWorkflow"]["workflow"]["id"])
            async with asyncio.timeout(120):
                watchers = [asyncio.create_task(watch(address, load)) for _ in range(2)]
                await asyncio.gather(*(load.run_client(number) for number in range(CLIENTS)))
                # A watcher waits for an update. A last run causes one, in case no kill has ended
                # the watcher.
                while not all(one.done() for one in watchers):
                    await load._execute(RUN, i={"workflowId": load._workflow_id, "inputs": {"value": 1}})
                await asyncio.gather(*watchers)
    assert not [line for line in logs if "fault" in line["event"]]
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "strawberry"))]


@pytest.mark.parametrize(
    ("statement", "is_transient_error"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", True),
        ("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)", True),
        ("SELECT 1 / 0", False),
        ("SELECT nothing FROM nowhere", False),
        ("SELECT 'x'::int", False),
        ("INSERT INTO projects (id, name) SELECT id, name FROM projects", False),
    ],
)
async def test_a_killed_connection_is_distinguished_from_a_wrong_statement(
    database: Database, statement: str, is_transient_error: bool
) -> None:
    with pytest.raises(DBAPIError) as sqlalchemy_error:
        async with database.begin() as connection:
            await connection.execute(text(statement))
    with pytest.raises(asyncpg.PostgresError) as driver_error:
        await database.pool.fetch(statement)
    assert is_transient(sqlalchemy_error.value) is is_transient(driver_error.value) is is_transient_error


async def test_an_exhausted_pool_is_transient_and_a_refused_call_is_not(database_url: str) -> None:
    small_pool = create_engine(database_url, pool_size=1, max_overflow=0, pool_timeout=0)
    async with small_pool.connect():
        with pytest.raises(Exception) as pool_error:
            async with small_pool.connect():
                raise AssertionError("the pool had a second connection")
    await small_pool.dispose()
    assert is_transient(pool_error.value)
    assert not is_transient(Conflict("Another call was first."))
    assert not is_transient(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"))
