"""Lists of runs, newest first, and the usual duration of a version's runs.

Every query is limited to the caller's projects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.isolation.loop_share import in_turns
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.pagination import Page, PageRange, group_by_parent, make_page, page_of_each
from persistence.db.tables import runs, versions
from persistence.runs.run import Run, run_of
from persistence.runs.run_filter import RunFilter, conditions

HISTORY_FOR_ESTIMATE = 50
"""How many of a version's last completed runs an estimate uses."""


@dataclass(frozen=True, slots=True)
class RunsQuery:
    """A page of the runs of one workflow or version, whose id is `id`, newest first."""

    of: Literal["workflow_id", "version_id"]
    id: str
    range_: PageRange
    where: RunFilter = field(default_factory=RunFilter)


async def page(
    connection: AsyncConnection,
    caller: Caller,
    range_: PageRange,
    *,
    project_id: str | None = None,
    where: RunFilter = RunFilter(),
) -> Page[Run]:
    """Read a page of the caller's runs, or of one project."""
    query = select(runs).where(runs.c.project_id.in_(caller.projects), *conditions(where))
    if project_id is not None:
        query = query.where(runs.c.project_id == project_id)
    rows = await connection.execute(range_.limited(query, runs.c.id))
    return make_page([run_of(row) async for row in in_turns(rows.mappings())], range_)


async def pages(
    connection: AsyncConnection, caller: Caller, queries: Sequence[RunsQuery]
) -> dict[RunsQuery, Page[Run]]:
    """Read pages. Queries that differ only in the workflow or version share a statement."""
    pages: dict[RunsQuery, Page[Run]] = {}
    for runs_query, ids in group_by_parent(queries, "id").items():
        query = select(runs).where(runs.c.project_id.in_(caller.projects), *conditions(runs_query.where))
        by_parent: dict[str, list[Run]] = {id: [] for id in ids}
        rows = await connection.execute(page_of_each(query, runs.c[runs_query.of], ids, runs_query.range_))
        async for row in in_turns(rows.mappings()):
            by_parent[row[runs_query.of]].append(run_of(row))
        pages |= {replace(runs_query, id=id): make_page(found, runs_query.range_) for id, found in by_parent.items()}
    return pages


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
