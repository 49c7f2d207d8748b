"""The `http` node against a real server that also misbehaves."""

import asyncio
import base64
import json
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engine.events import LogRecorded
from engine.http.addresses import Allowed, is_public
from engine.http.client import Blocked, GuardedHttp
from engine.nodes.base import NodeFailure, Output
from engine.nodes.http import Http, HttpConfig
from tests.engine.given import Given
from tests.peers.http import MIB, Peer, http_peer
from tests.peers.tls import self_signed

LOOPBACK = GuardedHttp(Allowed.parse("127.0.0.1, localhost"))
QUICK = {"maxAttempts": 3, "backoffS": 0}


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with http_peer() as opened:
        yield opened


class Call:
    """One visit of an `http` node."""

    def __init__(
        self, config: dict[str, Any], scope: dict[str, Any] | None = None, http: GuardedHttp = LOOPBACK
    ) -> None:
        self.config = HttpConfig.model_validate(config)
        self.given = Given(scope, {"http": http})

    async def output(self) -> Any:
        outcome = await Http().execute(self.config, self.given.context)
        assert isinstance(outcome, Output)
        return outcome.value

    @property
    def logs(self) -> list[str]:
        return [what.message for what in self.given.happenings if isinstance(what, LogRecorded)]


async def output(scope: dict[str, Any] | None = None, **config: Any) -> Any:
    return await Call(config, scope).output()


async def failure(http: GuardedHttp = LOOPBACK, scope: dict[str, Any] | None = None, **config: Any) -> NodeFailure:
    with pytest.raises(NodeFailure) as failed:
        async with asyncio.timeout(20):
            await Call(config, scope, http).output()
    return failed.value


async def test_a_call_gives_status_headers_and_body(peer: Peer) -> None:
    found = await output(url=f"{peer.url}/echo")
    assert (found["status"], found["url"]) == (200, f"{peer.url}/echo")
    assert found["headers"]["content-type"] == "application/json"
    assert found["body"]["method"] == "GET"


async def test_templates_fill_everything_that_is_sent(peer: Peer) -> None:
    scope = {"input": {"base": peer.url, "id": "a/b c", "tags": ["x", "y"], "none": None, "n": 3}}
    found = await output(
        scope,
        method="POST",
        url="{{ input.base }}/echo?kept=1#part",
        headers={"X-Id": "{{ input.n }}"},
        query={"id": "{{ input.id }}", "tag": "{{ input.tags }}", "left_out": "{{ input.none }}", "yes": True},
        body={"type": "json", "content": {"n": "{{ input.n }}"}},
    )
    said = found["body"]
    assert said["query"] == {"kept": ["1"], "id": ["a/b c"], "tag": ["x", "y"], "yes": ["true"]}
    assert (said["headers"]["x-id"], said["headers"]["content-type"]) == ("3", "application/json")
    assert json.loads(said["body"]) == {"n": 3}


@pytest.mark.parametrize(
    ("body", "media", "sent"),
    [
        ({"type": "json", "content": None}, "application/json", "null"),
        (
            {"type": "form", "content": {"a": [1, 2], "b": "ü &"}},
            "application/x-www-form-urlencoded",
            "a=1&a=2&b=%C3%BC+%26",
        ),
        ({"type": "raw", "content": "<a/>", "media": "application/xml"}, "application/xml", "<a/>"),
        ({"type": "raw", "content": "aGk=", "encoding": "base64"}, "text/plain; charset=utf-8", "hi"),
    ],
)
async def test_a_body_is_sent_as_its_kind(peer: Peer, body: dict[str, Any], media: str, sent: str) -> None:
    said = (await output(method="POST", url=f"{peer.url}/echo", body=body))["body"]
    assert (said["headers"]["content-type"], said["body"]) == (media, sent)


