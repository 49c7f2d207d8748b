"""Secrets as rows: names that everybody of the project may see, and values that only a node call does.

Each change is part of its caller's transaction. A value is encrypted before it comes near a statement.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.caller import Caller
from persistence.db.ids import Prefix, new_id
from persistence.db.tables import secrets
from persistence.problems import Limit, NotFound
from persistence.secrets.keyring import Keyring

MAX_SECRETS = 1000
"""Of one project."""
_SHOWN = (
    secrets.c.id,
    secrets.c.project_id,
    secrets.c.name,
    secrets.c.created_at,
    secrets.c.updated_at,
    secrets.c.updated_by,
    secrets.c.last_used_at,
)


@dataclass(frozen=True, slots=True)
class Secret:
    """All that is ever told of it."""

    id: str
    project_id: str
    name: str
    created_at: datetime
    updated_at: datetime
    updated_by: str
    last_used_at: datetime | None


def place_of(id: str, project_id: str, name: str) -> str:
    """What a ciphertext is bound to: under another id, project or name it cannot be decrypted."""
    return f"{project_id}/{id}/{name}"


async def put(
    connection: AsyncConnection, caller: Caller, keyring: Keyring, project_id: str, name: str, value: str
) -> Secret:
    """Sets it, new or not. The caller of this has checked role, name and value. Raises KeyProblem, Limit."""
    while True:
        known = await connection.scalar(
            select(secrets.c.id).where(_named(project_id, name)).with_for_update(key_share=True)
        )
        secret_id = known or new_id(Prefix.SECRET)
        key_id, data = keyring.encrypt(value, place_of(secret_id, project_id, name))
        values = {"value": data, "key_id": key_id, "updated_by": caller.subject}
        if known is not None:
            change = update(secrets).where(secrets.c.id == known).values(**values, updated_at=func.now())
            row = await connection.execute(change.returning(*_SHOWN))
        else:
            await _check_count(connection, project_id)
            new = insert(secrets).values(id=secret_id, project_id=project_id, name=name, **values)
            row = await connection.execute(new.on_conflict_do_nothing().returning(*_SHOWN))
        if (found := row.mappings().one_or_none()) is not None:
            return Secret(**found)
        # Somebody else has made it or deleted it in between: it is looked up anew.


async def _check_count(connection: AsyncConnection, project_id: str) -> None:
    count = await connection.scalar(select(func.count()).where(secrets.c.project_id == project_id)) or 0
    if count >= MAX_SECRETS:
        raise Limit(f"The project has {count:,} secrets; there is room for {MAX_SECRETS:,}.")


async def remove(connection: AsyncConnection, caller: Caller, project_id: str, name: str) -> str:
    """Its id. The caller of this has checked the role. Raises NotFound."""
    gone = await connection.scalar(
        delete(secrets)
        .where(_named(project_id, name), secrets.c.project_id.in_(caller.projects))
        .returning(secrets.c.id)
    )
    if gone is None:
        raise NotFound(name)
    return str(gone)


async def of_projects(connection: AsyncConnection, caller: Caller, projects: Collection[str]) -> list[Secret]:
    """By name; of those projects that are the caller's."""
    mine = [project for project in projects if project in caller.roles]
    found = await connection.execute(
        select(*_SHOWN).where(secrets.c.project_id.in_(mine)).order_by(secrets.c.name, secrets.c.id)
    )
    return [Secret(**row) for row in found.mappings()]


def _named(project_id: str, name: str) -> ColumnElement[bool]:
    return (secrets.c.project_id == project_id) & (secrets.c.name == name)
