"""Sign-in of `http` nodes: secrets, redirects to the same and to another origin, cookies."""

import base64
import json
from typing import Any

import pytest

from tests.engine.nodes.http.http_nodes import LOOPBACK, failure, output
from tests.peers.http import Peer


@pytest.mark.parametrize(
    ("auth", "header", "expected"),
    [
        ({"type": "bearer", "token": "{{ secrets.key }}"}, "authorization", "Bearer s3cret"),
        (
            {"type": "basic", "username": "ann", "password": "{{ secrets.key }}"},
            "authorization",
            "Basic " + base64.b64encode(b"ann:s3cret").decode(),
        ),
        ({"type": "header", "name": "X-Api-Key", "value": "{{ secrets.key }}"}, "x-api-key", "s3cret"),
    ],
)
async def test_a_secret_is_sent_as_the_sign_in(peer: Peer, auth: dict[str, Any], header: str, expected: str) -> None:
    response = await output({"secrets": {"key": "s3cret"}}, url=f"{peer.url}/echo", auth=auth)
    assert response["body"]["headers"][header] == expected


async def test_redirects_are_followed_with_their_cookies(peer: Peer) -> None:
    response = await output(url=f"{peer.url}/to?url=/echo", headers={"X-Key": "k"})
    assert response["url"] == f"{peer.url}/echo"
    assert response["body"]["headers"]["cookie"] == "seen=1"
    assert response["body"]["headers"]["x-key"] == "k"
    stays = await output(url=f"{peer.url}/to?url=/echo", maxRedirects=0, expect=["3xx"])
    assert (stays["status"], stays["headers"]["location"]) == (302, "/echo")


async def test_another_origin_receives_no_header_that_may_be_a_key(peer: Peer) -> None:
    response = await output(
        {"secrets": {"key": "s3cret"}},
        url=f"{peer.url}/to?url={peer.elsewhere}/echo",
        headers={"X-Key": "{{ secrets.key }}", "Cookie": "a=s3cret", "Accept": "application/json"},
        auth={"type": "bearer", "token": "{{ secrets.key }}"},
    )
    headers = response["body"]["headers"]
    assert "s3cret" not in json.dumps(headers)
    assert (headers["accept"], headers["host"]) == ("application/json", peer.elsewhere.removeprefix("http://"))


async def test_a_body_with_a_secret_is_not_sent_to_another_origin(peer: Peer) -> None:
    target = {"method": "POST", "url": f"{peer.url}/to?code=307&url={peer.elsewhere}/echo"}
    scope = {"secrets": {"key": "s3cret"}}
    failed = await failure(scope=scope, **target, body={"type": "json", "content": {"key": "{{ secrets.key }}"}})
    assert (failed.code, peer.count("/echo")) == ("HTTP_BLOCKED", 0)
    response = await output(**target, body={"type": "json", "content": {"a": 1}})
    assert response["body"]["body"] == '{"a":1}'


async def test_two_clients_share_no_connection_and_no_cookie(peer: Peer) -> None:
    async with LOOPBACK.client() as first, LOOPBACK.client() as second:
        await first.get(f"{peer.url}/to?url=/echo")
        assert "cookie" in (await first.get(f"{peer.url}/echo")).json()["headers"]
        assert "cookie" not in (await second.get(f"{peer.url}/echo")).json()["headers"]
