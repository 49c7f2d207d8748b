"""Exposures: the names by which other systems and agents run workflows.

A workflow has at most one. Its name is unique in its project. The constraint of the table decides
which of two simultaneous calls gets a name, so a crash leaves no name with two workflows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Select, Text, cast, delete, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import VersionStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.tables import exposures, versions
from persistence.problems import Limit, invalid

MAX_EXPOSURES = 200
"""Most exposed workflows of one project. Each is in the list of tools, which a model reads."""
MAX_SPEC_BYTES = 4 * 1024**2
"""Most bytes of the inputs and outputs of all workflows that one caller lists."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """One row of `exposures`.

    Attributes:
        name: The last part of the address of its runs, and the name of its tool.
        description: What it does, for callers and models.
        mcp: Whether it is a tool of `/mcp`.
        http: Whether `/run/<name>` starts runs.
    """

    workflow_id: str
    project_id: str
    name: str
    description: str
    mcp: bool
    http: bool

    @property
    def settings(self) -> dict[str, Any]:
        """What a person chooses of it."""
        return {name: value for name, value in asdict(self).items() if name not in ("workflow_id", "project_id")}


@dataclass(frozen=True, slots=True)
class PublishedExposure:
    """How a workflow is exposed, and the version that is published now."""

    exposure: Exposure
    version_id: str


@dataclass(frozen=True, slots=True)
class ExposedSpec:
    """What callers see of the spec of an exposed version: its `inputs` and `outputs`, or None."""

    inputs: JSON
    outputs: JSON


_COLUMNS = [exposures.c[name] for name in Exposure.__slots__]


def _visible(caller: Caller) -> Select[Any]:
    return select(*_COLUMNS).where(exposures.c.project_id.in_(caller.projects))


def _exposure_of(row: Mapping[Any, Any]) -> Exposure:
    return Exposure(**{name: row[name] for name in Exposure.__slots__})


async def get_many(connection: AsyncConnection, caller: Caller, workflow_ids: Sequence[str]) -> dict[str, Exposure]:
    """Read the exposures that the caller may see, by workflow id."""
    rows = await connection.execute(_visible(caller).where(exposures.c.workflow_id.in_(workflow_ids)))
    return {row["workflow_id"]: _exposure_of(row) for row in rows.mappings()}


async def published(connection: AsyncConnection, caller: Caller, name: str | None = None) -> list[PublishedExposure]:
    """List the exposures of workflows with a published version, in the order of names, then of projects.

    Args:
        connection: A connection of the caller.
        caller: Only exposures of projects of the caller are returned.
        name: Only those with this name; None for all.
    """
    query = _visible(caller).add_columns(versions.c.id.label("version_id"))
    query = query.join(versions, versions.c.workflow_id == exposures.c.workflow_id)
    query = query.where(versions.c.status == VersionStatus.PUBLISHED)
    if name is not None:
        query = query.where(exposures.c.name == name)
    rows = await connection.execute(query.order_by(exposures.c.name, exposures.c.project_id))
    return [PublishedExposure(_exposure_of(row), row["version_id"]) for row in rows.mappings()]


async def read_specs(connection: AsyncConnection, version_ids: Sequence[str]) -> dict[str, ExposedSpec]:
    """Read what callers see of the specs of versions that `published` has returned.

    Raises:
        Limit: They have more than MAX_SPEC_BYTES.
    """
    parts = versions.c.spec["inputs"], versions.c.spec["outputs"]
    size = sum((func.coalesce(func.octet_length(cast(part, Text)), 0) for part in parts), literal(0))
    chosen = versions.c.id.in_(version_ids)
    if (await connection.scalar(select(func.sum(size)).where(chosen)) or 0) > MAX_SPEC_BYTES:
        mebibytes = MAX_SPEC_BYTES // 1024**2
        raise Limit(
            f"The inputs and outputs of the exposed workflows have more than {mebibytes} MiB: choose a project."
        )
    rows = await connection.execute(select(versions.c.id, *parts).where(chosen))
    return {id: ExposedSpec(inputs, outputs) for id, inputs, outputs in rows}


async def put(connection: AsyncConnection, exposure: Exposure) -> None:
    """Create or replace the exposure of a workflow. The caller has locked the workflow.

    Raises:
        Invalid: Another workflow of the project has the name.
        Limit: The project has MAX_EXPOSURES exposures.
    """
    others = select(func.count()).select_from(exposures)
    others = others.where(
        exposures.c.project_id == exposure.project_id, exposures.c.workflow_id != exposure.workflow_id
    )
    if (await connection.scalar(others) or 0) >= MAX_EXPOSURES:
        raise Limit(f"The project has {MAX_EXPOSURES} exposed workflows, which is the limit.")
    statement = insert(exposures).values(asdict(exposure))
    changed = statement.on_conflict_do_update(index_elements=["workflow_id"], set_=exposure.settings)
    try:
        async with connection.begin_nested():
            await connection.execute(changed)
    except IntegrityError as error:
        message = f"another workflow of the project is exposed as {exposure.name!r}: choose another name"
        raise invalid("input.expose.name", "TAKEN", message) from error


async def remove(connection: AsyncConnection, workflow_id: str) -> None:
    """Remove the exposure of a workflow, if it has one."""
    await connection.execute(delete(exposures).where(exposures.c.workflow_id == workflow_id))
