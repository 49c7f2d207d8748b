"""Who may do what. What a caller may not see does not exist for them; what they see but may not do is Forbidden."""

from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.caller import Caller, Role
from persistence.problems import Forbidden, NotFound, invalid
from persistence.workflows import projects


def require(caller: Caller, role: Role, project_id: str) -> None:
    """Raises NotFound or Forbidden."""
    if project_id not in caller.roles:
        raise NotFound(project_id)
    if not caller.may(role, project_id):
        raise Forbidden(f"This takes the role {role} in the project.")


async def project_for(connection: AsyncConnection, caller: Caller, role: Role, project_id: str | None) -> str:
    """The project meant in a create: the one named, else the caller's only one or `default`."""
    chosen = await projects.default_id(connection, caller) if project_id is None else project_id
    if chosen is None:
        raise invalid("input.projectId", "REQUIRED", "You have several projects: name one.")
    require(caller, role, chosen)
    return chosen
