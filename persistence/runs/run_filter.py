"""`RunFilter`: which runs a list has.

The conditions of a query and the test of one run, for subscriptions, say the same.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
)

from engine.states import TERMINAL, WITH_DEADLINE, RunSource, RunStatus, sql_list
from persistence.db.ids import first_id
from persistence.db.tables import runs, workflows
from persistence.problems import invalid
from persistence.runs.run import Run

MAX_CLOCK_SKEW_S = 2 * 3600
"""How far the clocks of server and database may differ, in seconds.

It is a wrong summer time and a little more.
"""
MAX_SEARCH = 200
ERROR_TEXT = "((runs.error->>'code') || ' ' || (runs.error->>'message'))"
"""The text of a run's error that is searched, as the trigram index has it."""
MAX_DURATION_MS = 1e12
"""Milliseconds of the longest duration that a filter may name."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """The filter of a list of runs.

    A field that is None matches every run, an empty list of alternatives matches none. Of tags, a
    run must have all. `search` is a part of the error (code and message) or of the name of the
    workflow, in upper or lower case, or it is a tag or the id of the run. In a list of one workflow,
    the name does not count.
    """

    workflow_id: str | None = None
    version_id: str | None = None
    trigger_id: str | None = None
    status: Sequence[RunStatus] | None = None
    source: Sequence[RunSource] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    tags: Sequence[str] | None = None
    error_code: Sequence[str] | None = None
    duration_ms_min: float | None = None
    duration_ms_max: float | None = None
    search: str | None = None

    def check(self) -> None:
        """Raise Invalid for values that no run can have, or that the database cannot compare."""
        for name, value in (("durationMsMin", self.duration_ms_min), ("durationMsMax", self.duration_ms_max)):
            if value is not None and not 0 <= value <= MAX_DURATION_MS:
                raise invalid(f"filter.{name}", "OUT_OF_RANGE", f"must be from 0 to {MAX_DURATION_MS:,}")
        if self.search is not None and not 1 <= len(self.search.strip()) <= MAX_SEARCH:
            raise invalid(
                "filter.search", "OUT_OF_RANGE", f"must have 1 to {MAX_SEARCH} characters besides white space"
            )

    def matches_status(self, status: RunStatus | None) -> bool:
        """Whether the filter accepts a status.

        No status, as before the creation of a run, is never accepted.
        """
        return status is not None and (self.status is None or status in self.status)

    def matches(self, run: Run, workflow_name: str = "") -> bool:
        """Whether a run matches everything but the status. Only `search` needs the name of its workflow."""
        return self._matches_origin(run) and self._matches_end(run) and self._matches_search(run, workflow_name)

    def _matches_search(self, run: Run, workflow_name: str) -> bool:
        if self.search is None:
            return True
        wanted = self.search.strip()
        error = "" if run.error is None else f"{run.error.code} {run.error.message}"
        name = "" if self.workflow_id is not None else workflow_name
        is_named = wanted == run.id or wanted in (run.options.tags or ())
        return is_named or any(wanted.lower() in text.lower() for text in (error, name))

    def _matches_origin(self, run: Run) -> bool:
        return (
            (self.workflow_id is None or run.workflow_id == self.workflow_id)
            and (self.version_id is None or run.version_id == self.version_id)
            and (self.trigger_id is None or run.trigger_id == self.trigger_id)
            and (self.source is None or run.source in self.source)
            and (self.created_after is None or run.created_at > self.created_after)
            and (self.created_before is None or run.created_at < self.created_before)
            and (self.tags is None or set(self.tags) <= set(run.options.tags or ()))
        )

    def _matches_end(self, run: Run) -> bool:
        if self.error_code is not None and (run.error is None or run.error.code not in self.error_code):
            return False
        if self.duration_ms_min is None and self.duration_ms_max is None:
            return True
        if run.started_at is None or run.finished_at is None:
            return False
        took_ms = (run.finished_at - run.started_at) / timedelta(milliseconds=1)
        return (self.duration_ms_min or 0) <= took_ms and (
            self.duration_ms_max is None or took_ms <= self.duration_ms_max
        )


def searches(where: RunFilter) -> list[Select[Any]]:
    """Return queries of ids of runs that together find what `search` selects; see `conditions`.

    Each is answered by an index of its own. One query with OR could use none of them in the order of
    a list.
    """
    wanted = (where.search or "").strip()
    of_run = select(runs.c.id)
    error = func.lower(literal_column(ERROR_TEXT)).like(func.lower(literal(f"%{_escaped(wanted)}%", Text)))
    return [
        of_run.where(text("runs.error IS NOT NULL"), error),
        of_run.where(_has_tags([wanted])),
        of_run.where(runs.c.id == wanted),
    ]


def named_workflows(where: RunFilter, projects: Sequence[str]) -> Select[Any] | None:
    """Select the workflows whose runs `search` finds by the name; None if the list is of one workflow."""
    if where.search is None or where.workflow_id is not None:
        return None
    named = workflows.c.name.icontains(where.search.strip(), autoescape=True)
    return select(workflows.c.id).where(workflows.c.project_id.in_(projects), named)


def _escaped(wanted: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", wanted)


def conditions(where: RunFilter) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of a filter on the table `runs`, without `search`."""
    column = runs.c
    if where.workflow_id is not None:
        yield column.workflow_id == where.workflow_id
    if where.version_id is not None:
        yield column.version_id == where.version_id
    if where.trigger_id is not None:
        yield column.trigger_id == where.trigger_id
    if where.status is not None:
        yield _has_status(where.status)
    if where.source is not None:
        yield column.source.in_(where.source)
    if where.tags:
        yield _has_tags(where.tags)
    if where.error_code is not None:
        codes = bindparam("codes", list(where.error_code), ARRAY(Text))
        one_of = text("(runs.error->>'code') = ANY(:codes)").bindparams(codes)
        yield and_(text("runs.error IS NOT NULL"), one_of)
    yield from _duration(where)
    # Lists are in the order of ids, which servers make by their own clocks. A bound on the id ends
    # the scan of the index.
    if where.created_after is not None:
        yield column.created_at > where.created_after
        yield column.id > first_id("run", where.created_after, -MAX_CLOCK_SKEW_S)
    if where.created_before is not None:
        yield column.created_at < where.created_before
        yield column.id < first_id("run", where.created_before, MAX_CLOCK_SKEW_S)


def _has_status(statuses: Sequence[RunStatus]) -> ColumnElement[bool]:
    # As the indexes are divided, and literal, so that the planner sees that a predicate holds.
    groups = [TERMINAL & {*statuses}, WITH_DEADLINE & {*statuses}, {*statuses} - TERMINAL - WITH_DEADLINE]
    return or_(false(), *(text(f"runs.status IN {sql_list(group)}") for group in groups if group))


def _duration(where: RunFilter) -> Iterator[ColumnElement[bool]]:
    took = runs.c.finished_at - runs.c.started_at
    if where.duration_ms_min is not None or where.duration_ms_max is not None:
        # The predicate of the index.
        yield and_(runs.c.finished_at.is_not(None), runs.c.started_at.is_not(None))
    if where.duration_ms_min is not None:
        yield took >= timedelta(milliseconds=where.duration_ms_min)
    if where.duration_ms_max is not None:
        yield took <= timedelta(milliseconds=where.duration_ms_max)


def _has_tags(tags: Sequence[str]) -> ColumnElement[bool]:
    # The predicate of the index is literal, so that the planner sees that it holds.
    return and_(text("runs.tags <> '{}'"), runs.c.tags.op("@>")(cast(list(tags), ARRAY(Text))))
