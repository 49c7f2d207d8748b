"""`treadle key list --json`: the keys of all projects for programs, without their tokens."""

import asyncio
import json

import pytest

from app.cli.key import create, list_all
from persistence.caller import Role
from persistence.db.database import Database
from persistence.workflows import projects


async def test_keys_are_listed_as_json_without_their_tokens(
    database: Database, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.begin() as connection:
        await projects.ensure_default(connection)
    monkeypatch.setenv("TREADLE_DATABASE_URL", database_url)
    monkeypatch.setenv("TREADLE_REDIS_URL", redis_url)
    token = await asyncio.to_thread(create, "ci", Role.RUNNER, "default", 1.5, None)
    text = await asyncio.to_thread(lambda: list_all(None, is_json=True))
    [key] = json.loads(text)
    assert (key["name"], key["role"], key["project"], key["revoked_at"]) == ("ci", "runner", "default", None)
    assert token.strip() not in text
