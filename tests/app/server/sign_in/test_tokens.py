"""Sign-in by JSON Web Tokens, over real sockets: who is let in, with which roles, and who is not."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.server.sign_in import jwks
from app.server.sign_in.tokens import MAX_TOKEN
from app.settings import Settings
from tests.app.server.sign_in.issuer import (
    AUDIENCE,
    ISSUER,
    KEYS,
    OTHER_RSA,
    SECRET,
    Issuer,
    claims,
    hs256,
    public_jwk,
    raw_token,
    serving_issuer,
    token,
)
from tests.app_server import TRANSPORT, serving

VIEWER = "{ viewer { subject projects { name } scopes } }"
WATCH = "subscription { runs { id } }"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with serving_issuer() as issuer:
        yield issuer


@pytest.fixture
async def address(database_url: str, redis_url: str, issuer: Issuer) -> AsyncIterator[str]:
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        jwt_secret=SECRET,
        jwt_jwks_url=issuer.url,
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
    )
    async with serving(settings) as address:
        yield address


async def ask(client: httpx.AsyncClient, bearer: str | None, query: str = VIEWER) -> httpx.Response:
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    return await client.post("/graphql", json={"query": query}, headers=headers)


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    """Return status, code and message, after a check of the shape of the response."""
    assert response.headers["www-authenticate"].startswith('Bearer realm="treadle"')
    [error] = response.json()["errors"]
    assert "data" not in response.json()
    return response.status_code, error["extensions"]["code"], error["message"]


@pytest.mark.parametrize("algorithm", ["HS256", *KEYS])
async def test_a_token_of_each_algorithm_signs_in(client: httpx.AsyncClient, algorithm: str) -> None:
    data = (await ask(client, token(algorithm))).json()["data"]
    assert data["viewer"] == {
        "subject": "ada",
        "projects": [{"name": "default"}],
        "scopes": ["admin", "read", "run", "write"],
    }


def bad_tokens() -> dict[str, tuple[str, str]]:
    """Return tokens that nobody may enter with, and a part of each refusal."""
    now = int(time.time())
    public_key = json.dumps(public_jwk("RS256", KEYS["RS256"]))
    return {
        "expired": (token(exp=now - 5), "expired"),
        "expired at the issuer's key": (token("RS256", exp=now - 5), "expired"),
        "not yet valid": (token(nbf=now + 60), "not valid yet"),
        "other secret": (token(key="another secret, which has more than 32 bytes"), "signature"),
        "other key": (token("RS256", OTHER_RSA), "signature"),
        "other key of the same kind by id": (token("ES256", headers={"kid": "EdDSA"}), "not known"),
        "alg none": (raw_token({"alg": "none"}, claims()), "algorithm"),
        "alg None": (raw_token({"alg": "None"}, claims()), "algorithm"),
        "alg none with signature": (raw_token({"alg": "none"}, claims(), b"x"), "algorithm"),
        "no alg": (raw_token({"typ": "JWT"}, claims(), b"x"), "malformed"),
        "alg that is a list": (raw_token({"alg": ["HS256"]}, claims(), b"x"), "malformed"),
        "alg confusion: HS256 with the public key": (hs256(public_key, {}), "signature"),
        "alg confusion: HS256 with a key id": (hs256(public_key, {"kid": "RS256"}), "signature"),
        "alg confusion: RS256 with the secret": (
            raw_token({"alg": "RS256", "kid": "RS256"}, claims(), b"x"),
            "signature",
        ),
        "other algorithm of the same key": (token("RS512", KEYS["RS256"], {"kid": "RS256"}), "algorithm"),
        "HS512": (token("HS512", SECRET, {}), "algorithm"),
        "other audience": (token(aud="another"), "audience"),
        "other audiences": (token(aud=["a", "b"]), "audience"),
        "without audience": (token(aud=None), "`aud`"),
        "other issuer": (token(iss="https://other.test"), "issuer"),
        "without issuer": (token(iss=None), "`iss`"),
        "without exp": (token(exp=None), "`exp`"),
        "exp that is a text": (raw_token({"alg": "HS256"}, claims(exp="soon"), b"x"), "signature"),
        "without sub": (token(sub=None), "`sub`"),
        "empty sub": (token(sub=""), "`sub`"),
        "long sub": (token(sub="a" * 201), "`sub`"),
        "sub with NUL": (token(sub="a\0"), "`sub`"),
        "claim that is a list": (token(treadle=["admin"]), "object"),
        "claim with an unknown role": (token(treadle={"default": "owner"}), "viewer, runner, editor, admin"),
        "claim with a role that is an object": (token(treadle={"default": {}}), "viewer, runner, editor, admin"),
        "long": (token(padding="x" * MAX_TOKEN), "the limit is 8,192"),
        "no token": ("abc", "malformed"),
        "two parts": ("a.b", "malformed"),
        "three empty parts": ("..", "malformed"),
        "no JSON": ("YWJj.YWJj.YWJj", "malformed"),
        "deep nesting": (raw_token(b'{"alg": "HS256", "a": ' + b"[" * 5000, claims(), b"x"), "malformed"),
        "key in the token": (
            token("RS256", OTHER_RSA, {"kid": "x", "jwk": public_jwk("RS256", OTHER_RSA)}),
            "not known",
        ),
        "unknown critical header": (token(headers={"crit": ["x"], "x": 1}), "malformed"),
    }


async def test_a_bad_token_is_refused_with_an_explanation(client: httpx.AsyncClient) -> None:
    for name, (bad, part) in bad_tokens().items():
        status, code, message = refusal(await ask(client, bad))
        assert (status, code) == (401, "UNAUTHENTICATED"), name
        assert part in message, (name, message)


async def test_a_bad_token_opens_no_socket(address: str) -> None:
    for name, (bad, _) in list(bad_tokens().items())[::6]:
        async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) as socket:
            await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {bad}"}}))
            assert await closing(socket) == 4403, name
        if len(bad) > MAX_TOKEN:
            continue  # The server library refuses such a header itself.
        headers = {"Authorization": f"Bearer {bad}"}
        async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT], additional_headers=headers) as socket:
            assert await closing(socket) == 4403, name


async def test_the_answer_to_a_request_without_a_token_says_how_to_sign_in(client: httpx.AsyncClient) -> None:
    response = await ask(client, None)
    assert refusal(response)[:2] == (401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == 'Bearer realm="treadle"'
    basic = await client.post("/graphql", json={"query": VIEWER}, headers={"Authorization": "Basic YTpi"})
    assert 'error="invalid_token"' in basic.headers["www-authenticate"]
    twice = await client.post(
        "/graphql",
        json={"query": VIEWER},
        headers=[("Authorization", "Bearer a"), ("Authorization", f"Bearer {token()}")],
    )
    assert refusal(twice)[0] == 401
    assert (await client.get("/health")).status_code == 200


async def test_a_token_of_100_kb_is_no_fault(client: httpx.AsyncClient) -> None:
    response = await ask(client, token(padding="x" * 100_000))
    assert 400 <= response.status_code < 500


async def test_a_token_never_selects_what_the_server_fetches(client: httpx.AsyncClient, issuer: Issuer) -> None:
    await ask(client, token("RS256"))
    assert issuer.requests == ["GET /keys HTTP/1.1"]
    async with serving_issuer() as other:
        for headers in (
            {"kid": other.url},
            {"kid": "../other"},
            {"kid": "RS256", "jku": other.url},
            {"kid": "x", "x5u": other.url},
        ):
            await ask(client, token("RS256", OTHER_RSA, headers))
        assert other.requests == []
    # An unknown key id would fetch once, but the keys have just been fetched.
    assert set(issuer.requests) == {"GET /keys HTTP/1.1"}
    assert len(issuer.requests) == 1


async def test_a_new_key_of_the_issuer_is_accepted(
    client: httpx.AsyncClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated = token("RS256", OTHER_RSA, {"kid": "new"})
    assert (await ask(client, rotated)).status_code == 401
    issuer.keys = [public_jwk("RS256", OTHER_RSA, "new")]
    monkeypatch.setattr(jwks, "COOL_DOWN_S", 0.0)
    assert (await ask(client, rotated)).status_code == 200
    assert (await ask(client, token("RS256"))).status_code == 401


@pytest.mark.parametrize("fault", ["hangs", "fails", "no JSON", "no keys", "huge"])
async def test_an_outage_of_the_issuer_keeps_known_keys_and_lets_nobody_else_in(
    client: httpx.AsyncClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    assert (await ask(client, token("ES256"))).status_code == 200
    monkeypatch.setattr(jwks, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(jwks, "COOL_DOWN_S", 0.0)
    monkeypatch.setattr(jwks, "FRESH_S", 0.0)
    issuer.hangs = fault == "hangs"
    issuer.status = 503 if fault == "fails" else 200
    issuer.body = {"no JSON": b"<html>", "no keys": b"[]", "huge": b" " * (jwks.MAX_BYTES + 1)}.get(fault)
    assert (await ask(client, token("ES256"))).status_code == 200
    status, code, message = refusal(await ask(client, token("RS256", OTHER_RSA, {"kid": "new"})))
    assert (status, code) == (401, "UNAUTHENTICATED")
    assert "try again later" in message
    assert (await ask(client, token("ES256"))).status_code == 200
    monkeypatch.setattr(jwks, "STALE_S", 0.0)
    assert (await ask(client, token("ES256"))).status_code == 401


async def test_an_issuer_that_hangs_from_the_start_delays_nobody_else(
    database_url: str, redis_url: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many tokens share one request, which ends after its time; other tokens are not delayed by it."""
    monkeypatch.setattr(jwks, "TIMEOUT_S", 0.5)
    issuer.hangs = True
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        jwt_secret=SECRET,
        jwt_jwks_url=issuer.url,
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
    )
    async with serving(settings) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        waiting = [asyncio.create_task(ask(client, token("RS256"))) for _ in range(20)]
        assert (await ask(client, token())).status_code == 200
        assert {refusal(one)[:2] for one in await asyncio.gather(*waiting)} == {(401, "UNAUTHENTICATED")}
        assert len(issuer.requests) <= 2  # One at the start, and one for all of the tokens.
        issuer.hangs = False
        monkeypatch.setattr(jwks, "COOL_DOWN_S", 0.0)
        assert (await ask(client, token("RS256"))).status_code == 200


