"""`http` nodes against a real server: requests, outputs, and values that are refused."""

import base64
import json
from typing import Any

import pytest
from pydantic import ValidationError

from engine.graph.bound_node import bind_nodes
from engine.nodes.http.node import HttpConfig
from engine.spec.parser import parse
from engine.validation.validator import validate
from tests.engine.node_runner import TYPES
from tests.engine.nodes.http.http_nodes import failure, output
from tests.peers.http import Peer


async def test_a_request_returns_status_headers_and_body(peer: Peer) -> None:
    response = await output(url=f"{peer.url}/echo")
    assert (response["status"], response["url"]) == (200, f"{peer.url}/echo")
    assert response["headers"]["content-type"] == "application/json"
    assert response["body"]["method"] == "GET"


async def test_templates_are_rendered_in_every_part_of_the_request(peer: Peer) -> None:
    scope = {"input": {"base": peer.url, "id": "a/b c", "tags": ["x", "y"], "none": None, "n": 3}}
    response = await output(
        scope,
        method="POST",
        url="{{ input.base }}/echo?kept=1#part",
        headers={"X-Id": "{{ input.n }}"},
        query={"id": "{{ input.id }}", "tag": "{{ input.tags }}", "left_out": "{{ input.none }}", "yes": True},
        body={"type": "json", "content": {"n": "{{ input.n }}"}},
    )
    request = response["body"]
    assert request["query"] == {"kept": ["1"], "id": ["a/b c"], "tag": ["x", "y"], "yes": ["true"]}
    assert (request["headers"]["x-id"], request["headers"]["content-type"]) == ("3", "application/json")
    assert json.loads(request["body"]) == {"n": 3}


@pytest.mark.parametrize(
    ("url", "query", "sent"),
    [
        ("?tag=a", {"tag": "b"}, "?tag=a&tag=b"),
        ("?tag=a&tag=b&x=1", {"tag": ["c", "d"]}, "?tag=a&tag=b&x=1&tag=c&tag=d"),
        ("?flag&e=%2F%20+&q=a;b&=&", {"n": 1}, "?flag&e=%2F%20+&q=a;b&=&&n=1"),
        ("?filter[a]={1:2}|$x'", {"n": 1}, "?filter[a]={1:2}|$x'&n=1"),
        ("?%74ag=%61", {"tag": "x y&é"}, "?%74ag=%61&tag=x+y%26%C3%A9"),
        ("?sig=a%2Bb%3D", {"n": None, "m": []}, "?sig=a%2Bb%3D"),
        ("?sig=a+b", {}, "?sig=a+b"),
        ("", {"n": 1}, "?n=1"),
        ("?", {"n": 1}, "?n=1"),
    ],
)
async def test_the_query_of_the_address_is_kept_as_it_is(
    peer: Peer, url: str, query: dict[str, Any], sent: str
) -> None:
    address = f"{peer.url}/echo"
    assert (await output(url=address + url, query=query))["url"] == address + sent


async def decoded(peer: Peer, body: bytes, kind: str = "auto") -> Any:
    """The body of a response that consists of these bytes."""
    content = {"type": "raw", "encoding": "base64", "content": base64.b64encode(body).decode()}
    url = f"{peer.url}/as?media=application/json"
    return (await output(method="POST", url=url, body=content, response={"kind": kind}))["body"]


@pytest.mark.parametrize("kind", ["auto", "json"])
async def test_json_may_begin_with_a_byte_order_mark(peer: Peer, kind: str) -> None:
    assert await decoded(peer, b'\xef\xbb\xbf{"a":1}', kind) == {"a": 1}
    assert await decoded(peer, '{"a":"é"}'.encode("utf-16"), kind) == {"a": "é"}


async def test_a_whole_number_beyond_64_bits_in_a_body_is_an_error(peer: Peer) -> None:
    content = {"type": "raw", "content": '{"id": 18446744073709551617}'}
    failed = await failure(method="POST", url=f"{peer.url}/as?media=application/json", body=content)
    assert failed.code == "HTTP_RESPONSE"
    assert "contains the whole number 18446744073709551617, which is beyond 64 bits" in failed.message
    content = {"type": "raw", "content": '{"id": 9007199254740993}'}
    response = await output(method="POST", url=f"{peer.url}/as?media=application/json", body=content)
    assert response["body"] == {"id": 9007199254740993}


