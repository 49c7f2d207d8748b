"""Every secret of an installation looked at: whether it can be decrypted, and encrypted anew under the current key.

A rotation goes batch by batch, each one transaction: stopped anywhere, the next one goes on with what is left.
"""

from collections import Counter
from dataclasses import dataclass, field

import asyncpg

from persistence.secrets.keyring import Keyring, Undecryptable
from persistence.secrets.store import place_of

BATCH = 100

_AFTER = """
SELECT secrets.id, secrets.project_id, secrets.name, value, key_id, projects.name AS project
FROM secrets JOIN projects ON projects.id = secrets.project_id
WHERE secrets.id > $1 ORDER BY secrets.id LIMIT $2
"""
_CHANGE = "UPDATE secrets SET value = $2, key_id = $3 WHERE id = $1"


@dataclass(slots=True)
class Looked:
    """`by_key` counts the secrets under each key id; `lost` are those that cannot be decrypted, as `project/name: why`."""

    by_key: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    changed: int = 0

    @property
    def count(self) -> int:
        return self.by_key.total()


async def look(connection: asyncpg.Connection, ring: Keyring) -> Looked:
    """Decrypts every secret, and changes nothing."""
    looked, last = Looked(), ""
    while rows := await connection.fetch(_AFTER, last, BATCH):
        for row in rows:
            _decrypted(row, ring, looked)
        last = rows[-1]["id"]
    return looked


async def rotate(connection: asyncpg.Connection, ring: Keyring) -> Looked:
    """Encrypts every secret under the current key that is not yet. One that cannot be decrypted stays as it is."""
    looked, last = Looked(), ""
    while True:
        async with connection.transaction():
            rows = await connection.fetch(_AFTER + " FOR UPDATE OF secrets", last, BATCH)
            for row in rows:
                value = _decrypted(row, ring, looked)
                if value is not None and row["key_id"] != ring.ids[0]:
                    key_id, data = ring.encrypt(value, _place(row))
                    await connection.execute(_CHANGE, row["id"], data, key_id)
                    looked.changed += 1
        if not rows:
            return looked
        last = rows[-1]["id"]


def _decrypted(row: asyncpg.Record, ring: Keyring, looked: Looked) -> str | None:
    looked.by_key[row["key_id"]] += 1
    try:
        return ring.decrypt(row["key_id"], row["value"], _place(row))
    except Undecryptable as wrong:
        looked.lost.append(f"{row['project']}/{row['name']}: {wrong}")
        return None


def _place(row: asyncpg.Record) -> str:
    return place_of(row["id"], row["project_id"], row["name"])
