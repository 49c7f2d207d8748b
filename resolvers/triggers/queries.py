"""Read triggers, their events and planned times, and follow their events. Nothing here writes."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

from engine.triggers.registry import config_of, installed_trigger_kinds
from persistence.db.ids import Prefix
from persistence.db.pagination import Page, PageArguments
from persistence.problems import NotFound, invalid
from persistence.triggers import trigger as triggers
from persistence.triggers.events import EventsOfTrigger, TriggerEvent, events_channel
from persistence.triggers.trigger import Trigger, TriggersQuery
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.permissions import QUERIES, SUBSCRIPTIONS

MAX_NEXT_TIMES = 100


async def trigger_page(context: Context, project_id: str | None, arguments: PageArguments) -> Page[Trigger]:
    """Return a page of triggers, newest first. Raises NotFound for a project that is hidden."""
    if project_id is not None:
        require(context.caller, QUERIES["triggers"], project_id)
    range_ = arguments.checked(Prefix.TRIGGER)
    async with context.read() as connection:
        return await triggers.page(connection, context.caller, range_, project_id=project_id)


async def triggers_of_workflow(context: Context, workflow_id: str, arguments: PageArguments) -> Page[Trigger]:
    """Return a page of the triggers of a workflow, newest first."""
    page = await context.loaders.triggers.load(TriggersQuery(workflow_id, arguments.checked(Prefix.TRIGGER)))
    assert page is not None
    return page


async def event_page(context: Context, trigger_id: str, arguments: PageArguments) -> Page[TriggerEvent]:
    """Return a page of the events of a trigger, newest first."""
    query = EventsOfTrigger(trigger_id, arguments.checked(Prefix.TRIGGER_EVENT))
    page = await context.loaders.trigger_events.load(query)
    assert page is not None
    return page


def next_times(trigger: Trigger, first: int | None) -> list[datetime]:
    """Return the next planned times of an enabled trigger; none for one that cannot compute them.

    Raises Invalid unless `first` is from 1 to MAX_NEXT_TIMES.
    """
    count = 10 if first is None else first
    if not 1 <= count <= MAX_NEXT_TIMES:
        raise invalid("first", "OUT_OF_RANGE", f"must be from 1 to {MAX_NEXT_TIMES}, is {count}")
    times: list[datetime] = []
    try:
        kind, config = config_of(installed_trigger_kinds(), trigger.kind, trigger.config)
        time = trigger.planned_at if trigger.enabled else None
        while time is not None and len(times) < count:
            times.append(time)
            time = kind.next_time(config, time)
    except ValueError:
        return times  # The worker that fires it writes the reason into `lastError`.
    return times


async def new_events(context: Context, project_id: str | None, trigger_id: str | None) -> AsyncGenerator[TriggerEvent]:
    """Follow the events of the caller's projects, of one project, or of one trigger.

    Raises NotFound for a project or a trigger that is hidden.
    """
    if trigger_id is not None:
        trigger = await context.loaders.trigger.load(trigger_id)
        if trigger is None:
            raise NotFound(trigger_id)
        project_id = trigger.project_id
    if project_id is not None:
        require(context.caller, SUBSCRIPTIONS["triggerEvents"], project_id)
    chosen = context.caller.projects if project_id is None else [project_id]
    async with aclosing(context.feed.messages(*map(events_channel, chosen))) as messages:
        async for event_id in messages:
            event = None if event_id is None else await context.loaders.trigger_event.load(event_id)
            if event is not None and trigger_id in (None, event.trigger_id):
                yield event
