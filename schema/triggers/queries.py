"""Root queries of triggers."""

import strawberry

from persistence.db.pagination import Page
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
        info: Info, project_id: strawberry.ID | None = None, first: int | None = 25, after: str | None = None
    ) -> Page[Trigger]:
        return await queries.trigger_page(info.context, project_id, first=first, after=after)