@pytest.mark.parametrize(
    ("body", "media", "expected"),
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
async def test_a_body_is_encoded_by_its_kind(peer: Peer, body: dict[str, Any], media: str, expected: str) -> None:
    request = (await output(method="POST", url=f"{peer.url}/echo", body=body))["body"]
    assert (request["headers"]["content-type"], request["body"]) == (media, expected)


async def test_files_are_sent_as_multipart(peer: Peer) -> None:
    parts = [
        {"name": "note", "content": "{{ input.note }}"},
        {"name": "file", "content": "AAH/", "encoding": "base64", "filename": "a.bin", "media": "application/x-thing"},
    ]
    scope = {"input": {"note": "hello"}}
    await output(scope, method="POST", url=f"{peer.url}/echo", body={"type": "multipart", "content": parts})
    request = peer.seen[0]
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="note"' in request.body and b"hello" in request.body
    assert (
        b'name="file"; filename="a.bin"' in request.body
        and b"application/x-thing\r\n\r\n\x00\x01\xff\r\n" in request.body
    )


SCOPE = {"input": {"data": [1, {"a": None}], "text": "x=1"}}
PLAIN_BODIES: dict[str, tuple[Any, str, bytes]] = {
    "an object": ({"data": "{{input.data}}"}, "application/json", b'{"data":[1,{"a":null}]}'),
    "a list": (["{{ input.text }}", 2], "application/json", b'["x=1",2]'),
    "a text": ("a={{ input.text }}", "text/plain; charset=utf-8", b"a=x=1"),
    "a number": (7, "application/json", b"7"),
    "one expression that gives a list": ("{{ input.data }}", "application/json", b'[1,{"a":null}]'),
    "one expression that gives a text": ("{{ input.text }}", "text/plain; charset=utf-8", b"x=1"),
    "an object with a type of its own": ({"type": "signup", "id": 1}, "application/json", b'{"type":"signup","id":1}'),
    "raw text that gives an object": (
        {"type": "raw", "content": "{{ {'a': 1} }}", "media": "application/x-own"},
        "application/x-own",
        b'{"a":1}',
    ),
    "an empty object": ({}, "application/json", b"{}"),
}


@pytest.mark.parametrize("name", PLAIN_BODIES)
async def test_a_body_without_a_type_is_json_or_text(peer: Peer, name: str) -> None:
    body, media, sent = PLAIN_BODIES[name]
    raw = {
        "nodes": [{"id": "n", "type": "http", "config": {"url": f"{peer.url}/echo", "method": "POST", "body": body}}]
    }
    assert validate(raw, TYPES).errors == []
    await output(SCOPE, url=f"{peer.url}/echo", method="POST", body=body)
    request = peer.seen[-1]
    assert (request.headers["content-type"], request.body) == (media, sent)


@pytest.mark.parametrize("body", [{"a": ["{{ missing.output }}"]}, ["{{ missing.output }}"], "{{ missing.output }}"])
async def test_the_templates_of_a_body_without_a_type_are_checked(body: Any) -> None:
    config = {"url": "http://a.example", "body": body}
    [problem] = validate({"nodes": [{"id": "n", "type": "http", "config": config}]}, TYPES).errors
    assert problem.code == "UNKNOWN_NAME"
    assert problem.field.startswith("nodes[0].config.body")
    secret = json.loads(json.dumps(config).replace("missing.output", "secrets.key"))
    assert bind_nodes(parse({"nodes": [{"id": "n", "type": "http", "config": secret}]}), TYPES)["n"].secrets == {"key"}


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
async def test_the_body_is_decoded_by_its_kind(peer: Peer, path: str, kind: str, body: Any) -> None:
    content = (await output(url=peer.url + path, response={"kind": kind}))["body"]
    assert (content["query"] if path.startswith("/echo") else content) == body


async def test_bytes_after_a_body_are_not_the_response_to_the_next_request(peer: Peer) -> None:
    assert (await output(url=f"{peer.url}/long"))["body"] == {}
    assert (await output(url=f"{peer.url}/text"))["body"] == "grüße"


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
        ({"url": "http://x", "body": {"type": "form"}}, "Field required"),
        ({"url": "http://x", "auth": {"type": "bearer"}}, "Field required"),
        ({"url": "http://x", "response": {"maxBytes": 10**9}}, "less than or equal"),
        ({"url": "http://x", "retry": {"maxAttempts": 0}}, "greater than or equal"),
        ({"url": "http://x", "pagination": {"by": "cursor"}}, "need a `path`"),
        ({"url": "http://x", "timeoutS": float("inf")}, "less than or equal"),
        ({"url": "http://x", "headerz": {}}, "Extra inputs"),
    ],
)
def test_an_invalid_config_is_found_before_the_run(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HttpConfig.model_validate(config)


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        ({"url": "{{ input.nope }}"}, "TEMPLATE", "nope"),
        ({"url": "{{ input.n }}"}, "CONFIG", "`url` must give an address, not a number"),
        ({"url": "{{ input.word }}"}, "CONFIG", "begins with http"),
        ({"url": "http://ann:pw@x/{{ input.word }}"}, "CONFIG", "set them in `auth`"),
        (
            {"url": "http://x", "query": {"a": {"b": 1}}},
            "CONFIG",
            "`query.a` must give text or a number, not an object",
        ),
        ({"url": "http://x", "headers": {"X": "{{ input.lines }}"}}, "CONFIG", "`headers.X` contains a line break"),
        ({"url": "http://x", "headers": {"a b": "c"}}, "CONFIG", "is no valid header name"),
        ({"url": "http://x", "headers": {"Host": "c"}}, "CONFIG", "is set by Treadle itself"),
        (
            {"url": "http://x", "auth": {"type": "bearer", "token": "{{ input.lines }}"}},
            "CONFIG",
            "`auth.token` contains",
        ),
        ({"url": "http://x", "body": {"type": "raw", "content": "?", "encoding": "base64"}}, "CONFIG", "is no base64"),
        ({"url": "http://x", "body": {"type": "form", "content": {"a": [{}]}}}, "CONFIG", "`body.content.a` must"),
    ],
)
async def test_rendered_values_are_checked_before_anything_is_sent(
    config: dict[str, Any], code: str, message: str
) -> None:
    failed = await failure(scope={"input": {"n": 1, "word": "hello", "lines": "a\r\nX-Injected: 1"}}, **config)
    assert (failed.code, message in failed.message) == (code, True), failed.message
