"""Turns an event into a run of the version that is published, or into the reason why it cannot.

Nothing is written here. The inputs are rendered before the transaction, because a template may take
seconds, and no transaction waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg
from cachetools import LRUCache

from engine.errors import NodeFailure
from engine.expressions import evaluator
from engine.expressions.evaluator import ExpressionError
from engine.isolation import suspension
from engine.spec.raw import concurrency_of
from engine.states import OnLimit, RunSource, TriggerEventStatus
from engine.types import JSON
from engine.values.json_schema import complete_inputs
from engine.values.large_values import off_loop
from engine.values.storable import stored_form
from persistence.caller import Caller
from persistence.runs.create import NewRun
from persistence.triggers.events import Firing
from persistence.triggers.trigger import Trigger

NOT_PUBLISHED = "the workflow has no published version: publish one, and enable the trigger again if it is disabled"
MAX_PROBLEMS = 3
"""Problems of the inputs that an error lists."""


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """What a firing needs of a version. Nothing of it ever changes."""

    id: str
    input_schema: JSON
    concurrency_limit: int | None
    on_limit: OnLimit


class PublishedVersions:
    """A cache of versions by id: their specs may be large, and schedules fire them again and again."""

    def __init__(self, size: int = 1000) -> None:
        self._versions: LRUCache[str, PublishedVersion] = LRUCache(size)

    async def get(self, pool: asyncpg.Pool, ids: Sequence[str]) -> dict[str, PublishedVersion]:
        """Return versions by id. One that does not exist any more is left out."""
        known = {id: self._versions[id] for id in ids if id in self._versions}
        if missing := sorted(set(ids) - known.keys()):
            for row in await pool.fetch("SELECT id, spec FROM versions WHERE id = ANY($1)", missing):
                known[row["id"]] = self._versions[row["id"]] = _version_of(row["id"], row["spec"])
        return known


def _version_of(version_id: str, spec: JSON) -> PublishedVersion:
    limit = concurrency_of(spec)
    schema = spec.get("inputs") if isinstance(spec, dict) else None
    if limit is None:
        return PublishedVersion(version_id, schema, None, OnLimit.QUEUE)
    return PublishedVersion(version_id, schema, limit.limit, limit.on_limit)


class NotFired(Exception):
    """The inputs of the run cannot be made from the event. The message says why."""


async def make_inputs(mapping: JSON, event: JSON, version: PublishedVersion) -> JSON:
    """Render the inputs of a run from an event, and complete them by the schema of the version.

    Raises:
        NotFired: A template fails, or the inputs do not match the schema.
    """
    return await suspension.call(_make_inputs, mapping, event, version)


def _make_inputs(mapping: JSON, event: JSON, version: PublishedVersion) -> JSON:
    try:
        inputs = off_loop(stored_form, evaluator.render(mapping, {"event": event}))
    except ExpressionError as error:
        raise NotFired(f"`inputs` of the trigger cannot be rendered: {error}") from error
    except NodeFailure as error:
        raise NotFired(f"`inputs` of the trigger cannot be stored: {error.message}") from error
    completed, problems = complete_inputs(inputs, version.input_schema)
    if problems:
        listed = "; ".join(f"{one.field}: {one.message}" for one in problems[:MAX_PROBLEMS])
        raise NotFired(f"the inputs do not match the schema of the published version: {listed}")
    return completed


async def prepare(
    trigger: Trigger,
    key: str,
    event: JSON,
    version: PublishedVersion | None,
    *,
    caller: Caller | None = None,
    is_serial: bool = False,
) -> Firing:
    """Make a firing: FIRED with its run, or FAILED with the reason.

    Args:
        trigger: The trigger.
        key: The deduplication key of the event.
        event: The event, storable JSON.
        version: The version that is published now; None if there is none.
        caller: Who starts the run; None for the trigger itself.
        is_serial: Whether the run waits in the queue while another run of the trigger is executed.
    """
    if version is None:
        return Firing(trigger, key, event, TriggerEventStatus.FAILED, error=NOT_PUBLISHED)
    try:
        inputs = await make_inputs(trigger.inputs, event, version)
    except NotFired as error:
        return Firing(trigger, key, event, TriggerEventStatus.FAILED, error=str(error))
    new = NewRun(trigger.project_id, trigger.workflow_id, version.id, inputs, source=RunSource.TRIGGER)
    new = replace(new, concurrency_limit=version.concurrency_limit, on_limit=version.on_limit)
    new = replace(new, trigger_id=trigger.id, is_serial=is_serial)
    return Firing(trigger, key, event, TriggerEventStatus.FIRED, new, caller=caller)


def unfired(firing: Firing, status: TriggerEventStatus, error: str) -> Firing:
    """Return the firing without its run, with the reason."""
    return replace(firing, status=status, error=error, new=None)
