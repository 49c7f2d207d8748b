"""Projects: what every other row belongs to. One INSERT each; a crash leaves either nothing or the whole project."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.caller import Caller
from persistence.db.ids import Prefix, new_id
from persistence.db.pagination import Page, decode_cursor, make_page
from persistence.db.tables import projects
from persistence.problems import Conflict

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    name: str
    created_at: datetime


async def create(connection: AsyncConnection, name: str) -> Project:
    """Raises Conflict where the name is taken; names are unique over the whole installation."""
    row = await connection.execute(
        insert(projects).values(id=new_id("prj"), name=name).on_conflict_do_nothing().returning(projects)
    )
    created = row.mappings().one_or_none()
    if created is None:
        raise Conflict(f"There is a project named {name!r} already.")
    return Project(**created)


async def ensure_default(connection: AsyncConnection) -> None:
    """The project that an installation starts with. Any number of servers may call this at once."""
    await connection.execute(insert(projects).values(id=new_id("prj"), name=DEFAULT).on_conflict_do_nothing())


async def all_ids(pool: asyncpg.Pool) -> list[str]:
    """Every project there is, whoever asks: for the local caller, who is admin of them all. Asked with every request."""
    return [row["id"] for row in await pool.fetch("SELECT id FROM projects")]


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Project]:
    visible = [id for id in ids if id in caller.roles]
    found = await connection.execute(select(projects).where(projects.c.id.in_(visible)))
    return {row["id"]: Project(**row) for row in found.mappings()}


async def page(connection: AsyncConnection, caller: Caller, *, first: int, after: str | None = None) -> Page[Project]:
    """Newest first."""
    query = select(projects).where(projects.c.id.in_(caller.projects))
    if after is not None:
        query = query.where(projects.c.id < decode_cursor(after, Prefix.PROJECT))
    found = await connection.execute(query.order_by(projects.c.id.desc()).limit(first + 1))
    return make_page([Project(**row) for row in found.mappings()], first=first, after=after)


async def default_id(connection: AsyncConnection, caller: Caller) -> str | None:
    """The project meant where none is named: the caller's only one, else `default` if it is theirs."""
    if len(caller.projects) == 1:
        return caller.projects[0]
    mine = select(projects.c.id).where(projects.c.name == DEFAULT, projects.c.id.in_(caller.projects))
    return (await connection.execute(mine)).scalar_one_or_none()
