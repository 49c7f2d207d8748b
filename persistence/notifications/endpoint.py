"""Endpoints as rows: create, change, delete and list. Used by the mutations of endpoints.

Each change is part of its caller's transaction. An endpoint that is disabled gets no new deliveries;
those that it has already wait.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import EndpointEvent
from persistence.caller import Caller
from persistence.db.ids import Prefix, new_id
from persistence.db.tables import endpoints
from persistence.problems import Limit, NotFound

MAX_ENDPOINTS = 50
"""Most endpoints of one project. Each end of a run is compared with all of them."""


@dataclass(frozen=True, slots=True)
class NotificationEndpoint:
    """One row of `endpoints`. `secret` is the name of the secret that signs."""

    id: str
    project_id: str
    url: str
    description: str
    events: list[EndpointEvent]
    workflow_ids: list[str]
    tags: list[str]
    secret: str
    enabled: bool
    failing_since: datetime | None
    last_error: str | None
    last_delivered_at: datetime | None
    created_by: str
    created_at: datetime
    updated_at: datetime


COLUMNS = [endpoints.c[name] for name in NotificationEndpoint.__slots__]


def _endpoint_of(row: Mapping[Any, Any]) -> NotificationEndpoint:
    return NotificationEndpoint(**{**row, "events": [EndpointEvent(one) for one in row["events"]]})


def _visible(caller: Caller) -> Select[Any]:
    return select(*COLUMNS).where(endpoints.c.project_id.in_(caller.projects))


async def create(
    connection: AsyncConnection, caller: Caller, project_id: str, values: Mapping[str, Any]
) -> NotificationEndpoint:
    """Insert an endpoint. The caller has checked the role and the values.

    Raises:
        Limit: The project has MAX_ENDPOINTS endpoints.
    """
    count = await connection.scalar(
        select(func.count()).select_from(endpoints).where(endpoints.c.project_id == project_id)
    )
    if (count or 0) >= MAX_ENDPOINTS:
        raise Limit(f"The project has {count} endpoints; the limit is {MAX_ENDPOINTS}.")
    new = {"id": new_id(Prefix.ENDPOINT), "project_id": project_id, "created_by": caller.subject, **values}
    row = await connection.execute(insert(endpoints).values(new).returning(*COLUMNS))
    return _endpoint_of(row.mappings().one())


async def get(
    connection: AsyncConnection, caller: Caller, endpoint_id: str, *, lock: bool = False
) -> NotificationEndpoint:
    """Read an endpoint, and lock it against other changes with `lock`. Raises NotFound."""
    query = _visible(caller).where(endpoints.c.id == endpoint_id)
    query = query.with_for_update(key_share=True) if lock else query
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(endpoint_id)
    return _endpoint_of(row)


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, NotificationEndpoint]:
    """Read the endpoints that the caller may see, by id."""
    rows = await connection.execute(_visible(caller).where(endpoints.c.id.in_(ids)))
    return {row["id"]: _endpoint_of(row) for row in rows.mappings()}


async def of_projects(
    connection: AsyncConnection, caller: Caller, projects: Collection[str]
) -> list[NotificationEndpoint]:
    """List the endpoints of those projects that the caller may see, newest first."""
    query = _visible(caller).where(endpoints.c.project_id.in_(sorted(projects))).order_by(endpoints.c.id.desc())
    return [_endpoint_of(row) for row in (await connection.execute(query)).mappings()]


async def change(connection: AsyncConnection, endpoint_id: str, values: Mapping[str, Any]) -> NotificationEndpoint:
    """Set the columns in `values` of an endpoint that this transaction has locked."""
    changed = (
        update(endpoints)
        .where(endpoints.c.id == endpoint_id)
        .values(**values, updated_at=func.clock_timestamp())
        .returning(*COLUMNS)
    )
    return _endpoint_of((await connection.execute(changed)).mappings().one())


async def remove(connection: AsyncConnection, endpoint_id: str) -> None:
    """Delete an endpoint that this transaction has locked, with its deliveries."""
    await connection.execute(delete(endpoints).where(endpoints.c.id == endpoint_id))
