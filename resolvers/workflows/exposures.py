"""Exposures of workflows: check them, change them, and find what a name means for a caller.

A change is a part of the transaction of `updateWorkflow`. A name means the published version at the time of
each call, so nothing here is kept in memory.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.types import JSON
from persistence.caller import Caller
from persistence.problems import NotFound, invalid
from persistence.workflows import exposures, projects
from persistence.workflows.exposures import ExposedSpec, Exposure, PublishedExposure
from persistence.workflows.workflows import Workflow
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.permissions import MUTATIONS

NAME = re.compile("[a-z][a-z0-9_-]{0,47}")
"""Names that are a part of a URL without escapes, and a function name for every provider of models."""
RESERVED_PREFIX, RESERVED = "treadle_", frozenset({"runs"})
"""The tools of the server itself, and the part of the address of a run."""
MAX_DESCRIPTION = 2_000


@dataclass(frozen=True, slots=True)
class ExposureArguments:
    """The exposure that `updateWorkflow` sets."""

    name: str
    description: str = ""
    mcp: bool = False
    http: bool = False


@dataclass(frozen=True, slots=True)
class ExposedSchemas:
    """The schemas of an exposed workflow."""

    exposure: Exposure
    spec: ExposedSpec

    @property
    def inputs(self) -> JSON:
        """The JSON Schema of the inputs; an empty schema, which accepts everything, if the spec has none."""
        return {} if self.spec.inputs is None else self.spec.inputs

    @property
    def output(self) -> JSON:
        """The JSON Schema of the output: of the names in `outputs`; an empty one if the spec does not name them."""
        names = self.spec.outputs
        if names is None:
            return {}
        properties: dict[str, JSON] = {name: {} for name in names}
        return {"type": "object", "properties": properties, "required": list(names), "additionalProperties": False}


def checked(workflow: Workflow, arguments: ExposureArguments) -> Exposure:
    """Return the exposure of a workflow. Raises Invalid for a name or a description that it may not have."""
    name, description = arguments.name, arguments.description.strip()
    if not NAME.fullmatch(name):
        message = "must begin with a letter and have 1 to 48 characters: a to z, 0 to 9, `-` and `_`"
        raise invalid("input.expose.name", "FORMAT", message)
    if name.startswith(RESERVED_PREFIX) or name in RESERVED:
        message = f"must not be {', '.join(map(repr, sorted(RESERVED)))} or begin with {RESERVED_PREFIX!r}"
        raise invalid("input.expose.name", "RESERVED", message)
    if len(description) > MAX_DESCRIPTION:
        message = f"must have at most {MAX_DESCRIPTION:,} characters, has {len(description):,}"
        raise invalid("input.expose.description", "LENGTH", message)
    return Exposure(workflow.id, workflow.project_id, name, description, arguments.mcp, arguments.http)


async def change(
    connection: AsyncConnection, caller: Caller, workflow: Workflow, new: Exposure | None
) -> tuple[Any, Any]:
    """Set or remove the exposure of a locked workflow.

    Returns:
        What the audit log shows of it, before and after.

    Raises:
        Invalid: Another workflow of the project has the name.
    """
    before = (await exposures.get_many(connection, caller, [workflow.id])).get(workflow.id)
    if new is None:
        await exposures.remove(connection, workflow.id)
    elif new != before:
        await exposures.put(connection, new)
    return before and before.settings, new and new.settings


async def project_ids(context: Context, project: str | None) -> list[str]:
    """Return the projects in which the caller may run exposed workflows.

    Args:
        context: The caller.
        project: The id or the name of the only project to look in; None for all.

    Raises:
        NotFound: The caller has no role in the project.
        Forbidden: The caller may not run workflows in the project.
    """
    role = MUTATIONS["runWorkflow"]
    if project is None:
        return [id for id in context.caller.projects if context.caller.may(role, id)]
    async with context.read() as connection:
        found = await projects.get_many(connection, context.caller, context.caller.projects)
    chosen = next((id for id, one in found.items() if project in (id, one.name)), None)
    if chosen is None:
        raise NotFound(project)
    require(context.caller, role, chosen)
    return [chosen]


async def list_exposed(
    context: Context, *, project: str | None = None, name: str | None = None
) -> list[PublishedExposure]:
    """List the exposed workflows with a published version that the caller may run, in the order of names.

    Raises NotFound and Forbidden for a `project`; see `project_ids`.
    """
    allowed = set(await project_ids(context, project))
    async with context.read() as connection:
        listed = await exposures.published(connection, context.caller, name)
    return [one for one in listed if one.exposure.project_id in allowed]


async def schemas_of(context: Context, chosen: Sequence[PublishedExposure]) -> list[ExposedSchemas]:
    """Return the schemas of exposed workflows. Raises Limit."""
    async with context.read() as connection:
        specs = await exposures.read_specs(connection, [one.version_id for one in chosen])
    return [ExposedSchemas(one.exposure, specs[one.version_id]) for one in chosen if one.version_id in specs]
