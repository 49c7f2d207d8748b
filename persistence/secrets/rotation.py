"""Checks that all secrets can be decrypted, and encrypts them under the current key.

A rotation has batches of one transaction each. If it stops at any point, the next one continues
with the rest. Used by `treadle doctor` and `treadle rotate-key`.
"""

from collections import Counter
from dataclasses import dataclass, field

import asyncpg

from persistence.secrets.keyring import DecryptionError, Keyring
from persistence.secrets.store import associated_data

BATCH = 100

_NEXT_BATCH = """
SELECT secrets.id, secrets.project_id, secrets.name, value, key_id, projects.name AS project
FROM secrets JOIN projects ON projects.id = secrets.project_id
WHERE secrets.id > $1 ORDER BY secrets.id LIMIT $2
"""
_UPDATE = "UPDATE secrets SET value = $2, key_id = $3 WHERE id = $1"


@dataclass(slots=True)
class SecretCounts:
    """The result of a check or a rotation."""

    by_key: Counter[str] = field(default_factory=Counter)
    """The number of secrets under each key id, before the rotation."""
    undecryptable: list[str] = field(default_factory=list)
    """The secrets that cannot be decrypted, as `project/name: reason`."""
    changed: int = 0
    """The number of secrets that were encrypted again."""

    @property
    def count(self) -> int:
        return self.by_key.total()


async def check(connection: asyncpg.Connection, keyring: Keyring) -> SecretCounts:
    """Decrypt every secret, and change nothing."""
    counts, last = SecretCounts(), ""
    while rows := await connection.fetch(_NEXT_BATCH, last, BATCH):
        for row in rows:
            _decrypt(row, keyring, counts)
        last = rows[-1]["id"]
    return counts


async def rotate(connection: asyncpg.Connection, keyring: Keyring) -> SecretCounts:
    """Encrypt every secret under the current key.

    A secret that cannot be decrypted is not changed.
    """
    counts, last = SecretCounts(), ""
    while True:
        async with connection.transaction():
            rows = await connection.fetch(_NEXT_BATCH + " FOR UPDATE OF secrets", last, BATCH)
            for row in rows:
                value = _decrypt(row, keyring, counts)
                if value is not None and row["key_id"] != keyring.ids[0]:
                    key_id, data = keyring.encrypt(value, _associated_data(row))
                    await connection.execute(_UPDATE, row["id"], data, key_id)
                    counts.changed += 1
        if not rows:
            return counts
        last = rows[-1]["id"]


def _decrypt(row: asyncpg.Record, keyring: Keyring, counts: SecretCounts) -> str | None:
    counts.by_key[row["key_id"]] += 1
    try:
        return keyring.decrypt(row["key_id"], row["value"], _associated_data(row))
    except DecryptionError as error:
        counts.undecryptable.append(f"{row['project']}/{row['name']}: {error}")
        return None


def _associated_data(row: asyncpg.Record) -> str:
    return associated_data(row["id"], row["project_id"], row["name"])
