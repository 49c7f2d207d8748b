"""Root queries of triggers."""

import strawberry

from persistence.db.pagination import Page, PageArguments
from persistence.triggers.trigger import Trigger
from resolvers.triggers import queries
from schema.info import Info
from schema.relay import Connection
from schema.triggers.trigger import TriggerType


@strawberry.type
class TriggerQueries:
    @strawberry.field(graphql_type=TriggerType | None)
    @staticmethod
    async def trigger(info: Info, id: strawberry.ID) -> Trigger | None:
        return await info.context.loaders.trigger.load(id)

    @strawberry.field(graphql_type=Connection[TriggerType], description="Newest first.")
    @staticmethod
    async def triggers(
        info: Info,
        project_id: strawberry.ID | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[Trigger]:
        return await queries.trigger_page(info.context, project_id, PageArguments(first, after, last, before))
