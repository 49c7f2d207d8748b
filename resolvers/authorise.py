"""Authorisation: which role an operation needs in which project.

An object that the caller may not see is reported as NotFound, as if it did not exist. An operation
that the caller may not do on an object that they see is Forbidden. resolvers/permissions.py has the
role that each operation needs.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.caller import Caller, Role
from persistence.problems import Forbidden, NotFound, invalid
from persistence.workflows import projects


def require(caller: Caller, role: Role | None, project_id: str) -> None:
    """Check that the caller has at least `role` in the project; None for any role.

    Raises:
        NotFound: The caller has no role in the project.
        Forbidden: The caller has a lower role.
    """
    if project_id not in caller.roles:
        raise NotFound(project_id)
    if role is not None and not caller.may(role, project_id):
        raise Forbidden(f"This requires the role {role} in the project.")


async def project_for(connection: AsyncConnection, caller: Caller, role: Role, project_id: str | None) -> str:
    """Return the project that a new object belongs to, and check the role of the caller in it.

    Args:
        connection: A connection to read the projects of the caller.
        caller: The caller.
        role: The role that the caller needs in the project.
        project_id: The project that the caller has named. None: the caller's only project, or else
            `default`.

    Raises:
        Invalid: No project is named, and the caller has several and none named `default`.
        NotFound: The caller has no role in the project.
        Forbidden: The caller has a lower role.
    """
    chosen = await projects.default_id(connection, caller) if project_id is None else project_id
    if chosen is None:
        raise invalid("input.projectId", "REQUIRED", "You have several projects: name one.")
    require(caller, role, chosen)
    return chosen
