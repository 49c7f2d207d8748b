"""`treadle key create|list|revoke`: API keys, written directly to the database.

They work without a server and without a token, so they make the first key of an installation.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.embedded.servers import in_use
from app.errors import StoreError
from app.preflight import postgres_version
from app.settings import Settings, load_settings
from app.terminal_text import escape_controls
from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.db.deadlines import Deadlines
from persistence.db.migrate import is_outdated
from persistence.events.publisher import announce
from persistence.problems import Problem
from persistence.workflows import api_keys, projects

SUBJECT = "treadle key"
"""The `createdBy` of keys that the command creates."""


def create(name: str, role: Role, project: str, days: float | None, data_dir: Path | None) -> str:
    """Create a key and return its token."""
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)

    async def act(database: Database, _: Redis) -> str:
        found = await projects.named(database.pool, [project], every=False)
        if not found:
            sys.exit(f"treadle: there is no project with the id or name {project!r}")
        project_id = project if project in found else next(iter(found))
        caller = Caller(SUBJECT, {project_id: Role.ADMIN})
        async with database.begin() as connection:
            created = await api_keys.create(connection, caller, project_id, name, role, expires_at)
        return created[1]

    return _run(act, data_dir)


def list_all(data_dir: Path | None, *, is_json: bool = False) -> str:
    """Return one line for each key, newest first, or all keys as JSON."""

    async def act(database: Database, _: Redis) -> str:
        caller = await _everywhere(database)
        names = await projects.named(database.pool, [], every=True)
        async with database.connect() as connection:
            keys = await api_keys.of_projects(connection, caller, caller.projects)
        if is_json:
            values = [{**asdict(key), "project": names[key.project_id]} for key in keys]
            return orjson.dumps(values, option=orjson.OPT_INDENT_2).decode()
        lines = [
            f"{key.id}  {key.prefix}…  {names[key.project_id]}  {key.role}  {_state(key)}  {key.name}" for key in keys
        ]
        return "\n".join(map(escape_controls, lines)) or "no keys"

    return _run(act, data_dir)


def revoke(key_id: str, data_dir: Path | None) -> str:
    """Revoke a key on every server."""

    async def act(database: Database, redis: Redis) -> str:
        caller = await _everywhere(database)
        async with database.begin() as connection:
            revoked = await api_keys.revoke(connection, caller, key_id)
        await announce(redis, api_keys.REVOKED_CHANNEL, revoked.id)
        return f"revoked {revoked.id}"

    return _run(act, data_dir)


async def _everywhere(database: Database) -> Caller:
    return Caller(SUBJECT, dict.fromkeys(await projects.all_ids(database.pool), Role.ADMIN))


def _state(key: api_keys.ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    return "never expires" if key.expires_at is None else f"expires {key.expires_at:%Y-%m-%d}"


def _run(act: Callable[[Database, Redis], Awaitable[str]], data_dir: Path | None) -> str:
    try:
        return asyncio.run(_with_stores(act, load_settings(data_dir=data_dir)))
    except (StoreError, RedisError) as error:
        sys.exit(f"treadle: {error}")
    except Problem as problem:
        sys.exit(f"treadle: {problem.detail}")


async def _with_stores(act: Callable[[Database, Redis], Awaitable[str]], settings: Settings) -> str:
    """Call `act` with the configured stores, or with those of a running `treadle up`. Raises StoreError."""
    urls = in_use(settings.data_dir) or (None, None)
    database_url, redis_url = settings.database_url or urls[0], settings.redis_url or urls[1]
    if database_url is None or redis_url is None:
        raise StoreError(
            "the stores are not running: start `treadle up`, or set TREADLE_DATABASE_URL and TREADLE_REDIS_URL"
        )
    await postgres_version(database_url)
    if await is_outdated(database_url):
        raise StoreError("the database lacks migrations: run `treadle migrate`")
    database, redis = await Database.open(database_url, Deadlines(*settings.deadlines)), Redis.from_url(redis_url)
    try:
        return await act(database, redis)
    finally:
        await redis.aclose()
        await database.close()