async def test_files_are_sent_as_multipart(peer: Peer) -> None:
    parts = [
        {"name": "note", "content": "{{ input.note }}"},
        {"name": "file", "content": "AAH/", "encoding": "base64", "filename": "a.bin", "media": "application/x-thing"},
    ]
    scope = {"input": {"note": "hello"}}
    await output(scope, method="POST", url=f"{peer.url}/echo", body={"type": "multipart", "content": parts})
    sent = peer.seen[0]
    assert sent.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="note"' in sent.body and b"hello" in sent.body
    assert b'name="file"; filename="a.bin"' in sent.body and b"application/x-thing\r\n\r\n\x00\x01\xff\r\n" in sent.body


@pytest.mark.parametrize(
    ("auth", "header", "sent"),
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
async def test_a_secret_signs_the_request(peer: Peer, auth: dict[str, Any], header: str, sent: str) -> None:
    found = await output({"secrets": {"key": "s3cret"}}, url=f"{peer.url}/echo", auth=auth)
    assert found["body"]["headers"][header] == sent


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/echo?x=1", "auto", {"x": ["1"]}),
        ("/text", "auto", "grüße"),
        ("/bytes", "auto", base64.b64encode(b"\x00\x01\xff").decode()),
        ("/text", "base64", base64.b64encode("grüße".encode("latin-1")).decode()),
        ("/gzip", "json", {"packed": True}),
        ("/empty", "json", None),
        ("/long", "json", {}),
    ],
)
async def test_the_body_is_read_as_what_it_is(peer: Peer, path: str, kind: str, body: Any) -> None:
    found = (await output(url=peer.url + path, response={"kind": kind}))["body"]
    assert (found["query"] if path.startswith("/echo") else found) == body


async def test_what_follows_a_body_is_no_answer_to_the_next_request(peer: Peer) -> None:
    assert (await output(url=f"{peer.url}/long"))["body"] == {}
    assert (await output(url=f"{peer.url}/text"))["body"] == "grüße"


BAD_PEERS: list[tuple[str, str, str]] = [
    ("/hang", "HTTP_TIMEOUT", "did not finish within 0.3 s"),
    ("/drip", "HTTP_TIMEOUT", "did not finish within 0.3 s"),
    ("/drip-headers", "HTTP_TIMEOUT", "did not finish within 0.3 s"),
    ("/endless-headers", "HTTP_RESPONSE", "the connection broke"),
    ("/short", "HTTP_RESPONSE", "the connection broke before the answer was whole"),
    ("/closed", "HTTP_RESPONSE", "the connection broke"),
    ("/garbage", "HTTP_RESPONSE", "the connection broke"),
    ("/gib", "HTTP_RESPONSE", "more than 100,000 bytes"),
    ("/gib-announced", "HTTP_RESPONSE", "more than 100,000 bytes"),
    ("/bomb?layers=1", "HTTP_RESPONSE", "more than 100,000 bytes"),
    ("/bomb?layers=2", "HTTP_RESPONSE", "more than 100,000 bytes"),
    ("/not-gzip", "HTTP_RESPONSE", "cannot be unpacked"),
    ("/broken-utf8", "HTTP_RESPONSE", "is no utf-8 text at byte 3; take it as `base64`"),
    ("/as?media=text/plain;charset=zlib", "HTTP_RESPONSE", "a charset that is not known (zlib)"),
    ("/as?media=text/plain;charset=punycode", "HTTP_RESPONSE", "a charset that is not known (punycode)"),
    ("/not-json", "HTTP_RESPONSE", "is no JSON"),
    ("/status?code=404", "HTTP_STATUS", "answered 404 Told"),
    ("/status?code=503", "HTTP_STATUS", "answered 503 Told"),
    ("/loop", "HTTP_RESPONSE", "redirected more than 5 times"),
    ("/to?url=ftp://example.com", "HTTP_BLOCKED", "not plain http"),
    ("/to?url=http://a:b@example.com", "HTTP_BLOCKED", "not plain http"),
    ("/to?url=http://a:b", "HTTP_RESPONSE", "no address"),
    ("/to?url=http://10.0.0.1/", "HTTP_BLOCKED", "10.0.0.1 is not on the public internet"),
    ("/to?url=http://169.254.169.254/latest", "HTTP_BLOCKED", "TREADLE_HTTP_ALLOW"),
]


