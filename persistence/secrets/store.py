"""Secrets as rows: their names are visible in the project, their values only to node calls.

Each change is part of its caller's transaction. A value is encrypted before it is part of a
statement. Used by the mutations and queries of secrets.
"""

from collections.abc import Collection, Sequence
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
"""Most secrets of one project."""
_PUBLIC_COLUMNS = (
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
    """The fields of a secret that the API returns: all except the value."""

    id: str
    project_id: str
    name: str
    created_at: datetime
    updated_at: datetime
    updated_by: str
    last_used_at: datetime | None


def associated_data(id: str, project_id: str, name: str) -> str:
    """Make the associated data of a ciphertext.

    It binds the ciphertext to its row: under another id, project or name it cannot be decrypted.
    """
    return f"{project_id}/{id}/{name}"


async def put(
    connection: AsyncConnection, caller: Caller, keyring: Keyring, project_id: str, name: str, value: str
) -> Secret:
    """Create a secret, or replace its value. The caller has checked role, name and value.

    Raises:
        KeyProblem: There is no key for encryption.
        Limit: The project has MAX_SECRETS secrets.
    """
    while True:
        existing_id = await connection.scalar(
            select(secrets.c.id).where(_named(project_id, name)).with_for_update(key_share=True)
        )
        secret_id = existing_id or new_id(Prefix.SECRET)
        key_id, data = keyring.encrypt(value, associated_data(secret_id, project_id, name))
        values = {"value": data, "key_id": key_id, "updated_by": caller.subject}
        if existing_id is not None:
            change = update(secrets).where(secrets.c.id == existing_id).values(**values, updated_at=func.now())
            row = await connection.execute(change.returning(*_PUBLIC_COLUMNS))
        else:
            await _check_count(connection, project_id)
            new = insert(secrets).values(id=secret_id, project_id=project_id, name=name, **values)
            row = await connection.execute(new.on_conflict_do_nothing().returning(*_PUBLIC_COLUMNS))
        if (columns := row.mappings().one_or_none()) is not None:
            return Secret(**columns)
        # Another transaction created or deleted the secret meanwhile: try again with its new state.


async def _check_count(connection: AsyncConnection, project_id: str) -> None:
    count = await connection.scalar(select(func.count()).where(secrets.c.project_id == project_id)) or 0
    if count >= MAX_SECRETS:
        raise Limit(f"The project has {count:,} secrets; the limit is {MAX_SECRETS:,}.")


async def remove(connection: AsyncConnection, caller: Caller, project_id: str, name: str) -> str:
    """Delete a secret and return its id. The caller has checked the role. Raises NotFound."""
    secret_id = await connection.scalar(
        delete(secrets)
        .where(_named(project_id, name), secrets.c.project_id.in_(caller.projects))
        .returning(secrets.c.id)
    )
    if secret_id is None:
        raise NotFound(name)
    return str(secret_id)


async def list_by_name(connection: AsyncConnection, caller: Caller, projects: Collection[str]) -> list[Secret]:
    """List the secrets of those projects that the caller may see, in the order of their names."""
    visible = [project for project in projects if project in caller.roles]
    rows = await connection.execute(
        select(*_PUBLIC_COLUMNS).where(secrets.c.project_id.in_(visible)).order_by(secrets.c.name, secrets.c.id)
    )
    return [Secret(**row) for row in rows.mappings()]


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Secret]:
    """Read the secrets that the caller may see, without their values, by id."""
    visible = secrets.c.id.in_(ids), secrets.c.project_id.in_(caller.projects)
    rows = await connection.execute(select(*_PUBLIC_COLUMNS).where(*visible))
    return {row["id"]: Secret(**row) for row in rows.mappings()}


def _named(project_id: str, name: str) -> ColumnElement[bool]:
    return (secrets.c.project_id == project_id) & (secrets.c.name == name)
