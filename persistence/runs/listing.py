"""Lists of runs, and the usual duration of a version's runs.

Every query is limited to the caller's projects.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    CompoundSelect,
    FromClause,
    RowMapping,
    Select,
    Text,
    and_,
    cast,
    func,
    select,
    true,
    union,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.isolation.loop_share import in_turns
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db import barrier
from persistence.db.pagination import Page, group_by_parent, make_page, page_of_each, to_count
from persistence.db.tables import runs, versions
from persistence.runs.run import RUN_COLUMNS, Run, run_of
from persistence.runs.run_filter import RunFilter, conditions, named_workflows, searches
from persistence.runs.run_order import RunOrderField, RunRange

HISTORY_FOR_ESTIMATE = 50
"""How many of a version's last completed runs an estimate uses."""


@dataclass(frozen=True, slots=True)
class RunsQuery:
    """A page of the runs of one workflow or version, whose id is `id`."""

    of: Literal["workflow_id", "version_id"]
    id: str
    range_: RunRange
    where: RunFilter = field(default_factory=RunFilter)


async def page(
    connection: AsyncConnection,
    caller: Caller,
    range_: RunRange,
    *,
    project_id: str | None = None,
    where: RunFilter = RunFilter(),
) -> Page[Run]:
    """Read a page of the caller's runs, or of one project."""
    projects = [one for one in caller.projects if project_id in (None, one)]
    return await _page(connection, RunList(projects, where), range_)


async def pages(
    connection: AsyncConnection, caller: Caller, queries: Sequence[RunsQuery]
) -> dict[RunsQuery, Page[Run]]:
    """Read pages. Queries without a search that differ only in the workflow or version share a statement."""
    pages: dict[RunsQuery, Page[Run]] = {}
    for one, ids in group_by_parent(queries, "id").items():
        lists = {id: RunList(caller.projects, one.where, runs.c[one.of] == id) for id in ids}
        if one.where.search is None and one.range_.is_newest_first:
            query = select(*RUN_COLUMNS).where(runs.c.project_id.in_(caller.projects), *conditions(one.where))
            by_parent: dict[str, list[Run]] = {id: [] for id in ids}
            query = page_of_each(query, runs.c[one.of], ids, one.range_)
            async for row in in_turns(await _rows(connection, query, one.where, one.range_)):
                by_parent[row[one.of]].append(run_of(row))
            found = {id: make_page(by_parent[id], one.range_, lists[id].counted(one.range_)) for id in ids}
        else:
            found = {id: await _page(connection, lists[id], one.range_) for id in ids}
        pages |= {replace(one, id=id): each for id, each in found.items()}
    return pages


async def _page(connection: AsyncConnection, list_: "RunList", range_: RunRange) -> Page[Run]:
    rows = await _rows(connection, list_.page(range_), list_.where, range_)
    return make_page([run_of(row) async for row in in_turns(rows)], range_, list_.counted(range_))


async def _rows(
    connection: AsyncConnection, query: Select[Any], where: RunFilter, range_: RunRange
) -> Iterable[RowMapping]:
    """Read the runs of a query. If it needs an index that no policy lets it use, its ids are read first."""
    if barrier.is_behind(connection) and _needs_index(where, range_):
        async with barrier.before(connection):
            ids = list((await connection.execute(query.with_only_columns(query.selected_columns.id))).scalars())
        position = func.array_position(cast(ids, ARRAY(Text)), runs.c.id)
        query = select(*RUN_COLUMNS).where(runs.c.id.in_(ids)).order_by(position)
    rows: Iterable[RowMapping] = (await connection.execute(query)).mappings()
    return rows


def _needs_index(where: RunFilter, range_: RunRange) -> bool:
    """Whether an index on tags, errors or durations may answer the query."""
    filters = (where.tags, where.error_code, where.search, where.duration_ms_min, where.duration_ms_max)
    return range_.sort.field is RunOrderField.DURATION or any(one is not None for one in filters)


