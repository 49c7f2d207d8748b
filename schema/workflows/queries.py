"""Root queries of projects and workflows, and `node`, which finds any object by its global id."""

from dataclasses import dataclass
from datetime import datetime

import strawberry

from persistence.db.pagination import Page, PageArguments
from persistence.statistics.reading import Bucket
from persistence.workflows.projects import Project
from persistence.workflows.workflows import Workflow
from resolvers import global_ids
from resolvers import projects as project_resolvers
from resolvers.workflows import workflows as workflow_resolvers
from resolvers.workflows.statistics import Statistics, statistics
from schema.info import Info
from schema.relay import Connection, CountedConnection, Node
from schema.workflows.project import ProjectType, Viewer
from schema.workflows.statistics import RunStats
from schema.workflows.workflow import WorkflowType


@dataclass(frozen=True, slots=True)
class _Viewer:
    """The value of a Viewer."""

    subject: str
    projects: list[Project]
    scopes: list[str]


@strawberry.type
class WorkflowQueries:
    @strawberry.field(graphql_type=Node | None)
    @staticmethod
    async def node(info: Info, id: strawberry.ID) -> object | None:
        return await global_ids.node(info.context, id)

    @strawberry.field(graphql_type=list[Node | None], description="In the order of `ids`, which may hold at most 100.")
    @staticmethod
    async def nodes(info: Info, ids: list[strawberry.ID]) -> list[object | None]:
        return await global_ids.nodes(info.context, [str(id) for id in ids])

    @strawberry.field(graphql_type=Viewer)
    @staticmethod
    async def viewer(info: Info) -> _Viewer:
        caller = info.context.caller
        return _Viewer(caller.subject, await project_resolvers.own_projects(info.context), sorted(caller.all_scopes))

    @strawberry.field(graphql_type=RunStats | None)
    @staticmethod
    async def stats(
        info: Info,
        project_id: strawberry.ID | None = None,
        workflow_id: strawberry.ID | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        bucket: Bucket | None = Bucket.DAY,
    ) -> Statistics:
        return await statistics(info.context, project_id, workflow_id, since, until, bucket or Bucket.DAY)

    @strawberry.field(graphql_type=ProjectType | None)
    @staticmethod
    async def project(info: Info, id: strawberry.ID) -> Project | None:
        return await project_resolvers.project(info.context, id)

    @strawberry.field(graphql_type=Connection[ProjectType])
    @staticmethod
    async def projects(
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[Project]:
        return await project_resolvers.project_page(info.context, PageArguments(first, after, last, before))

    @strawberry.field(graphql_type=WorkflowType | None)
    @staticmethod
    async def workflow(info: Info, id: strawberry.ID) -> Workflow | None:
        return await workflow_resolvers.workflow(info.context, id)

    @strawberry.field(
        graphql_type=CountedConnection[WorkflowType], description="`search` filters by text in name or description."
    )
    @staticmethod
    async def workflows(
        info: Info,
        project_id: strawberry.ID | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        search: str | None = None,
    ) -> Page[Workflow]:
        return await workflow_resolvers.workflow_page(
            info.context, PageArguments(first, after, last, before), project_id=project_id, search=search
        )
