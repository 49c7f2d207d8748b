"""Reads pages of the runs and checkpoints that belong to a run or a checkpoint.

One statement reads many parents, each by an index.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import ARRAY, ColumnElement, Select, Text, cast, column, func, or_, select, true, union
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.isolation.loop_share import in_turns
from engine.states import RunSource
from persistence.caller import Caller
from persistence.db.ids import Prefix
from persistence.db.pagination import HasId, Page, decode_cursor, group_by_parent, make_page
from persistence.db.tables import checkpoints, runs
from persistence.events.history import Checkpoint, checkpoints_of_row, visible_checkpoints
from persistence.events.steps import stored_id
from persistence.runs.run import Run, run_of

ItemT = TypeVar("ItemT", bound=HasId)


@dataclass(frozen=True, slots=True)
class RelatedRunsQuery:
    """One page of the runs or checkpoints of a parent, newest first.

    `source` filters runs; None selects all.
    """

    parent_id: str
    first: int
    after: str | None = None
    source: tuple[RunSource, ...] | None = None


async def derived_runs(
    connection: AsyncConnection, caller: Caller, queries: Sequence[RelatedRunsQuery]
) -> dict[RelatedRunsQuery, Page[Run]]:
    """Read the derived runs: retries, forks of the run's checkpoints, and child runs."""

    def of(parent: ColumnElement[str], query: RelatedRunsQuery) -> Select[Any]:
        child = runs.alias("child_run")
        ids = union(
            select(child.c.id).where(child.c.retry_of_id == parent).correlate(parent.table),
            select(child.c.id).where(child.c.parent_id == parent).correlate(parent.table),
            select(child.c.id)
            .join(checkpoints, checkpoints.c.id.in_(_stored_ids(child.c.forked_from_id)))
            .where(checkpoints.c.run_id == parent)
            .correlate(parent.table),
        ).lateral("derived")
        return _runs(caller, query).join(ids, ids.c.id == runs.c.id)

    return await _pages(connection, queries, of, lambda row, _: [run_of(row)])


async def forks(
    connection: AsyncConnection, caller: Caller, queries: Sequence[RelatedRunsQuery]
) -> dict[RelatedRunsQuery, Page[Run]]:
    """Read the runs forked from a checkpoint."""

    def of(parent: ColumnElement[str], query: RelatedRunsQuery) -> Select[Any]:
        return _runs(caller, query).where(runs.c.forked_from_id == parent)

    return await _pages(connection, queries, of, lambda row, _: [run_of(row)])


async def checkpoints_of(
    connection: AsyncConnection, caller: Caller, queries: Sequence[RelatedRunsQuery]
) -> dict[RelatedRunsQuery, Page[Checkpoint]]:
    """Read the checkpoints of a run, newest first, those derived from steps included.

    They are in the order of their events: their ids have the time of the worker that saved them,
    whose clock may be wrong.
    """

    def of(parent: ColumnElement[str], query: RelatedRunsQuery) -> Select[Any]:
        rows = visible_checkpoints(caller).where(checkpoints.c.run_id == parent)
        if query.after is not None:
            rows = rows.where(_is_before(decode_cursor(query.after, Prefix.CHECKPOINT)))
        return rows.order_by(checkpoints.c.seq.desc())

    def decode(row: Mapping[str, Any], query: RelatedRunsQuery) -> list[Checkpoint]:
        cursor = None if query.after is None else decode_cursor(query.after, Prefix.CHECKPOINT)
        is_row_of_cursor = cursor is not None and stored_id(cursor) == row["id"]
        return [each for each in checkpoints_of_row(row) if not is_row_of_cursor or each.id < str(cursor)]

    return await _pages(connection, queries, of, decode, order="seq")


def _is_before(cursor: str) -> ColumnElement[bool]:
    """Return the condition for rows before the checkpoint `cursor`, or with steps before it."""
    row = checkpoints.alias("at_cursor")
    seq = select(row.c.seq).where(row.c.id == cursor).scalar_subquery()
    with_steps = select(row.c.seq).where(row.c.id == stored_id(cursor), row.c.steps.is_not(None)).scalar_subquery()
    return or_(checkpoints.c.seq < seq, checkpoints.c.seq <= with_steps)


def _stored_ids(id_: ColumnElement[str]) -> list[ColumnElement[str]]:
    """Return the ids under which a checkpoint may be stored; see persistence.events.steps."""
    return [id_, func.left(id_, -2) + stored_id("..")[-2:]]


def _runs(caller: Caller, query: RelatedRunsQuery) -> Select[Any]:
    rows = select(runs).where(runs.c.project_id.in_(caller.projects))
    if query.source is not None:
        rows = rows.where(runs.c.source.in_(query.source))
    if query.after is not None:
        rows = rows.where(runs.c.id < decode_cursor(query.after, Prefix.RUN))
    return rows.order_by(runs.c.id.desc())


async def _pages(
    connection: AsyncConnection,
    queries: Sequence[RelatedRunsQuery],
    of: Callable[[ColumnElement[str], RelatedRunsQuery], Select[Any]],
    decode: Callable[[Mapping[str, Any], RelatedRunsQuery], list[ItemT]],
    *,
    order: str = "id",
) -> dict[RelatedRunsQuery, Page[ItemT]]:
    """Read pages.

    Queries that differ only in the parent, as those of one operation mostly do, share a statement.

    Args:
        of: Selects the rows of one parent, newest first, correlated to the column of the parent's
            id.
        decode: Decodes a row to the items that it stands for, newest first.
        order: The column by which `of` sorts, the newest row with the highest value.
    """
    pages: dict[RelatedRunsQuery, Page[ItemT]] = {}
    for query, parents in group_by_parent(queries, "parent_id").items():
        for parent_id, rows in (await _children(connection, parents, of, query, order)).items():
            items = [item for row in rows for item in decode(row, query)]
            page = make_page(items, first=query.first, after=query.after)
            pages[replace(query, parent_id=parent_id)] = page
    return pages


async def _children(
    connection: AsyncConnection,
    parents: Sequence[str],
    of: Callable[[ColumnElement[str], RelatedRunsQuery], Select[Any]],
    query: RelatedRunsQuery,
    order: str,
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each parent, newest first, enough for one item more than the page has.

    A row stands for one item or more. The row of the cursor itself may have none left.
    """
    ids = func.unnest(cast(parents, ARRAY(Text))).table_valued(column("parent_id", Text), name="parents")
    ids = ids.render_derived()
    child = of(ids.c.parent_id, query).limit(query.first + 2).lateral("child")
    rows = select(ids.c.parent_id.label("requested_parent_id"), child).select_from(ids.join(child, true()))
    by_parent: dict[str, list[dict[str, Any]]] = {parent: [] for parent in parents}
    children = await connection.execute(rows.order_by(ids.c.parent_id, child.c[order].desc()))
    async for row in in_turns(children.mappings()):
        values = dict(row)
        by_parent[values.pop("requested_parent_id")].append(values)
    return by_parent
