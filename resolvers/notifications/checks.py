"""Checks that endpoints and alert rules share."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.problems import FieldProblem
from persistence.workflows import workflows
from resolvers.context import Context

MAX_WORKFLOWS = 100


async def workflow_problems(
    connection: AsyncConnection, context: Context, project_id: str, ids: Sequence[str]
) -> list[FieldProblem]:
    """Return the problems of `workflowIds` of an input."""
    if len(ids) > MAX_WORKFLOWS:
        message = f"must have at most {MAX_WORKFLOWS} workflows, has {len(ids)}"
        return [FieldProblem("input.workflowIds", "LENGTH", message)]
    found = await workflows.get_many(connection, context.caller, list(ids))
    return [
        FieldProblem(f"input.workflowIds[{place}]", "UNKNOWN", f"the project has no workflow {id!r}")
        for place, id in enumerate(ids)
        if id not in found or found[id].project_id != project_id
    ]
