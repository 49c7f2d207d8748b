"""Reads pages of the runs and checkpoints that belong to a run or a checkpoint.

One statement reads many parents, each by an index.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    ScalarSelect,
    Select,
    Text,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    true,
    union,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.isolation.loop_share import in_turns
from engine.states import RunSource
from persistence.caller import Caller
from persistence.db.pagination import HasId, Page, PageRange, group_by_parent, make_page, to_count
from persistence.db.tables import checkpoints, runs
from persistence.events.history import Checkpoint, checkpoints_of_row, visible_checkpoints
from persistence.events.steps import stored_id
from persistence.runs.run import RUN_COLUMNS, Run, run_of

ItemT = TypeVar("ItemT", bound=HasId)


@dataclass(frozen=True, slots=True)
class RelatedRunsQuery:
    """One page of the runs or checkpoints of a parent, newest first.

    `source` filters runs; None selects all.
    """

    parent_id: str
    range_: PageRange
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

    return _countable(await _pages(connection, queries, of, lambda row, _: [run_of(row)]), of)


async def forks(
    connection: AsyncConnection, caller: Caller, queries: Sequence[RelatedRunsQuery]
) -> dict[RelatedRunsQuery, Page[Run]]:
    """Read the runs forked from a checkpoint."""

    def of(parent: ColumnElement[str], query: RelatedRunsQuery) -> Select[Any]:
        return _runs(caller, query).where(runs.c.forked_from_id == parent)

    return _countable(await _pages(connection, queries, of, lambda row, _: [run_of(row)]), of)


def _countable(
    pages: dict[RelatedRunsQuery, Page[Run]], of: Callable[[ColumnElement[str], RelatedRunsQuery], Select[Any]]
) -> dict[RelatedRunsQuery, Page[Run]]:
    """Add to each page the query of its whole list."""

    def counted(query: RelatedRunsQuery) -> Select[Any]:
        parent = select(literal(query.parent_id, Text).label("id")).subquery("parents")
        related = of(parent.c.id, replace(query, range_=PageRange(0))).lateral("related")
        return to_count(select(related.c.id).select_from(parent.join(related, true())))

    return {query: replace(page, counted=counted(query)) for query, page in pages.items()}


async def checkpoints_of(
    connection: AsyncConnection, caller: Caller, queries: Sequence[RelatedRunsQuery]
) -> dict[RelatedRunsQuery, Page[Checkpoint]]:
    """Read the checkpoints of a run, newest first, those derived from steps included.

    They are in the order of their events: their ids have the time of the worker that saved them,
    whose clock may be wrong.
    """

    def of(parent: ColumnElement[str], query: RelatedRunsQuery) -> Select[Any]:
        range_, rows = query.range_, visible_checkpoints(caller).where(checkpoints.c.run_id == parent)
        if range_.after is not None:
            seq, with_steps = _seqs_of(range_.after, parent)
            rows = rows.where(or_(checkpoints.c.seq < seq, checkpoints.c.seq <= with_steps))
        if range_.before is not None:
            seq, with_steps = _seqs_of(range_.before, parent)
            rows = rows.where(or_(checkpoints.c.seq > seq, checkpoints.c.seq >= with_steps))
        return rows

    def decode(row: Mapping[str, Any], query: RelatedRunsQuery) -> list[Checkpoint]:
        return [each for each in checkpoints_of_row(row) if _is_between_cursors(each.id, row["id"], query.range_)]

    return await _pages(connection, queries, of, decode, order="seq")


def _seqs_of(cursor: str, run_id: ColumnElement[str]) -> tuple[ScalarSelect[int], ScalarSelect[int]]:
    """Return the numbers of the row that is the checkpoint `cursor`, and of a row with it among its steps.

    Only rows of the run count: a cursor says nothing about the checkpoints of others.
    """
    row = checkpoints.alias("at_cursor")
    seqs = select(row.c.seq).where(row.c.run_id == run_id).correlate(run_id.table)
    with_steps = seqs.where(row.c.id == stored_id(cursor), row.c.steps.is_not(None))
    return seqs.where(row.c.id == cursor).scalar_subquery(), with_steps.scalar_subquery()


def _is_between_cursors(id: str, row_id: str, range_: PageRange) -> bool:
    """Return whether a checkpoint of a row is in the range. Only a row of a cursor has some that are not."""
    after, before = range_.after, range_.before
    is_behind = after is None or stored_id(after) != row_id or id < after
    return is_behind and (before is None or stored_id(before) != row_id or id > before)


def _stored_ids(id_: ColumnElement[str]) -> list[ColumnElement[str]]:
    """Return the ids under which a checkpoint may be stored; see persistence.events.steps."""
    return [id_, func.left(id_, -2) + stored_id("..")[-2:]]


def _runs(caller: Caller, query: RelatedRunsQuery) -> Select[Any]:
    rows = select(*RUN_COLUMNS).where(runs.c.project_id.in_(caller.projects))
    if query.source is not None:
        rows = rows.where(runs.c.source.in_(query.source))
    return query.range_.of(rows, runs.c.id)


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
        of: Selects the rows of one parent, correlated to the column of the parent's id.
        decode: Decodes a row to the items that it stands for, newest first.
        order: The column by which the rows are sorted, the newest row with the highest value.
    """
    pages: dict[RelatedRunsQuery, Page[ItemT]] = {}
    for query, parents in group_by_parent(queries, "parent_id").items():
        for parent_id, rows in (await _children(connection, parents, of, query, order)).items():
            items = [item for row in rows for item in _in_order(decode(row, query), query)]
            pages[replace(query, parent_id=parent_id)] = make_page(items, query.range_)
    return pages


def _in_order(items: list[ItemT], query: RelatedRunsQuery) -> list[ItemT]:
    """Return the items of a row, newest first, in the order in which the page is read."""
    return items[::-1] if query.range_.is_backward else items


async def _children(
    connection: AsyncConnection,
    parents: Sequence[str],
    of: Callable[[ColumnElement[str], RelatedRunsQuery], Select[Any]],
    query: RelatedRunsQuery,
    order: str,
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each parent in the order of reading, enough for one item more than the page has.

    A row stands for one item or more. The row of the cursor itself may have none left.
    """
    ids = func.unnest(cast(parents, ARRAY(Text))).table_valued(column("parent_id", Text), name="parents")
    ids = ids.render_derived()
    selected = of(ids.c.parent_id, query)
    ordered = selected.order_by(query.range_.order(selected.selected_columns[order]))
    child = ordered.limit(query.range_.count + 2).lateral("child")
    rows = select(ids.c.parent_id.label("requested_parent_id"), child).select_from(ids.join(child, true()))
    by_parent: dict[str, list[dict[str, Any]]] = {parent: [] for parent in parents}
    children = await connection.execute(rows.order_by(ids.c.parent_id, query.range_.order(child.c[order])))
    async for row in in_turns(children.mappings()):
        values = dict(row)
        by_parent[values.pop("requested_parent_id")].append(values)
    return by_parent
