"""Sign-in of browsers at real OpenID Connect issuers: who gets in, how sessions end, and who does not get in."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.server.sign_in.routes import own_path
from app.settings import Settings
from tests.app.server.sign_in.issuer import SECRET, token
from tests.app.server.sign_in.oidc_issuers import Browser, serving_issuers
from tests.app_server import TRANSPORT, serving
from tests.end_to_end.support.browser import ScenarioPlayer

VIEWER = {"query": "{ viewer { subject projects { name } scopes } }"}
WATCH = {"id": "1", "type": "subscribe", "payload": {"query": "subscription { runs { id } }"}}
CREATE = {"query": 'mutation { createProject(input: {name: "of a page"}) { project { name } errors { code } } }'}


@dataclass(frozen=True)
class Site:
    """A running server that signs browsers in, and its issuers."""

    home: str
    issuers: dict[str, str]
    settings: Settings


@pytest.fixture
async def site(database_url: str, redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """A server at the issuer and as the client that the test names."""
    issuer, client_id = getattr(request, "param", ("inIdToken", "treadle"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        home = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with serving_issuers(home) as issuers:
            settings = Settings(
                database_url=database_url,
                redis_url=redis_url,
                public_url=home,
                oidc_issuer=issuers[issuer],
                oidc_client_id=client_id,
                oidc_client_secret="a secret of the tests" if client_id == "with-secret" else None,
                jwt_secret=SECRET,
            )
            async with serving(settings, listener):
                yield Site(home, issuers, settings)


async def session_of(browser: Browser) -> dict[str, Any]:
    answer: dict[str, Any] = (await browser.open("/auth/session")).json()
    return answer


async def ask(browser: Browser, body: Any = None, **headers: str) -> httpx.Response:
    sent = {"Sec-Fetch-Site": "same-origin", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await browser.client.post("/graphql", json=body or VIEWER, headers=sent)


async def watch(home: str, browser: Browser) -> ClientConnection:
    """Open a subscription with the cookie of a browser."""
    headers = {"Cookie": f"treadle_session={browser.cookie}"}
    address = home.replace("http", "ws") + "/graphql"
    opened = await connect(address, subprotocols=[TRANSPORT], additional_headers=headers)
    await opened.send(json.dumps({"type": "connection_init"}))
    assert json.loads(await opened.recv())["type"] == "connection_ack"
    await opened.send(json.dumps(WATCH))
    return opened


async def close_code(opened: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await opened.recv()
    return closed.value.rcvd.code if closed.value.rcvd else None


@pytest.mark.parametrize(
    "site", [("inIdToken", "treadle"), ("inUserInfo", "with-secret")], indirect=True, ids=["id token", "user info"]
)
async def test_a_person_signs_in_uses_the_api_and_signs_out(site: Site) -> None:
    browser = Browser(site.home)
    before = await session_of(browser)
    assert before == {
        "mode": "oidc",
        "subject": None,
        "expiresAt": None,
        "signInUrl": f"{site.home}/auth/sign-in",
        "signOutUrl": None,
    }
    assert (await ask(browser)).status_code == 401

    page = await browser.sign_in("ada", return_to="/auth/session?from=page")
    assert str(page.url) == f"{site.home}/auth/session?from=page"
    session = page.json()
    assert session["subject"] == "ada"
    remaining_s = datetime.fromisoformat(session["expiresAt"]).timestamp() - time.time()
    assert 500 < remaining_s <= 601
    made = (await ask(browser, CREATE)).json()["data"]["createProject"]
    assert made == {"project": {"name": "of a page"}, "errors": []}
    data = (await ask(browser)).json()["data"]
    assert data["viewer"]["subject"] == "ada"
    assert {project["name"] for project in data["viewer"]["projects"]} == {"default", "of a page"}

    # An Authorization header comes before the cookie.
    key_caller = (await ask(browser, Authorization=f"Bearer {token(sub='eve', aud=None, iss=None)}")).json()
    assert key_caller["data"]["viewer"]["subject"] == "eve"
    # No token is in an address, and none reaches the page; the code is of one use and bound by PKCE.
    assert not any(word in address for address in browser.addresses for word in ("token=", "eyJ", "code_verifier"))

    async with await watch(site.home, browser) as opened:
        started = time.monotonic()
        out = await browser.client.post(session["signOutUrl"], headers={"Sec-Fetch-Site": "same-origin"})
        assert await close_code(opened) == 4403
        assert time.monotonic() - started < 2
    assert out.status_code == 303
    leaving = urlsplit(out.headers["location"])
    assert leaving.path == "/session/end" and "id_token" not in leaving.query
    assert (await session_of(browser))["subject"] is None
    assert (await ask(browser)).status_code == 401


@pytest.mark.parametrize("site", [("inIdToken", "brief")], indirect=True)
async def test_a_session_is_renewed_once_for_all_requests_and_servers(site: Site, database_url: str) -> None:
    browser = Browser(site.home)
    end = (await browser.sign_in("vic")).json()["expiresAt"]
    async with serving(site.settings) as other, await watch(site.home, browser) as opened:
        assert await close_code(opened) == 4403
        late_s = time.time() - datetime.fromisoformat(end).timestamp()
        assert 0 <= late_s < 2
        cookies = {"Cookie": f"treadle_session={browser.cookie}"}
        async with httpx.AsyncClient(trust_env=False, headers=cookies) as client:
            async with serving(site.settings.model_copy(update={"oidc_issuer": "http://127.0.0.1:1"})) as cut_off:
                away = [await client.post(f"http://{cut_off}/graphql", json=VIEWER) for _ in range(2)]
                away += [await client.get(f"http://{cut_off}/auth/{path}") for path in ("session", "sign-in")]
            assert [answer.status_code for answer in away] == [503] * 4
            assert all("issuer of the sign-in cannot be reached" in answer.text for answer in away)
            homes = [site.home, f"http://{other}"] * 4
            answers = await asyncio.gather(*(client.post(f"{home}/graphql", json=VIEWER) for home in homes))
        # The issuer takes a refresh token that is used twice for stolen, and ends all tokens.
        assert [answer.json()["data"]["viewer"]["subject"] for answer in answers] == ["vic"] * 8
        async with await watch(f"http://{other}", browser):
            pass
    session = await session_of(browser)
    assert session["subject"] == "vic" and session["expiresAt"] > end
    connection = await asyncpg.connect(database_url)
    stored = dict((await connection.fetch("SELECT * FROM browser_sessions"))[0])
    await connection.execute("UPDATE browser_sessions SET ends_at = now()")
    await connection.close()
    assert stored["refresh_token"] and not any(browser.cookie in str(value) for value in stored.values())
    assert (await ask(browser)).status_code == 401, "after a week, a person signs in again"


@pytest.mark.parametrize("site", [("inIdToken", "brief-without-refresh")], indirect=True)
async def test_a_session_without_refresh_token_ends_with_its_token(site: Site) -> None:
    browser = Browser(site.home)
    end = datetime.fromisoformat((await browser.sign_in("vic")).json()["expiresAt"]).timestamp()
    assert (await ask(browser, CREATE)).json()["data"]["createProject"]["errors"] == [{"code": "FORBIDDEN"}]
    async with await watch(site.home, browser) as opened:
        assert await close_code(opened) == 4403
    assert 0 <= time.time() - end < 2
    refused = await ask(browser)
    assert refused.status_code == 401
    assert refused.json()["errors"][0]["message"] == "The session has ended: sign in again."
    # A socket with such a cookie may still sign in by connection_init; otherwise it closes with 4403.
    headers = {"Cookie": f"treadle_session={browser.cookie}"}
    address = site.home.replace("http", "ws") + "/graphql"
    async with connect(address, subprotocols=[TRANSPORT], additional_headers=headers) as opened:
        await opened.send(json.dumps({"type": "connection_init"}))
        assert await close_code(opened) == 4403


async def test_answers_that_no_attempt_of_this_browser_has_asked_for_are_refused(site: Site) -> None:
    victim, attacker = Browser(site.home), Browser(site.home)
    callback = f"{site.home}/auth/callback"
    await attacker.sign_in("ada", stop_before=callback)
    stolen = attacker.addresses[-1]
    query = {name: values[0] for name, values in parse_qs(urlsplit(stolen).query).items()}
    assert query["iss"] == site.issuers["inIdToken"]
    bad = {
        "no attempt": (victim, {}),
        "no state": (attacker, {"state": None}),
        "other state": (attacker, {"state": "x" * 30}),
        "state that is no text": (attacker, {"state": "\udcff"}),
        "other issuer": (attacker, {"iss": site.issuers["inUserInfo"]}),
        "no code": (attacker, {"code": None}),
        "refused by the issuer": (attacker, {"code": None, "error": "access_denied", "error_description": "<b>"}),
        "other code": (attacker, {"code": "x" * 43}),
        "code with NUL": (attacker, {"code": "\0"}),
        "long code": (attacker, {"code": "x" * 5000}),
    }
    for name, (browser, change) in bad.items():
        parameters = {key: value for key, value in {**query, **change}.items() if value is not None}
        answer = await browser.client.get(callback, params=httpx.QueryParams(_encodable(parameters)))
        assert answer.status_code == 401, name
        assert "treadle_session" not in answer.headers.get("set-cookie", ""), name
        assert "Sign in again" in answer.text and "<b>" not in answer.text, name
    # The victim has an attempt of its own: the answer for the attacker does not fit it (login CSRF).
    await victim.open("/auth/sign-in", stop_before="http://127.0.0.1:1")
    assert (await victim.client.get(stolen)).status_code == 401
    # With its own attempt the code works, once.
    assert (await attacker.client.get(stolen)).status_code == 303
    assert (await attacker.client.get(stolen)).status_code == 401


def _encodable(parameters: dict[str, str]) -> dict[str, str]:
    return {name: value.encode("utf-8", "replace").decode() for name, value in parameters.items()}


async def test_pages_of_other_sites_cannot_use_the_session(site: Site) -> None:
    browser = Browser(site.home)
    signed_in = await browser.sign_in("ada", return_to="//evil.test/")
    assert str(signed_in.url) == f"{site.home}/"
    evil = "https://evil.test"
    attempts = [
        ask(browser, CREATE, Sec_Fetch_Site="cross-site"),
        ask(browser, CREATE, Sec_Fetch_Site="same-site", Origin=evil),
        browser.client.post("/graphql", json=CREATE, headers={"Origin": evil}),
        browser.client.post("/auth/sign-out", headers={"Sec-Fetch-Site": "cross-site"}),
        browser.client.post("/auth/sign-out", headers={"Origin": evil}),
        browser.client.get("/auth/session", headers={"Sec-Fetch-Site": "cross-site", "Origin": evil}),
        browser.client.get("/graphql", params=VIEWER, headers={"Sec-Fetch-Site": "cross-site"}),
    ]
    assert {(await attempt).status_code for attempt in attempts} == {403}
    form = await browser.client.post("/graphql", data={"query": CREATE["query"]})
    assert form.status_code == 415
    assert (await session_of(browser))["subject"] == "ada"
    with pytest.raises(Exception, match="403"):
        await connect(
            site.home.replace("http", "ws") + "/graphql",
            subprotocols=[TRANSPORT],
            additional_headers={"Cookie": f"treadle_session={browser.cookie}", "Origin": evil},
        )
    [cookie] = [cookie for cookie in browser.client.cookies.jar if cookie.name == "treadle_session"]
    assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "lax"
    # A person without roles is signed in and sees nothing; a claim with an unknown role signs nobody in.
    nobody, odd = Browser(site.home), Browser(site.home)
    assert (await nobody.sign_in("nobody")).json()["subject"] == "nobody"
    assert (await ask(nobody)).json()["data"]["viewer"]["projects"] == []
    assert "is not one of viewer" in (await odd.sign_in("odd")).text


@pytest.mark.parametrize(
    ("path", "own"),
    [
        (None, "/"),
        ("/studio?run=1#x", "/studio?run=1#x"),
        ("https://evil.test", "/"),
        ("//evil.test", "/"),
        ("/\\evil.test", "/"),
        ("/\t/evil.test", "/"),
        ("\\/evil.test", "/"),
        ("/" + "x" * 3000, "/"),
        ("/" + "\u6f22" * 1000, "/"),
        ("", "/"),
    ],
)
def test_only_paths_of_this_server_are_returned_to(path: str | None, own: str) -> None:
    assert own_path(path) == own


async def test_a_browser_signs_in_from_the_studio_by_code_and_pkce(site: Site, browser: ScenarioPlayer) -> None:
    report = await browser.play("signIn", urlsplit(site.home).port or 80)
    asked = report["authorization"]
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert len(asked["code_challenge"]) == 43 and asked["state"] and asked["nonce"]
    assert report["before"] == [[401, None], 4403]
    assert (report["path"], report["after"]) == ("/runs", [[200, "ada"], "connection_ack"])
    assert ["treadle_session", True, "Lax"] in report["cookies"]
    assert not report["readable"]
