"""Keys that a client gives to a run-control call, so that a repeat answers with the first call's run.

The key's row is in the same transaction as what the call did: both stand, or neither does. Of two calls at once, one
waits for the other's commit and then loses.
"""

import json
from hashlib import sha256

import orjson
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.types import JSON
from persistence.db.tables import idempotency_keys
from persistence.problems import Conflict

MAX_KEY_LENGTH = 255


class KeyTaken(Exception):
    """Somebody else's transaction holds the key: roll back, and look it up."""


def arguments_hash(operation: str, arguments: JSON) -> str:
    """Of any arguments at all: it is the call itself that refuses what cannot be stored."""
    try:
        written = orjson.dumps([operation, arguments], option=orjson.OPT_SORT_KEYS, default=str)
    except TypeError:
        written = json.dumps([operation, arguments], sort_keys=True, default=str).encode()
    return sha256(written).hexdigest()


async def find(connection: AsyncConnection, project_id: str, key: str, arguments: str) -> str | None:
    """The id of the run that the key's first call answered with. Raises Conflict if that call was another one."""
    table = idempotency_keys.c
    found = await connection.execute(
        select(table.run_id, table.arguments_hash).where(table.project_id == project_id, table.key == key)
    )
    row = found.one_or_none()
    if row is None:
        return None
    if row.arguments_hash != arguments:
        raise Conflict("This idempotencyKey was used for a call with other arguments.")
    return str(row.run_id)


async def claim(connection: AsyncConnection, project_id: str, key: str, arguments: str, run_id: str) -> None:
    """Raises KeyTaken if the key stands already: everything else in this transaction has to go then."""
    made = await connection.execute(
        insert(idempotency_keys)
        .values(project_id=project_id, key=key, arguments_hash=arguments, run_id=run_id)
        .on_conflict_do_nothing()
        .returning(idempotency_keys.c.run_id)
    )
    if made.one_or_none() is None:
        raise KeyTaken(key)
