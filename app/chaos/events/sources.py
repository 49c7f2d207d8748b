"""The sources of events: a trigger of each kind that begins outside, and an endpoint for messages.

Every event has a key, which is the input and the output of its run. The sources record which keys must
have started one run each. Their own systems, an HTTP server and a Redis, are not faulted.
"""

import asyncio
import itertools
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import asyncpg
import httpx
from redis.asyncio import Redis

from app.chaos.client import PAUSES_S, TIMEOUT_S, ChaosClient, NoResponse
from app.chaos.events.peer import KEY, EventPeer, item_key
from app.chaos.workflows import event_spec
from app.http_client import plain_client
from engine.values.timestamps import format_timestamp

PER_S = 0.5
"""Events of each kind in a second, on average."""
CHECK_S = 0.25
"""Seconds between two looks into the database at the end."""
SCHEDULE_S = 2
"""The interval of the schedule, in seconds."""
DUPLICATE_SHARE = 0.2
"""Share of the messages to the webhook that come twice at the same time."""
STREAM, ID_HEADER = "chaos", "x-message-id"
CREATE = """
mutation ($name: String!, $spec: JSON!) {
  createWorkflow(input: {name: $name, spec: $spec}) { workflow { id } errors { detail } }
}
"""


@dataclass(slots=True)
class SentEvents:
    """The keys that must have started one run each, by the id of their workflow."""

    kinds: dict[str, str] = field(default_factory=dict)
    """The trigger kind of each workflow."""
    keys: dict[str, set[str]] = field(default_factory=dict)
    messages: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The messages that the endpoint has accepted: (run id, type), by message id."""
    invalid: list[str] = field(default_factory=list)
    """Messages with an invalid signature."""


class EventSources:
    """Creates the triggers, and sends their events.

    Args:
        client: Calls the API.
        peer: The server with the list of the poll, which also is the endpoint.
        redis_url: The Redis with the stream of the trigger.
        rng: The random source of times and repeats.
        minutes: How long the schedule fires.
    """

    def __init__(self, client: ChaosClient, peer: EventPeer, redis_url: str, rng: Random, minutes: float) -> None:
        self._client, self._peer, self._rng, self._minutes = client, peer, rng, minutes
        self._redis_url, self._redis = redis_url, Redis.from_url(redis_url)
        self._http = plain_client(timeout_s=30)
        self._tasks: set[asyncio.Task[None]] = set()
        self._webhook = ""
        self.sent = SentEvents(messages=peer.messages, invalid=peer.invalid)
        self._keys: dict[str, set[str]] = {}

    async def close(self) -> None:
        await asyncio.gather(self._http.aclose(), self._redis.aclose())

    async def prepare(self) -> None:
        """Create the endpoint and the triggers. Call it before the faults."""
        await self._create("setSecret", name="chaos", value=KEY)
        events = ["RUN_COMPLETED", "RUN_FAILED", "RUN_CANCELLED", "RUN_WAITING"]
        address = f"http://127.0.0.1:{self._peer.port}"
        await self._create("createEndpoint", url=f"{address}/messages", secret="chaos", events=events)
        url = f"{address}/items?after={{{{ cursor or 0 }}}}"
        cursor = "{{ items[-1].number if items else cursor }}"
        await self._trigger("poll", "{{ event.key }}", url=url, cursor=cursor, everyS=5, firstPoll="fire")
        await self._trigger("redis_stream", "{{ event.fields.key }}", url=self._redis_url, stream=STREAM, start="all")
        webhook = await self._trigger("webhook", "{{ event.body.key }}", dedupe={"header": ID_HEADER})
        self._webhook = webhook["webhookUrl"]
        await self._schedule()

    async def _schedule(self) -> None:
        """Create a schedule whose times are known: every `SCHEDULE_S`, while faults are injected."""
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
        seconds = range(0, int(self._minutes * 60), SCHEDULE_S)
        times = [format_timestamp(start + timedelta(seconds=second)) for second in seconds]
        config = {"intervalS": SCHEDULE_S, "onMissed": "all", "start": times[0], "end": times[-1]}
        await self._trigger("schedule", "{{ event.scheduledAt }}", **config)
        self._keys["schedule"] |= set(times)

    async def _trigger(self, kind: str, key: str, **config: Any) -> dict[str, Any]:
        payload = (await self._client.execute(CREATE, name=kind, spec=event_spec()))["createWorkflow"]
        workflow_id = payload["workflow"]["id"]
        await self._create("createVersion", workflowId=workflow_id, publish=True)
        arguments = {"workflowId": workflow_id, "kind": kind, "name": kind, "inputs": {"key": key}, "config": config}
        selection = "trigger { webhookUrl }" if kind == "webhook" else "trigger { id }"
        created = await self._create("createTrigger", selection, **arguments)
        self.sent.kinds[workflow_id] = kind
        self._keys[kind] = self.sent.keys[workflow_id] = set()
        return dict(created["trigger"])

    async def _create(self, mutation: str, selection: str = "", /, **input: Any) -> dict[str, Any]:
        payload = await self._client.mutate(mutation, selection, **input)
        if payload["errors"]:
            raise ValueError(f"{mutation}: {payload['errors']}")
        return dict(payload)

    async def run(self) -> None:
        """Send events until cancelled. Calls that have begun continue."""
        for number in itertools.count(1):
            self._begin(self._send(number))
            await asyncio.sleep(self._rng.expovariate(PER_S))

    async def _send(self, number: int) -> None:
        """Send an event to each trigger but the schedule."""
        self._peer.items = max(self._peer.items, number)
        self._keys["poll"].add(item_key(number))
        await self._redis.xadd(STREAM, {"key": f"entry-{number}"})
        self._keys["redis_stream"].add(f"entry-{number}")
        times = 2 if self._rng.random() < DUPLICATE_SHARE else 1
        await asyncio.gather(*(self._post(f"message-{number}") for _ in range(times)))

    def _begin(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, key: str) -> None:
        """Post a message until the webhook has accepted it, as a sender with retries does."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                answer = await self._http.post(self._webhook, json={"key": key}, headers={ID_HEADER: key})
            except httpx.TransportError as failure:
                self._client.errors[f"webhook: {type(failure).__name__}"] += 1
            else:
                if answer.status_code == 202:
                    self._keys["webhook"].add(key)
                    return
                self._client.errors[f"webhook: {answer.status_code} {answer.text[:80]}"] += 1
            await asyncio.sleep(self._rng.uniform(*PAUSES_S))
        self._client.unanswered += 1
        raise NoResponse(self._webhook)

    async def finish(self, database_url: str, within_s: float) -> None:
        """Wait until every event has its run, all of these have ended, and every message is delivered."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        deadline = time.monotonic() + within_s
        connection = await asyncpg.connect(database_url)
        try:
            while not await self._is_over(connection) and time.monotonic() < deadline:  # noqa: ASYNC110 (a database)
                await asyncio.sleep(CHECK_S)
        finally:
            await connection.close()

    async def _is_over(self, connection: asyncpg.Connection) -> bool:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM deliveries WHERE status = 'PENDING')"):
            return False
        rows = await connection.fetch(_ENDED, list(self.sent.keys))
        ended = {row["workflow_id"]: row["count"] for row in rows}
        return all(ended.get(workflow_id, 0) >= len(keys) for workflow_id, keys in self.sent.keys.items())


_ENDED = """
SELECT workflow_id, count(*) FROM runs WHERE workflow_id = ANY($1) AND finished_at IS NOT NULL GROUP BY workflow_id
"""
