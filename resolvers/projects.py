"""Projects: list, read, create. A project that was created is there before the answer is."""

from persistence.caller import Role
from persistence.db.pagination import Page, checked_first
from persistence.problems import Forbidden
from persistence.workflows import projects
from persistence.workflows.projects import Project
from resolvers.checks import checked_name
from resolvers.context import Context


async def project(context: Context, project_id: str) -> Project | None:
    return await context.loaders.project.load(project_id)


async def project_page(context: Context, *, first: int | None, after: str | None) -> Page[Project]:
    async with context.database.connect() as connection:
        return await projects.page(connection, context.caller, first=checked_first(first), after=after)


async def mine(context: Context) -> list[Project]:
    """Every project of the caller, by name."""
    async with context.database.connect() as connection:
        found = await projects.get_many(connection, context.caller, context.caller.projects)
    return sorted(found.values(), key=lambda project: project.name)


async def create_project(context: Context, name: str) -> Project:
    """Who creates a project is its admin. Raises Forbidden, Invalid, Conflict."""
    if "admin" not in context.caller.scopes:
        raise Forbidden("Creating a project takes the scope admin.")
    async with context.database.begin() as connection:
        created = await projects.create(connection, checked_name("input.name", name))
    # A WebSocket keeps its caller: from now on this project is one of theirs.
    context.caller.roles[created.id] = Role.ADMIN
    return created
