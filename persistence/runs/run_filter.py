"""`RunFilter`: which runs a list has.

The conditions of a query and the test of one run, for subscriptions, say the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ARRAY, ColumnElement, Text, and_, cast, text

from engine.states import RunSource, RunStatus
from persistence.db.ids import first_id
from persistence.db.tables import runs
from persistence.problems import invalid
from persistence.runs.run import Run

MAX_CLOCK_SKEW_S = 2 * 3600
"""How far the clocks of server and database may differ, in seconds.

It is a wrong summer time and a little more.
"""
MAX_DURATION_MS = 1e12
"""Milliseconds of the longest duration that a filter may name."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """The filter of a list of runs.

    A field that is None matches every run, an empty list of alternatives matches none. Of tags, a
    run must have all.
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

    def check(self) -> None:
        """Raise Invalid for values that no run can have, or that the database cannot compare."""
        for name, value in (("durationMsMin", self.duration_ms_min), ("durationMsMax", self.duration_ms_max)):
            if value is not None and not 0 <= value <= MAX_DURATION_MS:
                raise invalid(f"filter.{name}", "OUT_OF_RANGE", f"must be from 0 to {MAX_DURATION_MS:,}")

    def matches_status(self, status: RunStatus | None) -> bool:
        """Whether the filter accepts a status.

        No status, as before the creation of a run, is never accepted.
        """
        return status is not None and (self.status is None or status in self.status)

    def matches(self, run: Run) -> bool:
        """Whether a run matches everything but the status."""
        return self._matches_origin(run) and self._matches_end(run)

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


def conditions(where: RunFilter) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of a filter on the table `runs`."""
    column = runs.c
    if where.workflow_id is not None:
        yield column.workflow_id == where.workflow_id
    if where.version_id is not None:
        yield column.version_id == where.version_id
    if where.trigger_id is not None:
        yield column.trigger_id == where.trigger_id
    if where.status is not None:
        yield column.status.in_(where.status)
    if where.source is not None:
        yield column.source.in_(where.source)
    if where.tags:
        yield _has_tags(where.tags)
    if where.error_code is not None:
        one_of = text("(runs.error->>'code') = ANY(:codes)").bindparams(codes=list(where.error_code))
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


def _duration(where: RunFilter) -> Iterator[ColumnElement[bool]]:
    took = runs.c.finished_at - runs.c.started_at
    if where.duration_ms_min is not None:
        yield took >= timedelta(milliseconds=where.duration_ms_min)
    if where.duration_ms_max is not None:
        yield took <= timedelta(milliseconds=where.duration_ms_max)


def _has_tags(tags: Sequence[str]) -> ColumnElement[bool]:
    # The predicate of the index is literal, so that the planner sees that it holds.
    return and_(text("runs.tags <> '{}'"), runs.c.tags.op("@>")(cast(list(tags), ARRAY(Text))))
