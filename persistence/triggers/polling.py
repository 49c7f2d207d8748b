"""Asks the sources of triggers that are polled. `due` fires what is found.

A trigger is claimed before its source is asked, so that other workers do not ask as well. If the process
dies, the claim ends, and another worker asks again: nothing was written.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from engine.sdk.trigger import PollContext, PollFailed, PollResult, TriggerKind
from persistence.db.database import Database
from persistence.triggers.firing import NOT_PUBLISHED, PublishedVersion
from persistence.triggers.trigger import Trigger

log = structlog.get_logger(__name__)

CLAIM_S = 120.0
"""How long a worker may ask a source until another one may, in seconds."""
FAULT = "an unexpected error, which the log of the worker has (triggers.fault)"


class SourcePolls:
    """The polls of one process. `resources` are those of nodes; without them every poll fails."""

    def __init__(self, database: Database, resources: Mapping[str, Any] | None) -> None:
        self._database, self._resources = database, resources or {}

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

        try:
            return await kind.poll(config, trigger.state, PollContext(now, http, secret))
        except PollFailed:
            raise
        except Exception as error:
            log.exception("triggers.fault", trigger_id=trigger.id, kind=trigger.kind)
            raise PollFailed(FAULT) from error


_CLAIM = """
UPDATE triggers SET next_fire_at = $3 WHERE id = $1 AND enabled AND next_fire_at = $2 RETURNING next_fire_at
"""
