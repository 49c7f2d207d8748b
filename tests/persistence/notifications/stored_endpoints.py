"""Endpoints and ended runs in the database, for tests of deliveries."""

from typing import Any

from engine.states import EndpointEvent
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.notifications import endpoint as endpoints
from persistence.notifications.endpoint import NotificationEndpoint

ALL = list(EndpointEvent)


async def new_endpoint(database: Database, caller: Caller, project: str, **values: Any) -> NotificationEndpoint:
    """Store an endpoint for all events of all runs, with some values changed."""
    plain = {"url": "https://hooks.example.com/x", "description": "", "events": ALL, "workflow_ids": [], "tags": []}
    async with database.begin() as connection:
        made = {**plain, "secret": "hook_key", "enabled": True, **values}
        return await endpoints.create(connection, caller, project, made)


async def set_status(database: Database, run_id: str, status: str, code: str | None = None) -> None:
    """Change the status of a run as the journal does."""
    error = None if code is None else {"code": code, "message": "m"}
    await database.pool.execute("UPDATE runs SET status = $2, error = $3 WHERE id = $1", run_id, status, error)


async def delivery_rows(database: Database, columns: str = "*") -> list[Any]:
    return list(await database.pool.fetch(f"SELECT {columns} FROM deliveries ORDER BY endpoint_id, id"))
