"""What a host does about the keys of secrets: looks whether all can be decrypted, and encrypts them under a new one.

A rotation that is stopped anywhere can be called again: a key file gets a new key only when nothing is left to do under the
last one. TREADLE_SECRET_KEY is changed by whoever has set it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from app.embedded.servers import in_use
from app.errors import StoreError
from app.preflight import need_postgres
from app.settings import Settings
from persistence.db.database import dsn
from persistence.db.migrate import missing
from persistence.secrets.key_source import Keys
from persistence.secrets.keyring import KeyProblem, Keyring
from persistence.secrets.rotation import Looked, look, rotate

SHOWN = 5
"""Lost secrets that one line names."""


async def rotated(settings: Settings) -> tuple[Looked, str]:
    """What was found and done, and a sentence about it. Raises KeyProblem, StoreError."""
    keys = Keys.of(settings)
    if keys.ring().current is None:
        raise KeyProblem("there is no key yet: the first start of a server or a worker makes one")
    async with _connected(settings) as connection:
        if not keys.is_configured and not _is_unfinished(await look(connection, keys.ring()), keys.ring()):
            keys.add()
        ring = keys.ring()
        looked = await rotate(connection, ring)
    return (
        looked,
        f"{looked.changed} of {looked.count} secrets encrypted anew, under the key {ring.ids[0]} of {keys.told}",
    )


def _is_unfinished(looked: Looked, ring: Keyring) -> bool:
    return any(key_id in looked.by_key for key_id in ring.ids[1:])


async def examined(settings: Settings) -> tuple[bool, str]:
    """For `treadle doctor`: which keys there are, and whether every secret can be decrypted. Changes nothing."""
    try:
        keys = Keys.of(settings)
        ring = keys.ring()
        told = f"key {ring.ids[0]} of {keys.told}" if ring.keys else f"no key yet: the first start makes {keys.path}"
        if settings.database_url is None:
            return True, told
        async with _connected(settings) as connection:
            looked = await look(connection, ring)
    except KeyProblem as wrong:
        return False, str(wrong)
    except StoreError:
        return True, f"{told}; the database comes first"
    if looked.lost:
        lost = "; ".join(looked.lost[:SHOWN]) + ("; …" if len(looked.lost) > SHOWN else "")
        advice = "bring the key by TREADLE_SECRET_KEY or the key file, or set them again"
        return False, f"{told}; {len(looked.lost)} of {looked.count} secrets cannot be decrypted ({advice}): {lost}"
    return True, f"{told}; {_counted(looked)}{_old(looked, ring)}"


def _counted(looked: Looked) -> str:
    return f"{looked.count} secrets, all of which can be decrypted" if looked.count else "no secrets"


def _old(looked: Looked, ring: Keyring) -> str:
    """What is to be done about keys that are not current."""
    if left := sum(looked.by_key[key_id] for key_id in ring.ids[1:]):
        return f"; {left} of them under older keys: run `treadle rotate-key`"
    older = ", ".join(ring.ids[1:])
    return f"; no secret needs the older keys {older}, but backups may" if older else ""


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """Raises StoreError."""
    urls = in_use(settings.data_dir)
    url = settings.database_url or (urls[0] if urls else None)
    if url is None:
        raise StoreError("Postgres does not run: start `treadle up`, or set TREADLE_DATABASE_URL")
    await need_postgres(url)
    if await missing(url):
        raise StoreError("the database lacks migrations: run `treadle migrate`")
    connection = await asyncpg.connect(dsn(url))
    try:
        yield connection
    finally:
        await connection.close()
