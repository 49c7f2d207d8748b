"""Read pages of the events and logs of a run: by number, and as connections. Nothing here writes."""

import re
from dataclasses import dataclass, replace

from persistence.db.pagination import Page, PageArguments, bad_cursor, cursor_text, encode_cursor
from persistence.events.history import EventsQuery, Window
from persistence.feed.feed import Expired
from persistence.problems import invalid
from persistence.runs.run import Run
from resolvers.context import Context
from resolvers.runs.queries import EventView, NodeViews

MAX_EVENTS = 1000
_CURSOR = re.compile(r"(?P<run>run_[0-9a-z]{26})/(?P<seq>[0-9]{1,9})")
"""The text of a cursor: a run, and the number of an event, which never changes."""


def check_window(window: Window) -> None:
    """Check that only one of `first` and `last` is set, and that all numbers are in range.

    Raises Invalid.
    """
    if window.first is not None and window.last is not None:
        raise invalid("last", "EXCLUSIVE", "cannot be used together with `first`: send one of them")
    for name, count in (("first", window.first), ("last", window.last)):
        if count is not None and not 1 <= count <= MAX_EVENTS:
            raise invalid(name, "OUT_OF_RANGE", f"must be from 1 to {MAX_EVENTS}, is {count}")
    for name, seq in (("after", window.after), ("before", window.before)):
        if seq is not None and seq < 0:
            raise invalid(name, "OUT_OF_RANGE", f"must be the number of an event, or 0, is {seq}")


@dataclass(frozen=True, slots=True)
class EventViews:
    """A page of event views; see `history.EventPage`."""

    nodes: list[EventView]
    first_seq: int
    last_seq: int
    has_more: bool


async def events(context: Context, run: Run, query: EventsQuery) -> EventViews:
    """Return a page of the events of a run. Raises Invalid for a wrong window.

    If the history of the run has expired, the only event of the page says so.
    """
    check_window(query.window)
    after = query.window.after or 0
    if (expired := _expired_after(run, after)) is not None:
        return EventViews([expired], after, run.last_seq, False)
    return await _event_page(context, query)


def _expired_after(run: Run, after: int) -> EventView | None:
    """Return the event that says that the events after a number are past retention; None if they are not."""
    if run.history_expired_at is None or after >= run.last_seq:
        return None
    return EventView(Expired(run.id, after, run.last_seq + 1, run.history_expired_at))


async def logs(context: Context, run: Run, query: EventsQuery) -> EventViews:
    """Return a page of the log events of a run; an empty one if its history has expired.

    Raises Invalid for a wrong window.
    """
    check_window(query.window)
    if run.history_expired_at is not None:
        return EventViews([], query.window.after or 0, run.last_seq, False)
    return await _event_page(context, query)


async def _event_page(context: Context, query: EventsQuery) -> EventViews:
    page = await context.loaders.events.load(query)
    assert page is not None
    views = await NodeViews.of(context, query.run_id)
    return EventViews([views.event(event) for event in page.events], page.first_seq, page.last_seq, page.has_more)


async def event_connection(context: Context, run: Run, arguments: PageArguments, query: EventsQuery) -> Page[EventView]:
    """Return a page of a connection of events, lowest number first. `query` has its filters.

    If the history of the run has expired, the only event of the page says so.

    Raises:
        Invalid: The size is out of range, or a cursor is not one of this run.
    """
    window = _window(run, arguments)
    if (expired := _expired_after(run, window.after or 0)) is not None:
        return Page([expired], [_cursor(run, run.last_seq)], False, window.after is not None)
    return await _connection(context, run, replace(query, window=window))


async def log_connection(context: Context, run: Run, arguments: PageArguments, query: EventsQuery) -> Page[EventView]:
    """Return a page of a connection of log events; an empty one if the history of the run has expired.

    Raises Invalid as `event_connection`.
    """
    window = _window(run, arguments)
    if run.history_expired_at is not None:
        return Page([], [], False, False)
    return await _connection(context, run, replace(query, window=window))


async def _connection(context: Context, run: Run, query: EventsQuery) -> Page[EventView]:
    page, window = await _event_page(context, query), query.window
    if window.is_backwards:
        has_next, has_previous = window.before is not None, page.has_more
    else:
        has_next, has_previous = page.has_more, window.after is not None
    return Page(page.nodes, [_cursor(run, view.event.seq) for view in page.nodes], has_next, has_previous)


def _window(run: Run, arguments: PageArguments) -> Window:
    count = arguments.checked_count()
    after, before = _seq(run, "after", arguments.after), _seq(run, "before", arguments.before)
    return Window(count, after, None, before) if arguments.last is None else Window(None, after, count, before)


def _cursor(run: Run, seq: int) -> str:
    return encode_cursor(f"{run.id}/{seq}")


def _seq(run: Run, argument: str, cursor: str | None) -> int | None:
    """Return the number in a cursor. Raises Invalid for one of another run, and for any other text."""
    if cursor is None:
        return None
    parts = _CURSOR.fullmatch(cursor_text(cursor))
    if parts is None or parts["run"] != run.id:
        raise bad_cursor(argument)
    return int(parts["seq"])
