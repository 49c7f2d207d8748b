"""The resource `secrets`: values for one node call, decrypted where they are asked for and kept nowhere.

A database that is away delays a node and does not fail it.
"""

from collections.abc import Collection

import asyncpg
import structlog

from engine.errors import NodeFailure
from persistence.db.database import Database
from persistence.db.transient import is_transient, retry_transient
from persistence.secrets.key_source import Keys
from persistence.secrets.keyring import KeyProblem, Keyring, Undecryptable
from persistence.secrets.store import place_of

log = structlog.get_logger(__name__)

_FIND = """
SELECT id, name, value, key_id,
       last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS is_to_be_told
FROM secrets WHERE project_id = $1 AND name = ANY($2)
"""
# Whoever finds the row held leaves it: somebody else is telling the same.
_TELL = """
UPDATE secrets SET last_used_at = now()
WHERE id IN (SELECT id FROM secrets WHERE id = ANY($1) FOR NO KEY UPDATE SKIP LOCKED)
"""
_KEYS = "SELECT DISTINCT key_id FROM secrets"


class SecretValues:
    def __init__(self, database: Database, keys: Keys) -> None:
        self._database, self.keys = database, keys

    async def resolve(self, project_id: str, names: Collection[str]) -> dict[str, str]:
        """Raises NodeFailure(SECRET) for one that is not there or cannot be decrypted."""
        rows = await self._rows(project_id, list(names))
        ring = _ring(self.keys)
        values = {name: _value(ring, project_id, name, rows.get(name)) for name in sorted(names)}
        if used := [row["id"] for row in rows.values() if row["is_to_be_told"]]:
            await self._tell(used)
        return values

    async def _rows(self, project_id: str, names: list[str]) -> dict[str, asyncpg.Record]:
        found = await retry_transient(lambda: self._database.pool.fetch(_FIND, project_id, names), "secrets.waiting")
        return {row["name"]: row for row in found}

    async def _tell(self, ids: list[str]) -> None:
        try:
            await self._database.pool.execute(_TELL, ids)
        except Exception as error:
            if not is_transient(error):
                raise
            log.info("secrets.use_not_told", error=str(error) or type(error).__name__)


def _ring(keys: Keys) -> Keyring:
    try:
        return keys.ring()
    except KeyProblem as wrong:
        raise NodeFailure("SECRET", f"secrets cannot be decrypted here: {wrong}") from wrong


def _value(ring: Keyring, project_id: str, name: str, row: asyncpg.Record | None) -> str:
    if row is None:
        raise NodeFailure("SECRET", f"there is no secret {name!r} in this project; set it with setSecret")
    try:
        return ring.decrypt(row["key_id"], row["value"], place_of(row["id"], project_id, name))
    except Undecryptable as wrong:
        message = f"the secret {name!r} cannot be decrypted: {wrong}; `treadle doctor` tells more"
        raise NodeFailure("SECRET", message) from wrong


async def open_secrets(database: Database, keys: Keys) -> SecretValues:
    """Makes the key file at the first start of all: where secrets are stored already, their key has to be brought."""
    needed = {row["key_id"] for row in await database.pool.fetch(_KEYS)}
    try:
        if not needed:
            keys.ensure()
        if missing := sorted(needed.difference(keys.ring().ids)):
            log.error("secrets.key_missing", keys=missing, have=keys.ring().ids, advice="`treadle doctor` tells more")
    except KeyProblem as wrong:
        log.error("secrets.no_key", problem=str(wrong))  # Whatever needs no secret goes on.
    return SecretValues(database, keys)
