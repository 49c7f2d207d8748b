"""An issuer that answers wrongly or not at all ends no session, and no renewal outlasts its claim."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from app.server.sign_in import browser_sessions as renewals
from app.server.sign_in.browser_sessions import BrowserSessions
from app.server.sign_in.oidc import IssuerTokens, OidcIssuer
from app.settings import Settings
from persistence.db.database import Database
from persistence.problems import Unavailable
from persistence.secrets.key_source import KeySource
from persistence.workflows import browser_sessions

CONFIGURATION = "/.well-known/openid-configuration"
WORKING = {
    CONFIGURATION: '{"issuer": "ISSUER", "authorization_endpoint": "ISSUER/authorize", '
    '"token_endpoint": "ISSUER/token", "jwks_uri": "ISSUER/keys"}',
    "/token": '{"access_token": "a", "token_type": "Bearer", "id_token": "e30.e30.e30", "refresh_token": "next"}',
    "/keys": '{"keys": []}',
}


@asynccontextmanager
async def serving_answers(answers: dict[str, str | None]) -> AsyncIterator[str]:
    """Serve a body for each path; None: never answer. Yields the address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = answers[head.split(" ")[1]]
        if body is None:
            await reader.read()
        else:
            content = body.replace("ISSUER", address).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield address


def settings_of(address: str, folder: Path) -> Settings:
    key = base64.b64encode(bytes(32)).decode()
    return Settings(oidc_issuer=address, oidc_client_id="treadle", data_dir=folder, secret_key=key)


def tokens(valid_s: float) -> IssuerTokens:
    return IssuerTokens("ada", {}, datetime.now(UTC) + timedelta(seconds=valid_s), "refresh")


@pytest.mark.parametrize(
    ("path", "body"),
    [(path, body) for path in (CONFIGURATION, "/token", "/keys") for body in ("<html>", "")]
    + [(CONFIGURATION, "[1]"), ("/token", "[1]"), (CONFIGURATION, '{"issuer": "ISSUER"}')],
)
async def test_an_answer_that_cannot_be_read_is_an_outage_of_the_issuer(path: str, body: str, tmp_path: Path) -> None:
    async with serving_answers({**WORKING, path: body}) as address:
        with pytest.raises(Unavailable):
            await OidcIssuer(settings_of(address, tmp_path)).renew("refresh", tokens(-1))


async def test_a_renewal_ends_before_its_claim_and_can_be_repeated(
    database: Database, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert renewals.RENEWAL_S < browser_sessions.CLAIM_S
    monkeypatch.setattr(renewals, "RENEWAL_S", 0.1)
    answers: dict[str, str | None] = {**WORKING, "/token": None}
    async with serving_answers(answers) as address:
        settings = settings_of(address, tmp_path)
        sessions = BrowserSessions(database, redis, OidcIssuer(settings), KeySource.of(settings))
        cookie = await sessions.start(tokens(-1))
        with pytest.raises(Unavailable):
            await sessions.valid(cookie)
        answers["/token"] = '{"access_token": "a", "token_type": "Bearer", "expires_in": 60}'
        monkeypatch.undo()
        assert (await sessions.valid(cookie)).grant.subject == "ada"
