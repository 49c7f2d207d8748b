"""Root queries of runs."""

import strawberry

from persistence.db.pagination import Page, PageArguments
from persistence.runs.run import Run
from resolvers.runs import queries as run_resolvers
from schema.info import Info
from schema.relay import Connection
from schema.runs.inputs import RunFilterInput, run_filter
from schema.runs.run import RunType


@strawberry.type
class RunQueries:
    @strawberry.field(graphql_type=RunType | None)
    @staticmethod
    async def run(info: Info, id: strawberry.ID) -> Run | None:
        return await run_resolvers.run(info.context, id)

    @strawberry.field(graphql_type=Connection[RunType], description="Newest first.")
    @staticmethod
    async def runs(
        info: Info,
        project_id: strawberry.ID | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: RunFilterInput | None = None,
    ) -> Page[Run]:
        return await run_resolvers.run_page(
            info.context,
            PageArguments(first, after, last, before),
            project_id=project_id,
            where=run_filter(filter),
        )