async def closing(socket: ClientConnection) -> int:
    """Wait until the server closes the socket, and return the code."""
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionClosed):
            while True:
                await socket.recv()
    assert socket.close_code is not None
    return socket.close_code


async def signed_in(socket: ClientConnection, bearer: str | None, name: str = "authorization") -> dict[str, Any]:
    payload = {} if bearer is None else {name: f"Bearer {bearer}"}
    await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
    async with asyncio.timeout(10):
        answer: dict[str, Any] = json.loads(await socket.recv())
    return answer


@pytest.mark.parametrize("name", ["authorization", "Authorization", None])
async def test_a_socket_signs_in_by_its_payload_or_by_its_header(address: str, name: str | None) -> None:
    headers = {"Authorization": f"Bearer {token()}"} if name is None else {}
    async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT], additional_headers=headers) as socket:
        assert await signed_in(socket, name and token(sub="grace"), name or "") == {"type": "connection_ack"}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": VIEWER}}))
        answer = json.loads(await socket.recv())
    assert answer["payload"]["data"]["viewer"]["subject"] == ("grace" if name else "ada")


async def test_a_socket_without_a_token_is_closed(address: str) -> None:
    async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        assert await closing(socket) == 4403
        assert socket.close_reason.startswith("This server needs a token")


