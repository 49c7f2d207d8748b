"""List, read and create projects. A project is committed before the response is sent."""

from persistence.audit_log import record
from persistence.caller import Role
from persistence.db.ids import Prefix
from persistence.db.pagination import Page, PageArguments
from persistence.problems import Forbidden
from persistence.workflows import projects
from persistence.workflows.projects import Project
from resolvers.checks import checked_name
from resolvers.context import Context


async def project(context: Context, project_id: str) -> Project | None:
    return await context.loaders.project.load(project_id)


async def project_page(context: Context, arguments: PageArguments) -> Page[Project]:
    range_ = arguments.checked(Prefix.PROJECT)
    async with context.read() as connection:
        return await projects.page(connection, context.caller, range_)


async def own_projects(context: Context) -> list[Project]:
    """Return all projects of the caller by name."""
    async with context.read() as connection:
        by_id = await projects.get_many(connection, context.caller, context.caller.projects)
    return sorted(by_id.values(), key=lambda project: project.name)


async def create_project(context: Context, name: str) -> Project:
    """Create a project with the caller as its admin.

    Raises:
        Forbidden: The caller is not an admin of all projects.
        Invalid: The name is empty or too long.
        Conflict: A project has this name.
    """
    if not context.caller.may_create_projects:
        raise Forbidden("Creating a project requires the role admin in all projects (`*` in the claim of the token).")
    async with context.database.begin() as connection:
        created = await projects.create(connection, checked_name("input.name", name))
        await record(connection, context.caller, "createProject", created.id, created.id, after={"name": created.name})
    # A WebSocket keeps this Caller for all its operations, so the new role must be added to it.
    context.caller.roles[created.id] = Role.ADMIN
    return created