@pytest.mark.parametrize(("path", "code", "message"), BAD_PEERS)
async def test_a_bad_peer_is_a_clear_error(peer: Peer, path: str, code: str, message: str) -> None:
    limits = {"timeoutS": 0.3 if code == "HTTP_TIMEOUT" else 15, "response": {"maxBytes": 100_000}}
    body = {"body": {"type": "raw", "content": "x"}, "method": "POST"} if "/as" in path else {}
    failed = await failure(url=peer.url + path, retry={"maxAttempts": 1}, **limits, **body)
    assert (failed.code, message in failed.message) == (code, True), failed.message
    assert peer.written < 64 * MIB


async def test_a_bomb_is_not_unpacked_into_memory(peer: Peer) -> None:
    await output(url=f"{peer.url}/gzip")
    tracemalloc.start()
    try:
        await failure(url=f"{peer.url}/bomb?layers=1", response={"maxBytes": MIB})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * MIB


async def test_a_peer_that_refuses_is_a_clear_error() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    failed = await failure(url=f"http://127.0.0.1:{port}/", retry=QUICK)
    assert (failed.code, failed.retryable) == ("HTTP_CONNECT", True)
    assert f"GET http://127.0.0.1:{port}/: no connection" in failed.message


async def test_a_name_that_does_not_exist_is_a_clear_error() -> None:
    failed = await failure(url="http://no-such-host.invalid/", retry=QUICK)
    assert (failed.code, "no-such-host.invalid cannot be resolved" in failed.message) == ("HTTP_CONNECT", True)


async def test_a_certificate_that_cannot_be_trusted_is_a_clear_error(tmp_path: Path) -> None:
    async with http_peer(self_signed(tmp_path, "localhost")) as peer:
        failed = await failure(url=f"https://localhost:{peer.port}/echo", retry={"maxAttempts": 1})
    assert (failed.code, "CERTIFICATE_VERIFY_FAILED" in failed.message) == ("HTTP_CONNECT", True)


async def test_an_unexpected_status_shows_what_was_said(peer: Peer) -> None:
    failed = await failure(url=f"{peer.url}/status?code=429&after=7", retry={"maxAttempts": 1})
    assert failed.retryable
    assert failed.details == {"status": 429, "body": '{"said": "why"}', "retryAfterS": 7.0}
    assert (await output(url=f"{peer.url}/status?code=404", expect=["2xx", 404]))["status"] == 404


async def test_a_failing_target_is_asked_again(peer: Peer) -> None:
    call = Call({"url": f"{peer.url}/flaky?times=2&code=503", "retry": QUICK})
    assert (await call.output())["status"] == 200
    assert peer.count("/flaky") == 3
    assert call.logs[0].startswith("503 Told; attempt 2 in")


async def test_a_target_says_when_to_come_again(peer: Peer) -> None:
    call = Call({"url": f"{peer.url}/flaky?times=1&code=503&after=0", "retry": {"maxAttempts": 2, "backoffS": 600}})
    async with asyncio.timeout(5):
        assert (await call.output())["status"] == 200
    failed = await failure(url=f"{peer.url}/status?code=503&after=600", retry={"maxWaitS": 5})
    assert (failed.code, failed.retryable) == ("HTTP_STATUS", True)
    assert peer.count("/status") == 1


@pytest.mark.parametrize(
    ("code", "retry", "asked"),
    [
        ("500", QUICK, 1),
        ("429", QUICK, 3),
        ("500", {**QUICK, "anyMethod": True}, 3),
        ("501", {**QUICK, "anyMethod": True}, 1),
    ],
)
async def test_a_post_is_repeated_only_where_it_is_safe_or_asked_for(
    peer: Peer, code: str, retry: dict[str, Any], asked: int
) -> None:
    await failure(method="POST", url=f"{peer.url}/status?code={code}", retry=retry)
    assert peer.count("/status") == asked
    assert len({request.headers["idempotency-key"] for request in peer.seen}) == 1


