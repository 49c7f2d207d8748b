"""Checks and rotates the keys of secrets, for `treadle doctor` and `treadle rotate-key`.

A rotation that stops at any point can be started again. The key file gets a new key only when no
secret is left under an older one. `TREADLE_SECRET_KEY` is never changed here; its owner changes it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from app.embedded.servers import in_use
from app.errors import StoreError
from app.preflight import postgres_version
from app.settings import Settings
from persistence.db.database import dsn
from persistence.db.migrate import is_outdated
from persistence.secrets.key_source import KeySource
from persistence.secrets.keyring import KeyProblem, Keyring
from persistence.secrets.rotation import SecretCounts, check, rotate

MAX_NAMES = 5
"""Number of undecryptable secrets that one line names."""


async def rotate_keys(settings: Settings) -> tuple[SecretCounts, str]:
    """Encrypt every secret under the current key; with a key file, under a new key.

    Returns:
        The counts of the rotation, and a sentence about it.

    Raises:
        KeyProblem: There is no key, or a key cannot be used.
        StoreError: Postgres cannot be used.
    """
    keys = KeySource.of(settings)
    if keys.keyring().current is None:
        raise KeyProblem("there is no key yet: the first start of a server or a worker creates one")
    async with _connected(settings) as connection:
        if not keys.is_configured and not _is_unfinished(await check(connection, keys.keyring()), keys.keyring()):
            keys.add()
        ring = keys.keyring()
        counts = await rotate(connection, ring)
    text = f"{counts.changed} of {counts.count} secrets are now encrypted under key {ring.ids[0]} of {keys.description}"
    return counts, text


def _is_unfinished(counts: SecretCounts, ring: Keyring) -> bool:
    return any(key_id in counts.by_key for key_id in ring.ids[1:])


async def check_secrets(settings: Settings) -> tuple[bool, str]:
    """Check for `treadle doctor` whether every secret can be decrypted. Changes nothing.

    Returns:
        Whether the check has passed, and a text that names the keys.
    """
    try:
        keys = KeySource.of(settings)
        ring = keys.keyring()
        text = (
            f"key {ring.ids[0]} of {keys.description}"
            if ring.keys
            else f"no key yet: the first start creates {keys.path}"
        )
        if settings.database_url is None:
            return True, text
        async with _connected(settings) as connection:
            counts = await check(connection, ring)
    except KeyProblem as error:
        return False, str(error)
    except StoreError:
        return True, f"{text}; secrets are not checked: correct the database first"
    if counts.undecryptable:
        return False, f"{text}; {_lost_text(counts)}"
    return True, f"{text}; {_count_text(counts)}{_older_keys_text(counts, ring)}"


def _lost_text(counts: SecretCounts) -> str:
    names = "; ".join(counts.undecryptable[:MAX_NAMES]) + ("; …" if len(counts.undecryptable) > MAX_NAMES else "")
    advice = "restore the key with TREADLE_SECRET_KEY or the key file, or set the secrets again"
    return f"{len(counts.undecryptable)} of {counts.count} secrets cannot be decrypted ({advice}): {names}"


def _count_text(counts: SecretCounts) -> str:
    return f"{counts.count} secrets, all of which can be decrypted" if counts.count else "no secrets"


def _older_keys_text(counts: SecretCounts, ring: Keyring) -> str:
    """Say what to do about keys that are not current."""
    if remaining := sum(counts.by_key[key_id] for key_id in ring.ids[1:]):
        return f"; {remaining} of them under older keys: run `treadle rotate-key`"
    older = ", ".join(ring.ids[1:])
    return f"; no secret needs the older keys {older}, but backups may" if older else ""


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the configured database, or to that of a running `treadle up`.

    Raises StoreError.
    """
    urls = in_use(settings.data_dir)
    url = settings.database_url or (urls[0] if urls else None)
    if url is None:
        raise StoreError("Postgres is not running: start `treadle up`, or set TREADLE_DATABASE_URL")
    await postgres_version(url)
    if await is_outdated(url):
        raise StoreError("the database lacks migrations: run `treadle migrate`")
    connection = await asyncpg.connect(dsn(url))
    try:
        yield connection
    finally:
        await connection.close()