async def test_a_socket_and_a_stream_end_with_their_token(address: str, client: httpx.AsyncClient) -> None:
    expiry = int(time.time()) + 2
    short = token(exp=expiry)

    async def stream_end() -> float:
        headers = {"Authorization": f"Bearer {short}", "Accept": "text/event-stream"}
        async with client.stream("POST", "/graphql", json={"query": WATCH}, headers=headers) as response:
            assert response.status_code == 200
            async for _ in response.aiter_bytes():
                continue
        return time.time()

    async def socket_end() -> float:
        async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) as socket:
            assert await signed_in(socket, short) == {"type": "connection_ack"}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": WATCH}}))
            assert await closing(socket) == 4403
            assert "expired" in socket.close_reason
        return time.time()

    ends = await asyncio.gather(stream_end(), socket_end())
    assert all(expiry <= end < expiry + 2 for end in ends)
    assert (await ask(client, token())).status_code == 200


ROLES: list[tuple[dict[str, str], dict[str, str], bool]] = [
    ({}, {}, False),
    ({"default": "viewer"}, {"default": "viewer"}, False),
    ({"*": "admin"}, {"default": "admin", "second": "admin"}, True),
    ({"*": "viewer", "second": "editor"}, {"default": "viewer", "second": "editor"}, False),
    ({"*": "admin", "second": "viewer"}, {"default": "admin", "second": "viewer"}, True),
    ({"no such project": "admin", "\0": "admin", "\ud800": "admin"}, {}, False),
    ({"{id}": "runner", "second": "admin"}, {"second": "runner"}, False),
]


