"""The audit log: who changed what, from where, and what it was before and after.

An entry is written in the transaction of its change, so there is no change without its entry, and no
entry without its change. A trigger of the database refuses to change or delete entries (migration
0015). Entries have no values: neither of secrets and tokens, nor inputs, outputs and answers of runs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.types import JSON
from persistence.caller import Caller, Role
from persistence.db.ids import Prefix, new_id
from persistence.db.pagination import Page, PageRange, make_page
from persistence.db.tables import audit_log
from persistence.mutation_keys import claim_current

MAX_BYTES = 4096
"""The size of one value of `before` and `after`. Of a larger one, the log has the size and a hash."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. `action` is the name of the mutation; `address` is the IP address of the client."""

    id: str
    project_id: str
    at: datetime
    subject: str
    action: str
    resource_id: str | None
    address: str | None
    before: JSON
    after: JSON


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries a list has. A field that is None selects all."""

    subject: str | None = None
    action: Collection[str] | None = None
    resource_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


async def record(
    connection: AsyncConnection,
    caller: Caller,
    action: str,
    project_id: str,
    resource_id: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry in the transaction of the change, and claim the idempotency key of the call.

    Raises KeyTaken if another call with the key was first.

    Args:
        connection: The connection of the transaction.
        caller: Who makes the change.
        action: The name of the mutation.
        project_id: The project of the object.
        resource_id: The object.
        before: What the change replaces; None for a new object.
        after: What it is now; None for a deleted object.
    """
    values = {
        "id": new_id(Prefix.AUDIT_ENTRY),
        "project_id": project_id,
        "subject": caller.subject,
        "action": action,
        "resource_id": resource_id,
        "address": caller.address,
        "before": _bounded(before),
        "after": _bounded(after),
    }
    await connection.execute(insert(audit_log).values(values))
    await claim_current(connection, caller, action, project_id, resource_id)


def _bounded(values: Mapping[str, Any] | None) -> JSON:
    return None if values is None else {name: _bounded_value(value) for name, value in values.items()}


def _bounded_value(value: Any) -> JSON:
    data = orjson.dumps(value)
    if len(data) <= MAX_BYTES:
        return orjson.loads(data)
    return {"bytes": len(data), "sha256": sha256(data).hexdigest()}


async def page(
    connection: AsyncConnection, caller: Caller, range_: PageRange, project_ids: Collection[str], where: AuditFilter
) -> Page[AuditEntry]:
    """Read a page of the entries of those projects that the caller administers, newest first."""
    visible = set(project_ids).intersection(_administered(caller))
    query = select(audit_log).where(audit_log.c.project_id.in_(sorted(visible)))
    conditions = {
        audit_log.c.subject: where.subject,
        audit_log.c.resource_id: where.resource_id,
    }
    query = query.where(*(column == value for column, value in conditions.items() if value is not None))
    if where.action is not None:
        query = query.where(audit_log.c.action.in_(where.action))
    if where.created_after is not None:
        query = query.where(audit_log.c.at >= where.created_after)
    if where.created_before is not None:
        query = query.where(audit_log.c.at < where.created_before)
    rows = await connection.execute(range_.limited(query, audit_log.c.id))
    return make_page([AuditEntry(**row) for row in rows.mappings()], range_)


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, AuditEntry]:
    """Read the entries of projects that the caller administers, by id."""
    visible = audit_log.c.id.in_(ids), audit_log.c.project_id.in_(_administered(caller))
    rows = await connection.execute(select(audit_log).where(*visible))
    return {row["id"]: AuditEntry(**row) for row in rows.mappings()}


def _administered(caller: Caller) -> list[str]:
    return [project_id for project_id in caller.projects if caller.may(Role.ADMIN, project_id)]
