"""The draft of a workflow: its one editable spec.

A save is a compare-and-set on the revision: one guarded UPDATE, so of two saves at once one wins.
`spec` and `spec_hash` are always written together. A crash leaves the draft as it was before or
after a save. Used by the mutations of workflows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import RowMapping, Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.isolation.loop_share import in_turns
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.tables import drafts
from persistence.problems import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Draft:
    """One row of `drafts`.

    `revision` rises by one with every change of the content, and guards every save.
    """

    workflow_id: str
    project_id: str
    spec: JSON
    spec_hash: str
    revision: int
    updated_at: datetime
    updated_by: str

    @property
    def id(self) -> str:
        """The id of the workflow with another prefix, because a workflow has one draft."""
        return "dft_" + self.workflow_id.partition("_")[2]


@dataclass(frozen=True, slots=True)
class Content:
    """A normalised spec: its edges have ids, and `hash` covers the parts that affect a run."""

    spec: JSON
    hash: str


def _draft_of(row: RowMapping) -> Draft:
    return Draft(**row)


def _canonical_json(spec: JSON) -> bytes:
    """Serialise a spec, with sorted keys: equal specs give equal bytes."""
    return orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)


async def create(
    connection: AsyncConnection, caller: Caller, project_id: str, workflow_id: str, content: Content
) -> Draft:
    """Create the draft of a new workflow, at revision 1."""
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
    return _draft_of(row.mappings().one())


def _visible(caller: Caller) -> Select[tuple[object, ...]]:
    return select(drafts).where(drafts.c.project_id.in_(caller.projects))


async def get_many(connection: AsyncConnection, caller: Caller, workflow_ids: Sequence[str]) -> dict[str, Draft]:
    """Read the drafts that the caller may see, by workflow id."""
    rows = await connection.execute(_visible(caller).where(drafts.c.workflow_id.in_(workflow_ids)))
    return {row["workflow_id"]: _draft_of(row) async for row in in_turns(rows.mappings())}


async def get(connection: AsyncConnection, caller: Caller, workflow_id: str) -> Draft:
    """Read the draft of a workflow. Raises NotFound."""
    visible = await get_many(connection, caller, [workflow_id])
    if workflow_id not in visible:
        raise NotFound(workflow_id)
    return visible[workflow_id]


async def save(
    connection: AsyncConnection, caller: Caller, workflow_id: str, content: Content, expected_revision: int
) -> tuple[Draft, bool]:
    """Save the content if the draft is at `expected_revision`.

    Returns:
        The draft, and whether this save changed it. A save of the same content leaves the revision.

    Raises:
        NotFound: The caller may not see the workflow, or it does not exist.
        Conflict: The draft has another revision, even if the content is the same. Carries the
            draft.
    """
    draft = await get(connection, caller, workflow_id)
    if draft.revision == expected_revision:
        if _canonical_json(draft.spec) == _canonical_json(content.spec):
            return draft, False
        if saved := await _save_if_at(connection, caller, workflow_id, content, expected_revision):
            return saved, True
        draft = await get(connection, caller, workflow_id)
    raise stale_draft(draft, expected_revision)


async def _save_if_at(
    connection: AsyncConnection, caller: Caller, workflow_id: str, content: Content, revision: int
) -> Draft | None:
    """Save the content if the draft is at `revision`, by a condition of the UPDATE.

    None: the draft has another revision by now.
    """
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
    return None if saved is None else _draft_of(saved)


def stale_draft(draft: Draft, expected_revision: int) -> Conflict:
    """Make the exception for a call that is based on an older or newer revision of the draft."""
    now = f"The draft is at revision {draft.revision}, saved by {draft.updated_by}"
    return Conflict(f"{now}; this is based on {expected_revision}.", draft.revision, draft)
