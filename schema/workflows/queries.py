"""Queries about projects and workflows, and about anything by its id."""

from dataclasses import dataclass

import strawberry

from persistence.db.pagination import Page
from persistence.workflows.projects import Project as ProjectRow
from persistence.workflows.workflows import Workflow as WorkflowRow
from resolvers import global_ids as node_resolvers
from resolvers import projects as project_resolvers
from resolvers.workflows import workflows as workflow_resolvers
from schema.info import Info
from schema.relay import Connection, Node
from schema.workflows.project import Project, Viewer
from schema.workflows.workflow import Workflow


@dataclass(frozen=True, slots=True)
class _Viewer:
    subject: str
    projects: list[ProjectRow]
    scopes: list[str]


@strawberry.type
class WorkflowQueries:
    @strawberry.field(graphql_type=Node | None)
    @staticmethod
    async def node(info: Info, id: strawberry.ID) -> object | None:
        return await node_resolvers.node(info.context, id)

    @strawberry.field(graphql_type=list[Node | None], description="In the order of `ids`, at most 100.")
    @staticmethod
    async def nodes(info: Info, ids: list[strawberry.ID]) -> list[object | None]:
        return await node_resolvers.nodes(info.context, [str(id) for id in ids])

    @strawberry.field(graphql_type=Viewer)
    @staticmethod
    async def viewer(info: Info) -> _Viewer:
        caller = info.context.caller
        return _Viewer(caller.subject, await project_resolvers.mine(info.context), sorted(caller.scopes))

    @strawberry.field(graphql_type=Project | None)
    @staticmethod
    async def project(info: Info, id: strawberry.ID) -> ProjectRow | None:
        return await project_resolvers.project(info.context, id)

    @strawberry.field(graphql_type=Connection[Project])
    @staticmethod
    async def projects(info: Info, first: int | None = 25, after: str | None = None) -> Page[ProjectRow]:
        return await project_resolvers.project_page(info.context, first=first, after=after)

    @strawberry.field(graphql_type=Workflow | None)
    @staticmethod
    async def workflow(info: Info, id: strawberry.ID) -> WorkflowRow | None:
        return await workflow_resolvers.workflow(info.context, id)

    @strawberry.field(graphql_type=Connection[Workflow], description="`search` is looked for in name and description.")
    @staticmethod
    async def workflows(
        info: Info,
        project_id: strawberry.ID | None = None,
        first: int | None = 25,
        after: str | None = None,
        search: str | None = None,
    ) -> Page[WorkflowRow]:
        return await workflow_resolvers.workflow_page(
            info.context, project_id=project_id, first=first, after=after, search=search
        )
