"""The resource `secrets`: decrypts the values for one node call, and stores them nowhere.

A database that is away delays a node and does not fail it. Used by node calls of workers and
servers.
"""

from collections.abc import Collection

import asyncpg
import structlog

from engine.errors import NodeFailure
from persistence.db.database import Database
from persistence.db.transient import is_transient, retry_transient
from persistence.secrets.key_source import KeySource
from persistence.secrets.keyring import DecryptionError, KeyProblem, Keyring
from persistence.secrets.store import associated_data

log = structlog.get_logger(__name__)

_FIND = """
SELECT id, name, value, key_id,
       last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS is_use_due
FROM secrets WHERE project_id = $1 AND name = ANY($2)
"""
# A locked row is skipped: another process is recording a use of the same secret.
_RECORD_USE = """
UPDATE secrets SET last_used_at = now()
WHERE id IN (SELECT id FROM secrets WHERE id = ANY($1) FOR NO KEY UPDATE SKIP LOCKED)
"""
_ADVICE = (
    "give this process the keys of the others, in TREADLE_SECRET_KEY (separated by commas) or by a copy of their "
    "`secret.key`; `treadle doctor` lists the secrets"
)
_KEYS = "SELECT DISTINCT key_id FROM secrets"


class SecretResolver:
    """Reads and decrypts secrets. The caller has checked which names a node may use."""

    def __init__(self, database: Database, keys: KeySource) -> None:
        self._database, self.keys = database, keys

    async def resolve(self, project_id: str, names: Collection[str]) -> dict[str, str]:
        """Return the values by name. The time of use is recorded at most once a minute.

        Raises:
            NodeFailure: With code SECRET, if a secret does not exist or cannot be decrypted.
        """
        rows = await self._rows(project_id, list(names))
        keyring = _keyring(self.keys)
        values = {name: _decrypt(keyring, project_id, name, rows.get(name)) for name in sorted(names)}
        if ids := [row["id"] for row in rows.values() if row["is_use_due"]]:
            await self._record_use(ids)
        return values

    async def _rows(self, project_id: str, names: list[str]) -> dict[str, asyncpg.Record]:
        rows = await retry_transient(lambda: self._database.pool.fetch(_FIND, project_id, names), "secrets")
        return {row["name"]: row for row in rows}

    async def _record_use(self, ids: list[str]) -> None:
        try:
            await self._database.pool.execute(_RECORD_USE, ids)
        except Exception as error:
            if not is_transient(error):
                raise
            log.info("secrets.use_not_recorded", error=str(error) or type(error).__name__)


def _keyring(keys: KeySource) -> Keyring:
    try:
        return keys.keyring()
    except KeyProblem as error:
        raise NodeFailure("SECRET", f"this host cannot decrypt secrets: {error}") from error


def _decrypt(keyring: Keyring, project_id: str, name: str, row: asyncpg.Record | None) -> str:
    if row is None:
        raise NodeFailure("SECRET", f"there is no secret {name!r} in this project; set it with setSecret")
    try:
        return keyring.decrypt(row["key_id"], row["value"], associated_data(row["id"], project_id, name))
    except DecryptionError as error:
        message = f"the secret {name!r} cannot be decrypted: {error}; run `treadle doctor` for details"
        raise NodeFailure("SECRET", message) from error


async def open_secrets(database: Database, keys: KeySource) -> SecretResolver:
    """Open the resource. The first start of an installation creates the key file.

    If secrets are stored already, no key is created: it would hide that their key is missing.
    Problems with keys are logged and not raised, because nodes without secrets work without keys.
    """
    needed = {row["key_id"] for row in await database.pool.fetch(_KEYS)}
    try:
        if not needed:
            keys.ensure()
        ids = keys.keyring().ids
        if missing := sorted(needed.difference(ids)):
            log.error("secrets.key_missing", keys=missing, have=ids, advice=_ADVICE)
    except KeyProblem as error:
        log.error("secrets.no_key", problem=str(error))
    return SecretResolver(database, keys)