async def test_the_claim_maps_ids_names_and_the_star_to_roles(client: httpx.AsyncClient) -> None:
    create = 'mutation { createProject(input: {name: "second"}) { project { id } errors { code } } }'
    made = (await ask(client, token(treadle={"*": "admin"}), create)).json()["data"]["createProject"]["project"]
    for grants, roles, may_create in ROLES:
        granted = token(treadle={name.replace("{id}", made["id"]): role for name, role in grants.items()})
        viewer = (await ask(client, granted)).json()["data"]["viewer"]
        assert {project["name"] for project in viewer["projects"]} == set(roles), grants
        again = (await ask(client, granted, create)).json()["data"]["createProject"]["errors"]
        assert again == [{"code": "CONFLICT" if may_create else "FORBIDDEN"}], grants
        for project, role in roles.items():
            assert await may_write(client, granted, project) == (role in ("editor", "admin")), grants


async def may_write(client: httpx.AsyncClient, bearer: str, project: str) -> bool:
    projects = (await ask(client, bearer, "{ projects { nodes { id name } } }")).json()["data"]["projects"]["nodes"]
    [id] = [one["id"] for one in projects if one["name"] == project]
    query = f'mutation {{ createWorkflow(input: {{name: "w", projectId: "{id}"}}) {{ errors {{ code }} }} }}'
    errors = (await ask(client, bearer, query)).json()["data"]["createWorkflow"]["errors"]
    assert errors in ([], [{"code": "FORBIDDEN"}])
    return errors == []


async def test_without_sign_in_a_token_is_refused(database_url: str, redis_url: str) -> None:
    settings = Settings(database_url=database_url, redis_url=redis_url)
    async with serving(settings) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        status, code, message = refusal(await ask(client, token()))
        assert (status, code) == (401, "UNAUTHENTICATED")
        assert "TREADLE_JWT_SECRET" in message
        assert (await ask(client, None)).json()["data"]["viewer"]["subject"] == "local"
        # A proxy with its own sign-in may pass its credentials on.
        proxied = await client.post("/graphql", json={"query": VIEWER}, headers={"Authorization": "Basic YTpi"})
        assert proxied.status_code == 200
        async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) as socket:
            await socket.send(
                json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {token()}"}})
            )
            assert await closing(socket) == 4403
