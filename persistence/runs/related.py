"""What belongs to a run or to a checkpoint, in pages: those of many parents in one statement, each by an index. Reads only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import ARRAY, ColumnElement, Select, Text, cast, column, func, select, true, union
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import RunSource
from persistence.caller import Caller
from persistence.db.ids import Prefix
from persistence.db.pagination import HasId, Page, decode_cursor, group_by_parent, make_page
from persistence.db.tables import checkpoints, runs
from persistence.events.history import Checkpoint, visible_checkpoints
from persistence.runs.run import Run, run_of

ItemT = TypeVar("ItemT", bound=HasId)


@dataclass(frozen=True, slots=True)
class RelatedRunsQuery:
    """One page that is asked for, newest first. `source` narrows runs."""

    parent_id: str
    first: int
    after: str | None = None
    source: tuple[RunSource, ...] | None = None


async def derived_runs(
    connection: AsyncConnection, caller: Caller, asks: Sequence[RelatedRunsQuery]
) -> dict[RelatedRunsQuery, Page[Run]]:
    """Runs made from a run: its retries, the forks from its checkpoints, its child runs."""

    def of(parent: ColumnElement[str], ask: RelatedRunsQuery) -> Select[Any]:
        child = runs.alias("child_run")
        found = union(
            select(child.c.id).where(child.c.retry_of_id == parent).correlate(parent.table),
            select(child.c.id).where(child.c.parent_id == parent).correlate(parent.table),
            select(child.c.id)
            .join(checkpoints, checkpoints.c.id == child.c.forked_from_id)
            .where(checkpoints.c.run_id == parent)
            .correlate(parent.table),
        ).lateral("found")
        return _runs(caller, ask).join(found, found.c.id == runs.c.id)

    return await _pages(connection, asks, of, run_of)


async def forks(
    connection: AsyncConnection, caller: Caller, asks: Sequence[RelatedRunsQuery]
) -> dict[RelatedRunsQuery, Page[Run]]:
    """Runs that began at a checkpoint."""

    def of(parent: ColumnElement[str], ask: RelatedRunsQuery) -> Select[Any]:
        return _runs(caller, ask).where(runs.c.forked_from_id == parent)

    return await _pages(connection, asks, of, run_of)


async def checkpoints_of(
    connection: AsyncConnection, caller: Caller, asks: Sequence[RelatedRunsQuery]
) -> dict[RelatedRunsQuery, Page[Checkpoint]]:
    """The checkpoints of a run."""

    def of(parent: ColumnElement[str], ask: RelatedRunsQuery) -> Select[Any]:
        query = visible_checkpoints(caller).where(checkpoints.c.run_id == parent)
        if ask.after is not None:
            query = query.where(checkpoints.c.id < decode_cursor(ask.after, Prefix.CHECKPOINT))
        return query.order_by(checkpoints.c.id.desc())

    return await _pages(connection, asks, of, lambda row: Checkpoint(**row))


def _runs(caller: Caller, ask: RelatedRunsQuery) -> Select[Any]:
    query = select(runs).where(runs.c.project_id.in_(caller.projects))
    if ask.source is not None:
        query = query.where(runs.c.source.in_(ask.source))
    if ask.after is not None:
        query = query.where(runs.c.id < decode_cursor(ask.after, Prefix.RUN))
    return query.order_by(runs.c.id.desc())


async def _pages(
    connection: AsyncConnection,
    asks: Sequence[RelatedRunsQuery],
    of: Callable[[ColumnElement[str], RelatedRunsQuery], Select[Any]],
    made: Callable[[Mapping[str, Any]], ItemT],
) -> dict[RelatedRunsQuery, Page[ItemT]]:
    """One statement for all that ask group_by_parent, as the fields of one operation mostly do."""
    pages: dict[RelatedRunsQuery, Page[ItemT]] = {}
    for ask, parents in group_by_parent(asks, "parent_id").items():
        for parent_id, rows in (await _children(connection, parents, of, ask)).items():
            page = make_page([made(row) for row in rows], first=ask.first, after=ask.after)
            pages[replace(ask, parent_id=parent_id)] = page
    return pages


async def _children(
    connection: AsyncConnection,
    parents: Sequence[str],
    of: Callable[[ColumnElement[str], RelatedRunsQuery], Select[Any]],
    ask: RelatedRunsQuery,
) -> dict[str, list[dict[str, Any]]]:
    """The rows of each parent, in the order of `of`'s."""
    asked = func.unnest(cast(parents, ARRAY(Text))).table_valued(column("asked_by", Text), name="asked")
    asked = asked.render_derived()
    child = of(asked.c.asked_by, ask).limit(ask.first + 1).lateral("child")
    query = select(asked.c.asked_by, child).select_from(asked.join(child, true()))
    found: dict[str, list[dict[str, Any]]] = {parent: [] for parent in parents}
    for row in (await connection.execute(query.order_by(asked.c.asked_by, child.c.id.desc()))).mappings():
        values = dict(row)
        found[values.pop("asked_by")].append(values)
    return found