async def test_an_idempotency_key_names_the_visit(peer: Peer) -> None:
    said = (await output(method="POST", url=f"{peer.url}/echo"))["body"]["headers"]
    assert said["idempotency-key"] == "run_1/0/n/1"
    assert "idempotency-key" not in (await output(url=f"{peer.url}/echo"))["body"]["headers"]
    own = await output(method="POST", url=f"{peer.url}/echo", headers={"Idempotency-Key": "mine"})
    assert own["body"]["headers"]["idempotency-key"] == "mine"


async def test_redirects_are_followed_with_their_cookies(peer: Peer) -> None:
    found = await output(url=f"{peer.url}/to?url=/echo", headers={"X-Key": "k"})
    assert found["url"] == f"{peer.url}/echo"
    assert found["body"]["headers"]["cookie"] == "seen=1"
    assert found["body"]["headers"]["x-key"] == "k"
    stays = await output(url=f"{peer.url}/to?url=/echo", maxRedirects=0, expect=["3xx"])
    assert (stays["status"], stays["headers"]["location"]) == (302, "/echo")


async def test_another_origin_sees_no_header_that_may_be_a_key(peer: Peer) -> None:
    found = await output(
        {"secrets": {"key": "s3cret"}},
        url=f"{peer.url}/to?url={peer.elsewhere}/echo",
        headers={"X-Key": "{{ secrets.key }}", "Cookie": "a=s3cret", "Accept": "application/json"},
        auth={"type": "bearer", "token": "{{ secrets.key }}"},
    )
    said = found["body"]["headers"]
    assert "s3cret" not in json.dumps(said)
    assert (said["accept"], said["host"]) == ("application/json", peer.elsewhere.removeprefix("http://"))


async def test_a_body_with_a_secret_is_not_sent_to_another_origin(peer: Peer) -> None:
    target = {"method": "POST", "url": f"{peer.url}/to?code=307&url={peer.elsewhere}/echo"}
    scope = {"secrets": {"key": "s3cret"}}
    failed = await failure(scope=scope, **target, body={"type": "json", "content": {"key": "{{ secrets.key }}"}})
    assert (failed.code, peer.count("/echo")) == ("HTTP_BLOCKED", 0)
    found = await output(**target, body={"type": "json", "content": {"a": 1}})
    assert found["body"]["body"] == '{"a":1}'


@pytest.mark.parametrize(
    "pagination",
    [
        {"by": "link", "items": "data"},
        {"by": "url", "path": "next", "items": "data"},
        {"by": "cursor", "path": "cursor", "parameter": "cursor", "items": "data"},
    ],
)
async def test_a_list_is_read_page_by_page(peer: Peer, pagination: dict[str, Any]) -> None:
    found = await output(url=f"{peer.url}/pages", pagination=pagination)
    assert found["body"] == ["1a", "1b", "2a", "2b", "3a", "3b"]
    assert (found["pages"], found["truncated"]) == (3, False)
    cut = Call({"url": f"{peer.url}/pages", "pagination": {**pagination, "limit": 2}})
    found = await cut.output()
    assert (found["body"], found["truncated"]) == (["1a", "1b", "2a", "2b"], True)
    assert cut.logs == ["there are more than 2 pages: the rest is left out"]


