"""Asks the sources of triggers that are polled. `due` fires what is found.

A trigger is claimed before its source is asked, so that other workers do not ask as well. If the process
dies, the claim ends, and another worker asks again: nothing was written.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from engine.sdk.trigger import PollContext, PollFailed, PollResult, TriggerKind
from persistence.db.database import Database
from persistence.triggers.firing import NOT_PUBLISHED, PublishedVersion
from persistence.triggers.redis_streams import RedisStreams
from persistence.triggers.trigger import Trigger

log = structlog.get_logger(__name__)

CLAIM_S = 120.0
"""How long a worker may ask a source until another one may, in seconds."""
FAULT = "an unexpected error, which the log of the worker has (triggers.fault)"


class SourcePolls:
    """The polls of one process. `resources` are those of nodes; without them every poll fails."""

    def __init__(self, database: Database, resources: Mapping[str, Any] | None) -> None:
        self._database, self._resources = database, resources or {}
        self._acknowledging: dict[str, asyncio.Task[None]] = {}
        """By the id of the trigger."""

    async def claim(self, trigger: Trigger, now: datetime) -> Trigger | None:
        """Claim a trigger that is due as it was read. None: another worker asks its source."""
        until = now + timedelta(seconds=CLAIM_S)
        claimed = await self._database.pool.fetchval(_CLAIM, trigger.id, trigger.next_fire_at, until)
        return None if claimed is None else replace(trigger, next_fire_at=claimed)

    async def ask(
        self, trigger: Trigger, kind: TriggerKind[Any], config: Any, version: PublishedVersion | None, now: datetime
    ) -> PollResult:
        """Ask the source of a trigger. Raises PollFailed, also for an unexpected error, which is logged."""
        if version is None:  # The items must wait until one is published.
            raise PollFailed(NOT_PUBLISHED)
        http, secrets = self._resources.get("http"), self._resources.get("secrets")
        if http is None or secrets is None:
            raise PollFailed("this process has no access to sources")

        async def secret(name: str) -> str:
            return str((await secrets.resolve(trigger.project_id, [name]))[name])

        if (earlier := self._acknowledging.get(trigger.id)) is not None:
            await earlier  # Else the source would return the same items again.
        try:
            return await kind.poll(
                config, trigger.state, PollContext(now, trigger.id, http, RedisStreams(http.allowed), secret)
            )
        except PollFailed:
            raise
        except Exception as error:
            log.exception("triggers.fault", trigger_id=trigger.id, kind=trigger.kind)
            raise PollFailed(FAULT) from error

    def acknowledge(self, trigger: Trigger, result: PollResult) -> None:
        """Begin to tell a source that its items are accepted. Other triggers do not wait for it."""
        if result.acknowledge is not None:
            task = asyncio.create_task(_acknowledge(trigger.id, result.acknowledge))
            self._acknowledging[trigger.id] = task
            task.add_done_callback(lambda _: self._acknowledging.pop(trigger.id, None))


async def _acknowledge(trigger_id: str, acknowledge: Callable[[], Awaitable[None]]) -> None:
    """Acknowledge items. A failure is logged: the items come again, and are duplicates."""
    try:
        await acknowledge()
    except Exception as error:
        reason = str(error) if isinstance(error, PollFailed) else repr(error)
        log.warning("triggers.not_acknowledged", trigger_id=trigger_id, error=reason)


_CLAIM = """
UPDATE triggers SET next_fire_at = $3 WHERE id = $1 AND enabled AND next_fire_at = $2 RETURNING next_fire_at
"""
