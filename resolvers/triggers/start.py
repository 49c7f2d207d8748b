"""Start a run of a trigger by hand, test a trigger, and fire for past planned times."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.sdk.trigger import TriggerKind
from engine.states import OnLimit, TriggerEventStatus
from engine.triggers.registry import config_of, installed_trigger_kinds
from engine.types import JSON
from engine.values.timestamps import format_timestamp
from persistence import mutation_keys
from persistence.audit_log import record
from persistence.db.ids import Prefix, new_id
from persistence.events.publisher import announce
from persistence.problems import Invalid, InvalidState, Problem, invalid
from persistence.runs import admission
from persistence.runs.run import CommandResult, Run
from persistence.triggers import events, pending
from persistence.triggers import trigger as triggers
from persistence.triggers.events import Firing, TriggerEvent, events_channel
from persistence.triggers.firing import (
    NOT_PUBLISHED,
    NotFired,
    PublishedVersion,
    PublishedVersions,
    make_inputs,
    prepare,
)
from persistence.triggers.pending import PendingFiring
from persistence.triggers.trigger import EVENT_AS_INPUT, Trigger
from persistence.workflows import versions, workflows
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.idempotent import audited, claim_test, run_idempotent
from resolvers.permissions import MUTATIONS
from resolvers.triggers.checks import ABSENT, checked_kind, json_problems

MAX_BACKFILL = 1000
"""Planned times that one backfill may start."""
BACKFILL_SPREAD = timedelta(milliseconds=100)
"""Time between two firings of a backfill."""
_published = PublishedVersions()


@dataclass(frozen=True, slots=True)
class TriggerTestResult:
    """What a trigger would do with an event."""

    would_fire: bool
    inputs: JSON
    payloads: list[JSON]
    errors: list[Problem] = field(default_factory=list)


async def run_trigger(
    context: Context, trigger_id: str, payload: JSON, idempotency_key: str | None, operation: str = "runTrigger"
) -> Run:
    """Start a run as the trigger would, also if the trigger is disabled.

    Args:
        context: The caller, who starts the run.
        trigger_id: The trigger.
        payload: The event; absent or null for the event of a firing at this moment.
        idempotency_key: A repeat with the same key returns the first run.
        operation: The mutation, for the audit log.

    Raises:
        InvalidState: The workflow has no published version.
        Invalid: The payload cannot be stored, or makes invalid inputs.
    """
    trigger = await _own_trigger(context, "runTrigger", trigger_id)
    kind, config = _usable(trigger)
    event = kind.event(config, datetime.now(UTC)) if payload in (ABSENT, None) else payload
    if problems := list(json_problems("input.payload", event)):
        raise Invalid(problems)
    version = await _published_version(context, trigger.workflow_id)
    if version is None:
        raise InvalidState(_sentence(NOT_PUBLISHED))
    key = f"manual:{new_id(Prefix.TRIGGER_EVENT)}"
    is_serial = kind.overlap(config) == "queue"
    firing = await prepare(trigger, key, event, version, caller=context.caller, is_serial=is_serial)
    if firing.new is None:
        raise invalid("input.payload", "INPUTS", firing.error or "makes no inputs")
    act = _Act(context, firing)
    arguments = [trigger_id, None if payload is ABSENT else payload]
    noted = audited(context, operation, act, triggerId=trigger_id)
    run = await run_idempotent(context, trigger.project_id, idempotency_key, "runTrigger", arguments, noted)
    await announce_events(context, act.events)
    return run


class _Act:
    """The change of one `runTrigger`, and the events that it wrote."""

    def __init__(self, context: Context, firing: Firing) -> None:
        self._context, self._firing = context, firing
        self.events: list[TriggerEvent] = []

    async def __call__(self, connection: AsyncConnection) -> CommandResult:
        context, new = self._context, self._firing.new
        assert new is not None
        await triggers.get(connection, context.caller, self._firing.trigger.id, lock=True)
        await context.queue_limit.admit(context.database.pool, new.project_id)

        async def admit(firing: Firing) -> Firing:
            cancelled = await admission.admit(connection, context.caller, new, context.database.deadlines)
            return replace(firing, admitted=tuple(cancelled))

        [recorded] = await events.record(connection, [self._firing], admit)
        self.events = [recorded.event]
        assert recorded.run is not None  # The key is new.
        return CommandResult(recorded.run, recorded.transitions)


async def announce_events(context: Context, written: list[TriggerEvent]) -> None:
    """Tell subscribers of new events."""
    for event in written:
        await announce(context.redis, events_channel(event.project_id), event.id)


async def backfill_trigger(context: Context, trigger_id: str, start: datetime, end: datetime) -> tuple[Trigger, int]:
    """Fire for the planned times of a range that have not fired. Workers start the runs one after the other.

    Returns:
        The trigger, and how many firings were added. A repeat adds none twice.

    Raises:
        Invalid: The range is in the future, or has too many planned times.
        InvalidState: The trigger does not fire by the clock.
    """
    trigger = await _own_trigger(context, "backfillTrigger", trigger_id)
    kind, config = _usable(trigger)
    if not kind.is_scheduled:
        raise InvalidState(f"A trigger of the kind {trigger.kind!r} has no planned times to fire for.")
    if end > datetime.now(UTC) or start > end:
        raise invalid("input.to", "OUT_OF_RANGE", "must be after `from`, and not in the future")
    firings: list[PendingFiring] = []
    time = kind.next_time(config, start - timedelta(microseconds=1))
    while time is not None and time <= end:
        if len(firings) == MAX_BACKFILL:
            raise invalid("input.to", "TOO_MANY", f"the range has more than {MAX_BACKFILL:,} planned times: split it")
        delay = BACKFILL_SPREAD * len(firings)
        firings.append(PendingFiring(format_timestamp(time), kind.event(config, time), delay))
        time = kind.next_time(config, time)
    async with context.database.begin() as connection:
        trigger = await triggers.get(connection, context.caller, trigger_id, lock=True)
        fired = await events.fired_keys(connection, trigger_id, [one.key for one in firings])
        added = await pending.add(connection, trigger_id, [one for one in firings if one.key not in fired])
        after = {"from": start, "to": end, "accepted": added}
        mutation_keys.note(accepted=added)
        await record(connection, context.caller, "backfillTrigger", trigger.project_id, trigger_id, after=after)
    await context.notifier.notify_triggers()
    return trigger, added


async def test_trigger(
    context: Context,
    *,
    trigger_id: str | None,
    workflow_id: str | None,
    kind: str | None,
    config: JSON,
    inputs: JSON,
    payload: JSON,
) -> TriggerTestResult:
    """Return what a trigger would do with an event, without a run.

    A stored trigger gets a TEST event. Its config and inputs may be replaced by those of the call.

    Raises:
        Invalid: Neither a trigger nor a workflow and a kind is named, or the config is invalid.
    """
    stored: Trigger | None = None
    if trigger_id is not None:
        stored = await _own_trigger(context, "testTrigger", trigger_id)
        _check_same(stored, workflow_id, kind)
        workflow_id, kind = stored.workflow_id, stored.kind
        config = stored.config if config is ABSENT else config
        inputs = stored.inputs if inputs is ABSENT else inputs
    elif workflow_id is None or kind is None:
        raise invalid("input.id", "REQUIRED", "name a trigger by `id`, or `workflowId`, `kind` and `config`")
    mapping = EVENT_AS_INPUT if inputs is ABSENT else inputs
    project_id = await _own_project(context, workflow_id) if stored is None else stored.project_id
    chosen, parsed = checked_kind(kind, {} if config is ABSENT else config, mapping)
    await claim_test(context, "testTrigger", project_id)
    return await _tested(context, stored, workflow_id, chosen, parsed, mapping, payload)


def _check_same(trigger: Trigger, workflow_id: str | None, kind: str | None) -> None:
    """Refuse arguments that exclude the id of a trigger, unless they are those of the trigger."""
    for name, sent, stored in (("workflowId", workflow_id, trigger.workflow_id), ("kind", kind, trigger.kind)):
        if sent not in (None, stored):
            raise invalid(
                f"input.{name}", "EXCLUSIVE", f"cannot differ from that of the trigger: omit `id` or `{name}`"
            )


async def _own_project(context: Context, workflow_id: str) -> str:
    """Return the project of a workflow that the caller may edit."""
    async with context.read() as connection:
        workflow = await workflows.get(connection, context.caller, workflow_id)
    require(context.caller, MUTATIONS["testTrigger"], workflow.project_id)
    return workflow.project_id


async def _tested(
    context: Context,
    trigger: Trigger | None,
    workflow_id: str,
    kind: TriggerKind[Any],
    config: Any,
    mapping: JSON,
    payload: JSON,
) -> TriggerTestResult:
    """Make the inputs of one event, and record it for a stored trigger."""
    event = _sample(kind, config) if payload in (ABSENT, None) else payload
    if problems := list(json_problems("input.payload", event)):
        raise Invalid(problems)
    version = await _published_version(context, workflow_id)
    errors: list[Problem] = []
    inputs: JSON = None
    if version is None:
        errors.append(InvalidState(_sentence(NOT_PUBLISHED)))
    try:
        inputs = await make_inputs(mapping, event, version or _ANY_VERSION)
    except NotFired as error:
        errors.append(invalid("input.inputs", "INPUTS", str(error)))
    if trigger is not None:
        await _record_test(context, trigger, event, errors)
    return TriggerTestResult(not errors, inputs, [event], errors)


async def _record_test(context: Context, trigger: Trigger, event: JSON, errors: list[Problem]) -> None:
    error = "; ".join(one.detail for one in errors) or None
    key = f"test:{new_id(Prefix.TRIGGER_EVENT)}"
    firing = Firing(trigger, key, event, TriggerEventStatus.TEST, error=error)
    async with context.database.begin() as connection:
        await triggers.get(connection, context.caller, trigger.id, lock=True)
        recorded = await events.record(connection, [firing])
    await announce_events(context, [one.event for one in recorded])


_ANY_VERSION = PublishedVersion("", None, None, OnLimit.QUEUE)
"""Stands for the published version of a workflow that has none: it accepts any inputs."""


def _sample(kind: TriggerKind[Any], config: Any) -> JSON:
    """Return the event of the next planned time; of this moment for a kind without planned times."""
    now = datetime.now(UTC)
    return kind.event(config, kind.next_time(config, now) or now)


async def _own_trigger(context: Context, operation: str, trigger_id: str) -> Trigger:
    """Return a trigger for which the caller may use a mutation. Raises NotFound, Forbidden."""
    async with context.read() as connection:
        trigger = await triggers.get(connection, context.caller, trigger_id)
    require(context.caller, MUTATIONS[operation], trigger.project_id)
    return trigger


def _usable(trigger: Trigger) -> tuple[TriggerKind[Any], Any]:
    """Return the kind and the config of a stored trigger. Raises InvalidState."""
    try:
        return config_of(installed_trigger_kinds(), trigger.kind, trigger.config)
    except ValueError as error:
        raise InvalidState(_sentence(f"the config of the trigger cannot be used: {error}")) from error


async def _published_version(context: Context, workflow_id: str) -> PublishedVersion | None:
    async with context.read() as connection:
        published = (await versions.get_published(connection, context.caller, [workflow_id])).get(workflow_id)
    if published is None:
        return None
    return (await _published.get(context.database.pool, [published.id])).get(published.id)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
