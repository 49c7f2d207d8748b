"""Idempotency keys of mutations of runs.

A repeated call with the same key returns the run of the first call. The row of the key is written
in the transaction of the call, so a crash leaves both or neither. Of two concurrent calls with one
key, the second one waits for the first one's commit and then raises `KeyTaken`.
"""

import json
from hashlib import sha256

import orjson
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.types import JSON
from persistence.db.tables import idempotency_keys
from persistence.mutation_keys import KeyTaken
from persistence.problems import Conflict

MAX_KEY_LENGTH = 255


def arguments_hash(operation: str, arguments: JSON) -> str:
    """Return the SHA-256, in hex, of an operation and its arguments.

    These need not be valid or storable.
    """
    try:
        encoded = orjson.dumps([operation, arguments], option=orjson.OPT_SORT_KEYS, default=str)
    except TypeError:
        encoded = json.dumps([operation, arguments], sort_keys=True, default=str).encode()
    return sha256(encoded).hexdigest()


async def find(connection: AsyncConnection, project_id: str, key: str, arguments: str) -> str | None:
    """Return the id of the run of the key's first call, or None.

    Args:
        arguments: The `arguments_hash` of the call.

    Raises:
        Conflict: The first call had other arguments.
    """
    table = idempotency_keys.c
    rows = await connection.execute(
        select(table.run_id, table.arguments_hash).where(table.project_id == project_id, table.key == key)
    )
    row = rows.one_or_none()
    if row is None:
        return None
    if row.arguments_hash != arguments:
        raise Conflict("This idempotencyKey was used for a call with other arguments.")
    return str(row.run_id)


async def claim(connection: AsyncConnection, project_id: str, key: str, arguments: str, run_id: str) -> None:
    """Insert the key.

    Raises KeyTaken if it exists: then the whole transaction has to be rolled back.
    """
    inserted = await connection.execute(
        insert(idempotency_keys)
        .values(project_id=project_id, key=key, arguments_hash=arguments, run_id=run_id)
        .on_conflict_do_nothing()
        .returning(idempotency_keys.c.run_id)
    )
    if inserted.one_or_none() is None:
        raise KeyTaken(key)
