"""Worker processes as clients see them."""

from datetime import datetime

import strawberry

from persistence.maintenance.presence import LiveWorker
from resolvers import workers
from schema.info import Info


@strawberry.type(name="Worker", description="A worker process that is alive.")
class WorkerType:
    id: strawberry.ID = strawberry.field(description="Its id, as in the logs. A restart gives another one.")
    host: str = strawberry.field(description="The name of its host.")
    pid: int = strawberry.field(description="Its process id on the host.")
    started_at: datetime | None = strawberry.field(
        description="When it registered. Null behind a pooler, where only its signs of life are known."
    )
    seen_at: datetime = strawberry.field(description="Its last sign of life, by the clock of the database.")
    runs: int = strawberry.field(description="How many runs it holds.")


@strawberry.type
class WorkerQueries:
    @strawberry.field(
        graphql_type=list[WorkerType],
        description="The live workers of the installation, the oldest first. For admins of all projects.",
    )
    @staticmethod
    async def workers(info: Info) -> list[LiveWorker]:
        return await workers.live_workers(info.context)