@pytest.mark.parametrize(
    ("path", "pagination", "message"),
    [
        ("/pages-in-a-circle", {"by": "url", "path": "next", "items": "data"}, "a next page that was read before"),
        ("/pages-for-ever", {"by": "url", "path": "next", "items": "data", "limit": 1000}, "more than"),
        ("/pages", {"by": "link", "items": "nope"}, "has no list at `nope`"),
        ("/pages", {"by": "link"}, "has no list as its body"),
        ("/pages", {"by": "url", "path": "data", "items": "data"}, "leads to no next page"),
    ],
)
async def test_pages_that_lead_nowhere_are_a_clear_error(
    peer: Peer, path: str, pagination: dict[str, Any], message: str
) -> None:
    failed = await failure(url=peer.url + path, pagination=pagination, response={"maxBytes": 10_000})
    assert (failed.code, message in failed.message) == ("HTTP_RESPONSE", True), failed.message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "Field required"),
        ({"url": ""}, "at least 1 character"),
        ({"url": "ftp://example.com"}, "begins with http"),
        ({"url": 7}, "valid string"),
        ({"url": "http://x", "method": "BREW"}, "'GET'"),
        ({"url": "http://x", "expect": ["2x"]}, "is no status"),
        ({"url": "http://x", "body": {"type": "smoke", "content": 1}}, "smoke"),
        ({"url": "http://x", "body": {"content": 1}}, "discriminator"),
        ({"url": "http://x", "auth": {"type": "bearer"}}, "Field required"),
        ({"url": "http://x", "response": {"maxBytes": 10**9}}, "less than or equal"),
        ({"url": "http://x", "retry": {"maxAttempts": 0}}, "greater than or equal"),
        ({"url": "http://x", "pagination": {"by": "cursor"}}, "need a `path`"),
        ({"url": "http://x", "timeoutS": float("inf")}, "less than or equal"),
        ({"url": "http://x", "headerz": {}}, "Extra inputs"),
    ],
)
def test_a_config_that_cannot_work_is_found_before_a_run(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HttpConfig.model_validate(config)


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        ({"url": "{{ input.nope }}"}, "TEMPLATE", "nope"),
        ({"url": "{{ input.n }}"}, "CONFIG", "`url` must give an address, not a int"),
        ({"url": "{{ input.word }}"}, "CONFIG", "begins with http"),
        ({"url": "http://ann:pw@x/{{ input.word }}"}, "CONFIG", "`auth` is the place"),
        (
            {"url": "http://x", "query": {"a": {"b": 1}}},
            "CONFIG",
            "`query.a` must give text or a number, not an object",
        ),
        ({"url": "http://x", "headers": {"X": "{{ input.lines }}"}}, "CONFIG", "`headers.X` holds a line break"),
        ({"url": "http://x", "headers": {"a b": "c"}}, "CONFIG", "is no name of a header"),
        ({"url": "http://x", "headers": {"Host": "c"}}, "CONFIG", "is set by Treadle itself"),
        ({"url": "http://x", "auth": {"type": "bearer", "token": "{{ input.lines }}"}}, "CONFIG", "`auth.token` holds"),
        ({"url": "http://x", "body": {"type": "raw", "content": "?", "encoding": "base64"}}, "CONFIG", "is no base64"),
        ({"url": "http://x", "body": {"type": "form", "content": {"a": [{}]}}}, "CONFIG", "`body.content.a` must"),
    ],
)
async def test_what_a_template_gives_is_looked_at_before_anything_is_sent(
    config: dict[str, Any], code: str, message: str
) -> None:
    failed = await failure(scope={"input": {"n": 1, "word": "hello", "lines": "a\r\nX-Injected: 1"}}, **config)
    assert (failed.code, message in failed.message) == (code, True), failed.message


async def test_a_cancelled_call_closes_its_connection(peer: Peer) -> None:
    for path in ("/hang", "/drip"):
        peer.arrived.clear()
        peer.left.clear()
        call = asyncio.create_task(output(url=peer.url + path))
        async with asyncio.timeout(5):
            await peer.arrived.wait()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await peer.left.wait()
        assert call.cancelled()


PRIVATE = [
    "http://127.0.0.1:{port}/echo",
    "http://localhost:{port}/echo",
    "http://127.1:{port}/echo",
    "http://2130706433:{port}/echo",
    "http://0x7f000001:{port}/echo",
    "http://0:{port}/echo",
    "http://[::1]:{port}/echo",
    "http://[::]:{port}/echo",
    "http://[::ffff:127.0.0.1]:{port}/echo",
    "http://[::ffff:7f00:1]:{port}/echo",
    "http://[64:ff9b::127.0.0.1]:{port}/echo",
]


