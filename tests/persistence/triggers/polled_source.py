"""A trigger that polls, and workers that fire it at any time."""

import asyncio
from datetime import datetime
from typing import Any

from engine.sdk.trigger import TriggerKind
from engine.triggers.registry import installed_trigger_kinds
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.runs.queue_limit import QueueLimit
from persistence.secrets import store
from persistence.triggers import trigger as triggers
from persistence.triggers.due import DueTriggers
from persistence.triggers.trigger import NewTrigger
from tests.peers.http import Peer
from tests.persistence.triggers.stored_triggers import NOON, published_workflow, rows


class PolledSource:
    """A trigger that polls `/list` of a peer, and workers that fire it at any time."""

    def __init__(self, database: Database, caller: Caller, project: str, peer: Peer, resources: dict[str, Any]) -> None:
        self.database, self.caller, self.project, self.peer = database, caller, project, peer
        self.resources, self.now, self.id = resources, NOON, ""

    async def create(
        self,
        kind: str = "poll",
        *,
        publish: bool = True,
        inputs: JSON = "{{ event }}",
        spec: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        workflow_id = await published_workflow(
            self.database, self.caller, self.project, publish=publish, **(spec or {})
        )
        of_poll = {"url": self.peer.url + "/list", "everyS": 60, "firstPoll": "fire"}
        whole = of_poll | config if kind == "poll" else config
        new = NewTrigger(workflow_id, kind, "P", whole, inputs, True, NOON, NOON)
        async with self.database.begin() as connection:
            self.id = (await triggers.create(connection, self.caller, self.project, new)).id

    def worker(self, queue_limit: int = 1000, max_failures: int = 3, *more: TriggerKind[Any]) -> DueTriggers:
        """Return a worker that has the installed kinds and `more`."""
        limit, kinds = QueueLimit(queue_limit), {**installed_trigger_kinds(), **{one.name: one for one in more}}
        return DueTriggers(self.database, kinds, max_failures=max_failures, queue_limit=limit, resources=self.resources)

    async def poll(
        self, due: DueTriggers | None = None, document: bytes | None = None, at: datetime | None = None
    ) -> list[str]:
        """Poll at the next planned time or at another one, and return the keys of what has fired or failed by it."""
        self.peer.document = self.peer.document if document is None else document
        due = due or self.worker()
        self.now = max(self.now, at or (await self.row())["next_fire_at"] or self.now)
        ready = asyncio.Event()
        due.when_ready(ready.set)
        fired = (await due.fire_batch(self.now)).fired
        while due._preparations.left_out().triggers:
            await asyncio.wait_for(ready.wait(), 60)
            ready.clear()
            fired += (await due.fire_ready(self.now)).fired
        return [f"{one.event.status} {one.event.dedupe_key}" for one in fired]

    async def put_secret(self, name: str, value: str) -> None:
        async with self.database.begin() as connection:
            keyring = self.resources["secrets"].keys.keyring()
            await store.put(connection, self.caller, keyring, self.project, name, value)

    async def row(self) -> Any:
        return (await rows(self.database, "SELECT * FROM triggers WHERE id = $1", self.id))[0]

    async def payloads(self) -> list[Any]:
        found = await rows(self.database, "SELECT payload FROM trigger_events WHERE status = 'FIRED' ORDER BY id")
        return [row["payload"] for row in found]