class RunList:
    """The runs of some projects that match a filter, as queries.

    Args:
        projects: The projects that the caller may see.
        where: The filter.
        parent: The condition of the workflow or version, if the list has only its runs.
    """

    def __init__(self, projects: Sequence[str], where: RunFilter, parent: ColumnElement[bool] | None = None) -> None:
        self._projects, self.where = projects, where
        self._conditions = [*conditions(where), *(() if parent is None else (parent,))]
        self._is_of_workflow = parent is not None

    def page(self, range_: RunRange) -> Select[Any]:
        """Select the runs of a page, and one more."""
        within = partial(_limited, range_, range_.count + 1)
        found = self._found(within, is_sorted_by_id=range_.sort.field is RunOrderField.CREATED_AT)
        return within(self._all(*RUN_COLUMNS) if found is None else select(*RUN_COLUMNS).where(runs.c.id.in_(found)))

    def counted(self, range_: RunRange) -> Select[Any]:
        """Return the value of `Page.counted` of every page of the list in this order."""

        def within(query: Select[Any]) -> Select[Any]:
            # The order leads the planner to an index, where it would read the table up to the limit.
            return to_count(query.where(*range_.sort.conditions())).order_by(*range_.sort.key())

        found = self._found(within, is_sorted_by_id=True)
        counted = within(self._all(runs.c.id)) if found is None else to_count(select(found.subquery()))
        return barrier.by_index(counted) if _needs_index(self.where, range_) else counted

    def _all(self, *selected: Any) -> Select[Any]:
        return select(*selected).where(runs.c.project_id.in_(self._projects), *self._conditions)

    def _found(
        self, within: Callable[[Select[Any]], Select[Any]], *, is_sorted_by_id: bool
    ) -> CompoundSelect[Any] | None:
        """Select the ids of runs of the list, at least those that `within` leaves of it.

        None if one index has them in the order.
        """
        if self.where.search is None and (is_sorted_by_id or len(self._projects) == 1):
            return None
        searched = [select(runs.c.id)] if self.where.search is None else searches(self.where)
        found = [self._of_projects(query, within, is_sorted_by_id) for query in searched]
        named = None if self._is_of_workflow else named_workflows(self.where, self._projects)
        if named is not None:
            found.append(_of_each(self._all(runs.c.id), runs.c.workflow_id, named.subquery(), within))
        return union(*found)

    def _of_projects(
        self, query: Select[Any], within: Callable[[Select[Any]], Select[Any]], is_sorted_by_id: bool
    ) -> Select[Any]:
        query = query.where(*self._conditions)
        if is_sorted_by_id or len(self._projects) == 1:
            return within(query.where(runs.c.project_id.in_(self._projects)))
        ids = func.unnest(cast(list(self._projects), ARRAY(Text))).table_valued("id", name="p").render_derived()
        return _of_each(query, runs.c.project_id, ids, within)


def _limited(range_: RunRange, count: int, query: Select[Any]) -> Select[Any]:
    return range_.ordered(range_.of(query)).limit(count)


def _of_each(
    query: Select[Any], parent: ColumnElement[Any], parents: FromClause, within: Callable[[Select[Any]], Select[Any]]
) -> Select[Any]:
    """Select what `within` leaves of each parent's runs: no index has the runs of all in one order."""
    rows = within(query.where(parent == parents.c.id)).lateral()
    return select(rows.c.id).select_from(parents.join(rows, true()))


async def median_durations(
    connection: AsyncConnection, caller: Caller, version_ids: Sequence[str]
) -> dict[str, timedelta]:
    """Return the median time from start to finish of the last completed runs, by version id.

    A version without any is left out.
    """
    last = (
        select((runs.c.finished_at - runs.c.started_at).label("took"))
        .where(
            and_(
                runs.c.version_id == versions.c.id,
                runs.c.project_id.in_(caller.projects),
                runs.c.status == RunStatus.COMPLETED,
                runs.c.started_at.is_not(None),
            )
        )
        .order_by(runs.c.id.desc())
        .limit(HISTORY_FOR_ESTIMATE)
        .lateral()
    )
    median = func.percentile_cont(0.5).within_group(last.c.took)
    query = select(versions.c.id, median).join(last, last.c.took.is_not(None)).where(versions.c.id.in_(version_ids))
    rows = await connection.execute(query.group_by(versions.c.id))
    return dict(rows.all())
