"""API keys over real sockets: created once, used, revoked on every server, and seen by admins only."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.settings import Settings
from tests.app.commands import Treadle
from tests.app.server.sign_in.issuer import SECRET, token
from tests.app_server import TRANSPORT, serving

CREATE = """mutation($i: CreateApiKeyInput!) { createApiKey(input: $i) {
  token apiKey { id prefix role createdBy expiresAt lastUsedAt revokedAt project { name } } errors { code detail } } }"""
REVOKE = "mutation($i: RevokeApiKeyInput!) { revokeApiKey(input: $i) { apiKey { id revokedAt } errors { code } } }"
LIST = "{ apiKeys { id name lastUsedAt revokedAt } }"
VIEWER = "{ viewer { subject scopes projects { name } } }"
WATCH = {"id": "1", "type": "subscribe", "payload": {"query": "subscription { runs { id } }"}}


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return Settings(database_url=database_url, redis_url=redis_url, jwt_secret=SECRET)


@pytest.fixture
async def address(settings: Settings) -> AsyncIterator[str]:
    async with serving(settings) as address:
        yield address


async def ask(client: httpx.AsyncClient, bearer: str, query: str, **variables: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {bearer}"}
    response = await client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
    body: dict[str, Any] = response.json()
    return body["data"] if response.status_code == 200 and body.get("data") else body


def admin() -> str:
    return token(aud=None, iss=None)


async def created(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await ask(client, admin(), CREATE, i={"name": "import", "role": "RUNNER", **changes})
    payload: dict[str, Any] = answer["createApiKey"]
    return payload


async def test_a_key_signs_in_with_its_role_and_its_token_is_stored_nowhere(
    client: httpx.AsyncClient, database_url: str
) -> None:
    made = await created(client)
    bearer, key = made["token"], made["apiKey"]
    assert bearer.startswith(key["prefix"]) and len(bearer) > 40 and key["prefix"].startswith("tk_")
    assert (key["role"], key["createdBy"], key["project"]) == ("RUNNER", "ada", {"name": "default"})
    viewer = (await ask(client, bearer, VIEWER))["viewer"]
    assert viewer == {"subject": key["id"], "scopes": ["read", "run"], "projects": [{"name": "default"}]}
    [listed] = (await ask(client, admin(), LIST))["apiKeys"]
    assert listed["lastUsedAt"] is not None
    connection = await asyncpg.connect(database_url)
    assert bearer[11:] not in str(await connection.fetch("SELECT * FROM api_keys"))
    await connection.close()


async def test_bad_keys_are_refused(client: httpx.AsyncClient, database_url: str) -> None:
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    expired, revoked = await created(client, expiresAt=soon), await created(client)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE id = $1", expired["apiKey"]["id"]
    )
    await connection.close()
    await ask(client, admin(), REVOKE, i={"id": revoked["apiKey"]["id"]})
    for bearer, part in (
        (expired["token"], "expired"),
        (revoked["token"], "revoked"),
        ("tk_", "no such"),
        ("tk_" + "x" * 7000, "no such"),
        (revoked["apiKey"]["prefix"], "no such"),
    ):
        [error] = (await ask(client, bearer, VIEWER))["errors"]
        assert error["extensions"]["code"] == "UNAUTHENTICATED"
        assert part in error["message"]


async def test_only_admins_of_the_project_create_see_and_revoke_keys(client: httpx.AsyncClient) -> None:
    key_id = (await created(client))["apiKey"]["id"]
    for role in ("viewer", "runner", "editor", None):
        bearer = token(aud=None, iss=None, treadle={"default": role} if role else {})
        answer = await ask(client, bearer, CREATE, i={"name": "k", "role": "VIEWER"})
        refused = answer["createApiKey"]["errors"][0]["code"]
        assert refused == ("FORBIDDEN" if role else "VALIDATION")
        answer = await ask(client, bearer, REVOKE, i={"id": key_id})
        assert answer["revokeApiKey"]["errors"] == [{"code": "NOT_FOUND"}]
        assert (await ask(client, bearer, LIST))["apiKeys"] == []
        assert (await ask(client, bearer, f'{{ node(id: "{key_id}") {{ id }} }}'))["node"] is None
    assert (await ask(client, admin(), f'{{ node(id: "{key_id}") {{ id }} }}'))["node"] == {"id": key_id}
    for bad in ({"name": " "}, {"expiresAt": "2001-01-01T00:00:00Z"}):
        assert (await created(client, **bad))["errors"][0]["code"] == "VALIDATION"


@pytest.mark.parametrize("with_redis", [True, False])
async def test_a_revoked_key_is_refused_by_every_server_and_its_sockets_close(
    settings: Settings, client: httpx.AsyncClient, with_redis: bool
) -> None:
    elsewhere = settings if with_redis else settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    made = await created(client)
    async with serving(elsewhere) as other, connect(f"ws://{other}/graphql", subprotocols=[TRANSPORT]) as socket:
        init = {"type": "connection_init", "payload": {"authorization": f"Bearer {made['token']}"}}
        await socket.send(json.dumps(init))
        assert json.loads(await socket.recv()) == {"type": "connection_ack"}
        await socket.send(json.dumps(WATCH))
        answer = (await ask(client, admin(), REVOKE, i={"id": made["apiKey"]["id"]}))["revokeApiKey"]
        assert answer["apiKey"]["revokedAt"] is not None
        at = time.monotonic()
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionClosed):
                while True:
                    await socket.recv()
        assert time.monotonic() - at < 2
        assert (socket.close_code, "revoked" in socket.close_reason) == (4403, True)
        async with httpx.AsyncClient(base_url=f"http://{other}") as there:
            assert "errors" in await ask(there, made["token"], VIEWER)


async def audited(database_url: str) -> list[tuple[str, ...]]:
    """Return the entries of the audit log, oldest first."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT subject, action, resource_id FROM audit_log ORDER BY id")
    finally:
        await connection.close()
    return [tuple(row) for row in rows]


def test_the_command_creates_lists_and_revokes(treadle: Treadle, database_url: str, redis_url: str) -> None:
    stores = {"TREADLE_DATABASE_URL": database_url, "TREADLE_REDIS_URL": redis_url}

    def output(*arguments: object) -> str:
        child = treadle("key", *arguments, **stores)
        text, _ = child.communicate(timeout=60)
        return text.strip()

    assert output("create", "ci", "--role", "editor", "--days", 1).startswith("tk_")
    line = output("list")
    assert "editor" in line and line.endswith("ci")
    key_id = line.split()[0]
    assert output("revoke", key_id) == f"revoked {key_id}"
    assert asyncio.run(audited(database_url)) == [
        ("treadle key", "createApiKey", key_id),
        ("treadle key", "revokeApiKey", key_id),
    ]