@pytest.mark.parametrize("url", PRIVATE)
async def test_private_targets_are_refused_however_they_are_written(peer: Peer, url: str) -> None:
    failed = await failure(GuardedHttp(), url=url.format(port=peer.port), retry=QUICK)
    assert (failed.code, failed.retryable) == ("HTTP_BLOCKED", False)
    assert peer.seen == []


async def test_a_redirect_to_a_private_target_is_refused(peer: Peer) -> None:
    """The first name is allowed, the second is the same machine by another name."""
    guarded = GuardedHttp(Allowed.parse("localhost"))
    failed = await failure(guarded, url=f"{peer.elsewhere}/to?url={peer.url}/echo")
    assert (failed.code, peer.count("/echo")) == ("HTTP_BLOCKED", 0)


async def test_a_name_is_resolved_once_and_that_address_connected_to(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is looked at, and private when it is connected to, is no way in."""
    answers = iter([[(2, 1, 6, "", ("127.0.0.2", peer.port))], [(2, 1, 6, "", ("127.0.0.1", peer.port))]])

    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        return next(answers)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    guarded = GuardedHttp(Allowed.parse("127.0.0.2/32"))
    failed = await failure(guarded, url=f"http://rebinding.example:{peer.port}/echo", retry={"maxAttempts": 1})
    assert (failed.code, peer.seen) == ("HTTP_CONNECT", [])
    failed = await failure(guarded, url=f"http://rebinding.example:{peer.port}/echo", retry={"maxAttempts": 1})
    assert failed.code == "HTTP_BLOCKED"


async def test_an_address_that_does_not_answer_leaves_the_others_their_time(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [(10, 1, 6, "", ("::1", peer.port, 0, 0)), (2, 1, 6, "", ("127.0.0.1", peer.port))]

    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        return both

    async with LOOPBACK.client() as client:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        assert (await client.get(f"{peer.elsewhere}/echo")).status_code == 200


ADDRESSES = {
    "93.184.215.14": True,
    "1.1.1.1": True,
    "2606:4700:4700::1111": True,
    "64:ff9b::1.1.1.1": True,
    "2002:101:101::": True,
    **dict.fromkeys(
        [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ],
        False,
    ),
}


@pytest.mark.parametrize(("address", "public"), ADDRESSES.items())
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def test_the_host_opens_names_and_networks() -> None:
    allowed = Allowed.parse("Api.Internal, 10.1.0.0/16, *.cluster.local, fd00::/8, [::1], 127.0.0.1")
    may = {
        ("api.internal", "10.9.9.9"): True,
        ("api.internal.", "10.9.9.9"): True,
        ("other", "10.1.2.3"): True,
        ("other", "::ffff:10.1.2.3"): True,
        ("other", "10.2.0.1"): False,
        ("a.cluster.local", "10.2.0.1"): True,
        ("evil-cluster.local", "10.2.0.1"): False,
        ("other", "fd12::1"): True,
        ("other", "::1"): True,
        ("other", "127.0.0.2"): False,
    }
    for (host, address), expected in may.items():
        assert allowed.may_connect(host, ip_address(address)) is expected, (host, address)
    with pytest.raises(ValueError, match="is no network"):
        Allowed.parse("10.0.0.0/33")


async def test_a_client_shares_nothing_with_another(peer: Peer) -> None:
    async with LOOPBACK.client() as first, LOOPBACK.client() as second:
        await first.get(f"{peer.url}/to?url=/echo")
        assert "cookie" in (await first.get(f"{peer.url}/echo")).json()["headers"]
        assert "cookie" not in (await second.get(f"{peer.url}/echo")).json()["headers"]


async def test_certificates_are_checked() -> None:
    async with GuardedHttp().client() as client:
        context = client._transport._pool._ssl_context  # type: ignore[attr-defined]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_a_blocked_target_is_an_error_of_its_own(peer: Peer) -> None:
    async with GuardedHttp().client() as client:
        with pytest.raises(Blocked):
            await client.get(f"{peer.url}/echo")
