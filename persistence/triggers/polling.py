"""Asks the sources of triggers that are polled. `due` fires what is found.

A trigger is claimed before its source is asked, so that other workers do not ask as well. A claim is the time
`next_fire_at`, until which the trigger is not due. The worker renews it until the firings are prepared. If the
process dies, the claim ends, and another worker asks again: nothing was written. docs/triggers.md has the states.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from cachetools import LRUCache

from engine.sdk.trigger import PollContext, PollFailed, PollResult, TriggerKind
from persistence.db.database import Database
from persistence.db.transient import is_transient
from persistence.triggers.firing import NOT_PUBLISHED, PublishedVersion
from persistence.triggers.redis_streams import RedisStreams
from persistence.triggers.trigger import Trigger

log = structlog.get_logger(__name__)

CLAIM_S = 30.0
"""How long a claim holds without a renewal, in seconds. A poll whose worker or store fails waits for so long."""
RENEWAL_S = 10.0
"""Seconds between two renewals of a claim."""
ASK_S = 300.0
"""How long a source may take, in seconds."""
MAX_UNACKNOWLEDGED = 1000
"""Failed acknowledgements that a process remembers."""
FAULT = "an unexpected error, which the log of the worker has (triggers.fault)"

Acknowledge = Callable[[], Awaitable[None]]


class PollClaim:
    """The right of this worker to poll a trigger, which it renews inside of `async with`.

    `trigger` is the row as this worker has last written it. If another worker has the claim, the row is another
    one, and what this worker has found is not written.
    """

    def __init__(self, database: Database, trigger: Trigger) -> None:
        self._database, self.trigger = database, trigger
        self._ending = asyncio.Event()

    async def __aenter__(self) -> "PollClaim":
        self._renewals = asyncio.create_task(self._renew_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        # Not cancelled: a renewal that has begun changes the row.
        self._ending.set()
        await self._renewals

    async def _renew_forever(self) -> None:
        clock = asyncio.get_running_loop().time
        renewed_at = clock()
        while not await self._ends_within(RENEWAL_S):
            now, until = clock(), self.trigger.next_fire_at
            assert until is not None
            renewed = await _move(self._database, self.trigger, until + timedelta(seconds=now - renewed_at))
            if renewed is not None:
                self.trigger, renewed_at = renewed, now

    async def _ends_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
        return self._ending.is_set()


async def _move(database: Database, trigger: Trigger, until: datetime) -> Trigger | None:
    """Claim a trigger that is as it was read, until a time. None: it is not, or Postgres is not available."""
    try:
        claimed = await database.pool.fetchval(_CLAIM, trigger.id, trigger.next_fire_at, until, trigger.updated_at)
    except Exception as error:
        if not is_transient(error):
            raise
        log.warning("triggers.not_claimed", trigger_id=trigger.id, error=str(error) or type(error).__name__)
        return None
    return None if claimed is None else replace(trigger, next_fire_at=claimed)


class SourcePolls:
    """The polls of one process. `resources` are those of nodes; without them every poll fails."""

    def __init__(self, database: Database, resources: Mapping[str, Any] | None) -> None:
        self._database, self._resources = database, resources or {}
        self._acknowledging: dict[str, asyncio.Task[None]] = {}
        """By the id of the trigger."""
        self._unacknowledged: LRUCache[tuple[str, datetime], Acknowledge] = LRUCache(MAX_UNACKNOWLEDGED)
        """By the id of the trigger and its last change: a change of the config is another source."""

    async def claim(self, trigger: Trigger, now: datetime) -> PollClaim | None:
        """Claim a trigger that is due as it was read. None: another worker asks its source."""
        claimed = await _move(self._database, trigger, now + timedelta(seconds=CLAIM_S))
        return None if claimed is None else PollClaim(self._database, claimed)

    async def ask(
        self, trigger: Trigger, kind: TriggerKind[Any], config: Any, version: PublishedVersion | None, now: datetime
    ) -> PollResult:
        """Ask the source of a trigger, after it has the acknowledgement of the items before.

        Raises:
            PollFailed: The source failed, or took longer than ASK_S.
        """
        if version is None:  # The items must wait until one is published.
            raise PollFailed(NOT_PUBLISHED)
        http, secrets = self._resources.get("http"), self._resources.get("secrets")
        if http is None or secrets is None:
            raise PollFailed("this process has no access to sources")

        async def secret(name: str) -> str:
            return str((await secrets.resolve(trigger.project_id, [name]))[name])

        limit = asyncio.timeout(ASK_S)
        try:
            async with limit:
                await self._finish_acknowledgement(trigger)
                context = PollContext(now, trigger.id, http, RedisStreams(http.allowed), secret)
                return await kind.poll(config, trigger.state, context)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise PollFailed(f"the source took longer than {ASK_S:g} s") from error

    def acknowledge(self, trigger: Trigger, result: PollResult) -> None:
        """Begin to tell a source that its items are accepted. Other triggers do not wait for it."""
        if result.acknowledge is not None:
            key = trigger.id, trigger.updated_at
            self._unacknowledged[key] = result.acknowledge
            task = asyncio.create_task(self._acknowledge(key, result.acknowledge))
            self._acknowledging[trigger.id] = task
            task.add_done_callback(lambda _: self._acknowledging.pop(trigger.id, None))

    async def _acknowledge(self, key: tuple[str, datetime], acknowledge: Acknowledge) -> None:
        """Acknowledge items. A failure is logged, and repeated before the next poll."""
        try:
            await acknowledge()
        except Exception as error:
            reason = str(error) if isinstance(error, PollFailed) else repr(error)
            log.warning("triggers.not_acknowledged", trigger_id=key[0], error=reason)
        else:
            self._unacknowledged.pop(key, None)

    async def _finish_acknowledgement(self, trigger: Trigger) -> None:
        """Wait for the last acknowledgement, and repeat it if it failed.

        Without it, the source would return the same items again, and for ever if it refuses all of them.
        Raises PollFailed.
        """
        if (running := self._acknowledging.get(trigger.id)) is not None:
            await running
        key = trigger.id, trigger.updated_at
        acknowledge = self._unacknowledged.get(key)
        if acknowledge is None:
            return
        try:
            await acknowledge()
        except PollFailed as error:
            raise PollFailed(f"the source accepts no acknowledgement of its last items: {error}") from error
        self._unacknowledged.pop(key, None)


_CLAIM = """
UPDATE triggers SET next_fire_at = $3 WHERE id = $1 AND enabled AND next_fire_at = $2 AND updated_at = $4
RETURNING next_fire_at
"""
