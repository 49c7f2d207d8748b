"""Triggers as rows: create, change, delete and list. Used by the mutations of triggers.

Each change is one transaction, and the row has the next planned time, so a crash leaves a trigger
that is due or not. The caller notifies the workers after the commit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.types import JSON
from persistence.caller import Caller, Role
from persistence.db.ids import Prefix, new_id
from persistence.db.pagination import Page, PageRange, group_by_parent, make_page, page_of_each
from persistence.db.tables import triggers
from persistence.problems import Conflict, NotFound
from persistence.workflows import workflows

EVENT_AS_INPUT = "{{ event }}"
"""The mapping of a trigger without `inputs`: the event is the input of the run."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One row of `triggers`, without the columns of its idempotency key."""

    id: str
    project_id: str
    workflow_id: str
    kind: str
    name: str
    config: JSON
    inputs: JSON
    enabled: bool
    created_by: str
    scopes: list[str]
    planned_at: datetime | None
    next_fire_at: datetime | None
    last_fired_at: datetime | None
    last_error: str | None
    failures: int
    state: JSON
    webhook_token: str | None
    test_token: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def caller(self) -> Caller:
        """The caller of the runs that the trigger starts."""
        return Caller(self.created_by, {self.project_id: Role.RUNNER}, frozenset(self.scopes))


COLUMNS = [triggers.c[name] for name in Trigger.__slots__]


def trigger_of(row: Mapping[Any, Any]) -> Trigger:
    """Decode a row with at least the columns of `Trigger`."""
    return Trigger(**{name: row[name] for name in Trigger.__slots__})


@dataclass(frozen=True, slots=True)
class NewTrigger:
    """A trigger to insert. The caller has checked the role, the config and the inputs."""

    workflow_id: str
    kind: str
    name: str
    config: JSON
    inputs: JSON
    enabled: bool
    planned_at: datetime | None = None
    next_fire_at: datetime | None = None
    idempotency_key: str | None = None
    idempotency_hash: str | None = None
    webhook_token: str | None = None
    test_token: str | None = None
    id: str = field(default_factory=lambda: new_id(Prefix.TRIGGER))


async def create(connection: AsyncConnection, caller: Caller, project_id: str, new: NewTrigger) -> Trigger:
    """Insert a trigger. A repeat with the same idempotency key returns the first one.

    Raises:
        Conflict: The key was used with other arguments.
        NotFound: The workflow does not exist any more.
    """
    await workflows.lock_against_deletion(connection, new.workflow_id)
    await workflows.get(connection, caller, new.workflow_id)
    values = {name: getattr(new, name) for name in NewTrigger.__slots__}
    values |= {
        "project_id": project_id,
        "created_by": caller.subject,
        "scopes": sorted(caller.scopes_in(project_id)),
    }
    keys = triggers.c.project_id, triggers.c.idempotency_key
    statement = insert(triggers).values(values)
    if new.idempotency_key is not None:
        statement = statement.on_conflict_do_nothing(
            index_elements=keys, index_where=triggers.c.idempotency_key.is_not(None)
        )
    row = (await connection.execute(statement.returning(*COLUMNS))).mappings().one_or_none()
    return trigger_of(row) if row is not None else await _first(connection, project_id, new)


async def _first(connection: AsyncConnection, project_id: str, new: NewTrigger) -> Trigger:
    """Return the trigger that was created with the same idempotency key."""
    query = select(*COLUMNS, triggers.c.idempotency_hash).where(
        triggers.c.project_id == project_id, triggers.c.idempotency_key == new.idempotency_key
    )
    row = (await connection.execute(query)).mappings().one()
    if row["idempotency_hash"] != new.idempotency_hash:
        raise Conflict("This idempotencyKey was used for a call with other arguments.")
    return trigger_of(row)


def _visible(caller: Caller) -> Select[Any]:
    return select(*COLUMNS).where(triggers.c.project_id.in_(caller.projects))


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Trigger]:
    """Read the triggers that the caller may see, by id."""
    rows = await connection.execute(_visible(caller).where(triggers.c.id.in_(ids)))
    return {row["id"]: trigger_of(row) for row in rows.mappings()}


async def get(connection: AsyncConnection, caller: Caller, trigger_id: str, *, lock: bool = False) -> Trigger:
    """Read a trigger. Raises NotFound.

    With `lock`, no worker fires it until the end of the transaction, and its workflow is not deleted.
    """
    if lock:
        # The workflow is locked first, as by its deletion; never one of another project, whose locks
        # the call would wait for.
        of = select(triggers.c.workflow_id).where(
            triggers.c.id == trigger_id, triggers.c.project_id.in_(caller.projects)
        )
        await workflows.lock_against_deletion(connection, (await connection.execute(of)).scalar_one_or_none())
    query = _visible(caller).where(triggers.c.id == trigger_id)
    row = (await connection.execute(query.with_for_update(key_share=True) if lock else query)).mappings().one_or_none()
    if row is None:
        raise NotFound(trigger_id)
    return trigger_of(row)


async def page(
    connection: AsyncConnection, caller: Caller, range_: PageRange, *, project_id: str | None
) -> Page[Trigger]:
    """Read a page of triggers, newest first."""
    query = _visible(caller)
    if project_id is not None:
        query = query.where(triggers.c.project_id == project_id)
    rows = await connection.execute(range_.limited(query, triggers.c.id))
    return make_page([trigger_of(row) for row in rows.mappings()], range_)


@dataclass(frozen=True, slots=True)
class TriggersQuery:
    """A page of the triggers of one workflow, newest first."""

    workflow_id: str
    range_: PageRange


async def pages(
    connection: AsyncConnection, caller: Caller, queries: Sequence[TriggersQuery]
) -> dict[TriggersQuery, Page[Trigger]]:
    """Read pages. Queries that differ only in the workflow share a statement."""
    result: dict[TriggersQuery, Page[Trigger]] = {}
    for one, ids in group_by_parent(queries, "workflow_id").items():
        query = _visible(caller)
        items: dict[str, list[Trigger]] = {id: [] for id in ids}
        rows = await connection.execute(page_of_each(query, triggers.c.workflow_id, ids, one.range_))
        for row in rows.mappings():
            items[row["workflow_id"]].append(trigger_of(row))
        result |= {replace(one, workflow_id=id): make_page(each, one.range_) for id, each in items.items()}
    return result


async def change(connection: AsyncConnection, trigger_id: str, values: Mapping[str, Any]) -> Trigger:
    """Set the columns in `values` of a trigger that this transaction has locked."""
    changed = (
        update(triggers)
        .where(triggers.c.id == trigger_id)
        .values(**values, updated_at=func.clock_timestamp())
        .returning(*COLUMNS)
    )
    return trigger_of((await connection.execute(changed)).mappings().one())


async def remove(connection: AsyncConnection, trigger_id: str) -> None:
    """Delete a trigger that this transaction has locked, with its events. Its runs stay."""
    await connection.execute(delete(triggers).where(triggers.c.id == trigger_id))


async def database_time(connection: AsyncConnection) -> datetime:
    """Return the present time of the database, from which planned times are computed."""
    now: datetime = (await connection.execute(select(func.now()))).scalar_one()
    return now
