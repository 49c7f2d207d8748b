"""The one editable spec of a workflow. A save is compare-and-set on its revision: one guarded UPDATE, one winner.

`spec` and `spec_hash` are always written together. A crash leaves the draft as it was before or after the save.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import RowMapping, Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.types import JSON
from persistence.caller import Caller
from persistence.db.tables import drafts
from persistence.problems import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Draft:
    """`revision` rises by one whenever the content changes, and guards every save."""

    workflow_id: str
    project_id: str
    spec: JSON
    spec_hash: str
    revision: int
    updated_at: datetime
    updated_by: str

    @property
    def id(self) -> str:
        """A workflow has one draft, so the draft's id is the workflow's with another prefix."""
        return "dft_" + self.workflow_id.partition("_")[2]


@dataclass(frozen=True, slots=True)
class Content:
    """A spec as it is stored: edges have ids, and `hash` is over what runs."""

    spec: JSON
    hash: str


def _draft(row: RowMapping) -> Draft:
    return Draft(**row)


def canonical(spec: JSON) -> bytes:
    """The same bytes for the same content, whatever the order of keys."""
    return orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)


async def create(
    connection: AsyncConnection, caller: Caller, project_id: str, workflow_id: str, content: Content
) -> Draft:
    row = await connection.execute(
        insert(drafts)
        .values(
            workflow_id=workflow_id,
            project_id=project_id,
            spec=content.spec,
            spec_hash=content.hash,
            revision=1,
            updated_by=caller.subject,
        )
        .returning(drafts)
    )
    return _draft(row.mappings().one())


def _visible(caller: Caller) -> Select[tuple[object, ...]]:
    return select(drafts).where(drafts.c.project_id.in_(caller.projects))


async def get_many(connection: AsyncConnection, caller: Caller, workflow_ids: Sequence[str]) -> dict[str, Draft]:
    """By workflow id."""
    found = await connection.execute(_visible(caller).where(drafts.c.workflow_id.in_(workflow_ids)))
    return {row["workflow_id"]: _draft(row) for row in found.mappings()}


async def get(connection: AsyncConnection, caller: Caller, workflow_id: str) -> Draft:
    """Raises NotFound."""
    found = await get_many(connection, caller, [workflow_id])
    if workflow_id not in found:
        raise NotFound(workflow_id)
    return found[workflow_id]


async def save(
    connection: AsyncConnection, caller: Caller, workflow_id: str, content: Content, expected_revision: int
) -> tuple[Draft, bool]:
    """The draft, and whether this save changed it. Raises Conflict, with what stands now, if somebody saved first.

    A save that changes nothing raises no revision; a stale one is a conflict even then.
    """
    stands = await get(connection, caller, workflow_id)
    if stands.revision == expected_revision:
        if canonical(stands.spec) == canonical(content.spec):
            return stands, False
        if saved := await _save_if_at(connection, caller, workflow_id, content, expected_revision):
            return saved, True
        stands = await get(connection, caller, workflow_id)
    raise stale(stands, expected_revision)


async def _save_if_at(
    connection: AsyncConnection, caller: Caller, workflow_id: str, content: Content, revision: int
) -> Draft | None:
    """None if the draft has moved on meanwhile: the guard is in the UPDATE itself."""
    row = await connection.execute(
        update(drafts)
        .where(
            drafts.c.workflow_id == workflow_id,
            drafts.c.project_id.in_(caller.projects),
            drafts.c.revision == revision,
        )
        .values(
            spec=content.spec,
            spec_hash=content.hash,
            revision=drafts.c.revision + 1,
            updated_at=func.now(),
            updated_by=caller.subject,
        )
        .returning(drafts)
    )
    saved = row.mappings().one_or_none()
    return None if saved is None else _draft(saved)


def stale(stands: Draft, expected_revision: int) -> Conflict:
    now = f"The draft is at revision {stands.revision}, saved by {stands.updated_by}"
    return Conflict(f"{now}; this is based on {expected_revision}.", stands.revision, stands)
