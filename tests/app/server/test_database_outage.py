"""What clients are told while Postgres kills connections: JSON, and either what is right or that it is away now."""

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
from persistence.db.database import Database, engine_of
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
KILL_EVERY, CLIENTS = 5, 10
"""Answers. No moment is waited for: a kill meets whatever the other clients have under way."""


@pytest.fixture
async def killer(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


class Storm:
    """Clients that ask, and kill every so often, until enough of both kinds of answers were seen."""

    def __init__(self, client: httpx.AsyncClient, killer: asyncpg.Connection, workflow_id: str) -> None:
        self._client, self._killer, self._workflow_id = client, killer, workflow_id
        self._one_at_a_time = asyncio.Lock()
        self.seen: Counter[str] = Counter()

    @property
    def is_over(self) -> bool:
        return min(self.seen["right"], self.seen["UNAVAILABLE"] * 5, self.seen["health"] * 5) >= 100

    async def rage(self, number: int) -> None:
        run = {"workflowId": self._workflow_id, "inputs": {"value": 1}}
        while not self.is_over:
            self._note(await self._ask(READ))
            self._note(await self._ask(RUN, i=run))
            self._note(await self._ask(RUN, i={**run, "idempotencyKey": f"{number}"}))
            self._note(await self._ask(VERSION, i={"workflowId": self._workflow_id}))
            self._note(await self._ask(LIST))
            health = (await self._client.get("/health")).json()
            self.seen["health"] += health["database"] in ("up", "down")
            if sum(self.seen.values()) % KILL_EVERY == 0:
                async with self._one_at_a_time:
                    await self._killer.execute(KILL)

    async def _ask(self, query: str, **variables: Any) -> httpx.Response:
        return await self._client.post("/graphql", json={"query": query, "variables": variables})

    def _note(self, answer: httpx.Response) -> None:
        body = answer.json()
        codes = {error["extensions"]["code"] for error in body.get("errors", ())}
        assert codes <= {"UNAVAILABLE"}, body
        assert codes or all(not part.get("errors") for part in body["data"].values()), body
        self.seen["UNAVAILABLE" if codes else "right"] += 1


async def watch(address: str, storm: Storm) -> None:
    """Subscribes again and again. Whatever ends a subscription says so under its id, or closes the socket with `try again`."""
    while not storm.is_over:
        try:
            async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) as socket:
                await socket.send(json.dumps({"type": "connection_init"}))
                await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": WATCH}}))
                async for message in socket:
                    answer = json.loads(message)
                    for error in (answer.get("payload") or {}).get("errors", ()):
                        assert error["extensions"]["code"] == "UNAVAILABLE"
                    if answer["type"] == "complete" or storm.is_over:
                        break
        except ConnectionClosedError as closed:
            assert closed.rcvd is not None and closed.rcvd.code == 1013


async def test_every_answer_is_right_or_unavailable_while_connections_are_killed(
    database_url: str, redis_url: str, killer: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(database_url=database_url, redis_url=redis_url)
    with capture_logs() as logs, caplog.at_level(logging.ERROR, "uvicorn"):
        async with serving(settings) as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
            made = await client.post("/graphql", json={"query": CREATE, "variables": {"s": LINEAR}})
            storm = Storm(client, killer, made.json()["data"]["createWorkflow"]["workflow"]["id"])
            async with asyncio.timeout(120):
                watching = [asyncio.create_task(watch(address, storm)) for _ in range(2)]
                await asyncio.gather(*(storm.rage(number) for number in range(CLIENTS)))
                # A watcher sleeps until something happens: a last run wakes it up, if no kill has ended it.
                while not all(one.done() for one in watching):
                    await storm._ask(RUN, i={"workflowId": storm._workflow_id, "inputs": {"value": 1}})
                await asyncio.gather(*watching)
    assert not [line for line in logs if "fault" in line["event"]]
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "strawberry"))]


@pytest.mark.parametrize(
    ("statement", "is_trouble"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", True),
        ("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)", True),
        ("SELECT 1 / 0", False),
        ("SELECT nothing FROM nowhere", False),
        ("SELECT 'x'::int", False),
        ("INSERT INTO projects (id, name) SELECT id, name FROM projects", False),
    ],
)
async def test_a_killed_connection_is_told_from_a_wrong_statement(
    database: Database, statement: str, is_trouble: bool
) -> None:
    with pytest.raises(DBAPIError) as sqlalchemys:
        async with database.begin() as connection:
            await connection.execute(text(statement))
    with pytest.raises(asyncpg.PostgresError) as drivers:
        await database.pool.fetch(statement)
    assert is_transient(sqlalchemys.value) is is_transient(drivers.value) is is_trouble


async def test_what_runs_out_passes_and_what_is_refused_does_not(database_url: str) -> None:
    crowded = engine_of(database_url, pool_size=1, max_overflow=0, pool_timeout=0)
    async with crowded.connect():
        with pytest.raises(Exception) as full:
            async with crowded.connect():
                raise AssertionError("there was no room")
    await crowded.dispose()
    assert is_transient(full.value)
    assert not is_transient(Conflict("Somebody was first."))
    assert not is_transient(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"))
