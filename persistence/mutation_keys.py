"""Idempotency keys of mutations that start no run: a repeat returns the object of the first call.

The row of a key is written in the transaction of the change, with its entry of the audit log, so a
crash leaves both or neither. Of two concurrent calls with one key, the second one waits for the first
one's commit, and its whole transaction is rolled back by `KeyTaken`. A key belongs to its caller.
Mutations that start or control runs have keys of their own (`runs.idempotency`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.types import JSON
from persistence.caller import Caller
from persistence.db.tables import mutation_keys
from persistence.problems import Conflict


class KeyTaken(Exception):
    """Another transaction has claimed the key. The caller rolls back and looks the key up."""


@dataclass(slots=True)
class KeyedCall:
    """One call of a mutation with a key. `facts` are the fields of its answer beside the object."""

    operation: str
    key: str
    arguments_hash: str
    facts: dict[str, JSON] = field(default_factory=dict)
    is_claimed: bool = False


@dataclass(frozen=True, slots=True)
class FirstCall:
    """What the first call with a key has changed."""

    resource_id: str
    facts: dict[str, JSON]


_current: ContextVar[KeyedCall | None] = ContextVar("keyed_call", default=None)


@contextmanager
def claiming(call: KeyedCall) -> Iterator[None]:
    """Let the change that the block makes claim the key of the call."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


def note(**facts: JSON) -> None:
    """Keep fields of the answer for repeats of the current call. Call it before the change is recorded."""
    if (call := _current.get()) is not None:
        call.facts |= facts


async def claim_current(
    connection: AsyncConnection, caller: Caller, operation: str, project_id: str, resource_id: str
) -> None:
    """Claim the key of the current call, if it has one and is this operation. Raises KeyTaken."""
    call = _current.get()
    if call is not None and call.operation == operation and not call.is_claimed:
        await claim(connection, caller, call, project_id, resource_id)


async def claim(
    connection: AsyncConnection, caller: Caller, call: KeyedCall, project_id: str, resource_id: str
) -> None:
    """Insert the key of a call.

    Raises KeyTaken if it exists: then the whole transaction has to be rolled back.
    """
    values = {
        "subject": caller.subject,
        "key": call.key,
        "project_id": project_id,
        "arguments_hash": call.arguments_hash,
        "resource_id": resource_id,
        "facts": call.facts,
    }
    statement = insert(mutation_keys).values(values).on_conflict_do_nothing().returning(mutation_keys.c.key)
    if (await connection.execute(statement)).one_or_none() is None:
        raise KeyTaken(call.key)
    call.is_claimed = True


async def find(connection: AsyncConnection, caller: Caller, call: KeyedCall) -> FirstCall | None:
    """Return what the first call with the key has changed, or None if there was no such call.

    Raises:
        Conflict: The first call was another mutation, or had other arguments.
    """
    table = mutation_keys.c
    rows = await connection.execute(
        select(table.resource_id, table.facts, table.arguments_hash, table.project_id).where(
            table.subject == caller.subject, table.key == call.key
        )
    )
    row = rows.one_or_none()
    if row is None:
        return None
    # A caller may have lost its role in the project, or have several tokens. It finds its own keys only.
    if row.arguments_hash != call.arguments_hash or row.project_id not in caller.roles:
        raise Conflict("This idempotencyKey was used for a call with other arguments.")
    return FirstCall(row.resource_id, row.facts)
