"""Root queries of runs."""

import strawberry

from persistence.db.pagination import Page, PageArguments
from persistence.runs.run import Run
from resolvers.runs import queries as run_resolvers
from schema.info import Info
from schema.relay import CountedConnection
from schema.runs.inputs import RunFilterInput, RunOrderInput, run_filter, run_order
from schema.runs.run import RunType


@strawberry.type
class RunQueries:
    @strawberry.field(graphql_type=RunType | None)
    @staticmethod
    async def run(info: Info, id: strawberry.ID) -> Run | None:
        return await run_resolvers.run(info.context, id)

    @strawberry.field(
        graphql_type=CountedConnection[RunType], description="Newest first, unless `orderBy` has another order."
    )
    @staticmethod
    async def runs(
        info: Info,
        project_id: strawberry.ID | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: RunFilterInput | None = None,
        order_by: RunOrderInput | None = None,
    ) -> Page[Run]:
        return await run_resolvers.run_page(
            info.context,
            PageArguments(first, after, last, before),
            project_id=project_id,
            where=run_filter(filter),
            order=run_order(order_by),
        )
