"""Projects. Every other row belongs to one.

A project is created by one INSERT, so a crash leaves the whole project or nothing. Used by
resolvers and by the start of a server.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.caller import Caller
from persistence.db.ids import new_id
from persistence.db.pagination import Page, PageRange, make_page
from persistence.db.tables import projects
from persistence.problems import Conflict

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that Postgres cannot store."""
DEFAULT = "default"
"""Name of the project that an installation starts with."""


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    name: str
    created_at: datetime


async def create(connection: AsyncConnection, name: str) -> Project:
    """Create a project. Raises Conflict if another project of the installation has the name."""
    row = await connection.execute(
        insert(projects).values(id=new_id("prj"), name=name).on_conflict_do_nothing().returning(projects)
    )
    created = row.mappings().one_or_none()
    if created is None:
        raise Conflict(f"There is a project named {name!r} already.")
    return Project(**created)


async def ensure_default(connection: AsyncConnection) -> None:
    """Create the default project unless it exists. Any number of servers may call this at once."""
    await connection.execute(insert(projects).values(id=new_id("prj"), name=DEFAULT).on_conflict_do_nothing())


async def all_ids(pool: asyncpg.Pool) -> list[str]:
    """List the ids of all projects, for the local caller, who is admin of all of them."""
    return [row["id"] for row in await pool.fetch("SELECT id FROM projects")]


async def named(pool: asyncpg.Pool, texts: Sequence[str], *, every: bool) -> dict[str, str]:
    """Return the names of projects by id: of those with an id or a name in `texts`, or of all.

    It checks no caller: it is used to find the projects of one.
    """
    storable = [text for text in texts if _UNSTORABLE.search(text) is None]
    query = "SELECT id, name FROM projects WHERE $1 OR id = ANY($2) OR name = ANY($2)"
    return {row["id"]: row["name"] for row in await pool.fetch(query, every, storable)}


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Project]:
    """Read the projects that the caller may see, by id."""
    visible = [id for id in ids if id in caller.roles]
    rows = await connection.execute(select(projects).where(projects.c.id.in_(visible)))
    return {row["id"]: Project(**row) for row in rows.mappings()}


async def page(connection: AsyncConnection, caller: Caller, range_: PageRange) -> Page[Project]:
    """Read a page of the projects that the caller may see, newest first."""
    query = select(projects).where(projects.c.id.in_(caller.projects))
    rows = await connection.execute(range_.limited(query, projects.c.id))
    return make_page([Project(**row) for row in rows.mappings()], range_)


async def default_id(connection: AsyncConnection, caller: Caller) -> str | None:
    """Return the id of the project for a call that names none.

    It is the only project of the caller, else the project `default`. None: the caller may not see
    it.
    """
    if len(caller.projects) == 1:
        return caller.projects[0]
    query = select(projects.c.id).where(projects.c.name == DEFAULT, projects.c.id.in_(caller.projects))
    return (await connection.execute(query)).scalar_one_or_none()
