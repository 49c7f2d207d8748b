"""Queries about runs."""

import strawberry

from persistence.db.pagination import Page
from persistence.runs.run import Run as RunRow
from resolvers.runs import queries as run_resolvers
from schema.info import Info
from schema.relay import Connection
from schema.runs.inputs import RunFilter, where_of
from schema.runs.run import Run


@strawberry.type
class RunQueries:
    @strawberry.field(graphql_type=Run | None)
    @staticmethod
    async def run(info: Info, id: strawberry.ID) -> RunRow | None:
        return await run_resolvers.run(info.context, id)

    @strawberry.field(graphql_type=Connection[Run], description="Newest first.")
    @staticmethod
    async def runs(
        info: Info,
        project_id: strawberry.ID | None = None,
        first: int | None = 25,
        after: str | None = None,
        filter: RunFilter | None = None,
    ) -> Page[RunRow]:
        return await run_resolvers.run_page(
            info.context, first=first, after=after, project_id=project_id, where=where_of(filter)
        )
