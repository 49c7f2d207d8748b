"""Bad input over HTTP: every request is refused with a code and changes nothing, none is a fault.

Bad tokens are in `../sign_in/test_tokens.py`, bad messages of sockets in `../test_websockets.py`.
"""

import base64
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from persistence.db.ids import Prefix, new_id
from tests.schema.access.test_fuzz import LEAKS

VIEWER = "{ viewer { subject } }"
CREATE = 'mutation { createWorkflow(input: {name: "let in"}) { errors { code } } }'
JSON = {"Content-Type": "application/json"}


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def posted(content: bytes | str, **headers: str) -> dict[str, Any]:
    return {"method": "POST", "url": "/graphql", "content": content, "headers": {**JSON, **headers}}


def operation(query: str, **variables: Any) -> dict[str, Any]:
    return posted(json.dumps({"query": query, "variables": variables}))


def body(**members: Any) -> bytes:
    return json.dumps({"query": CREATE, **members}).encode()


async def endless() -> AsyncIterator[bytes]:
    for _ in range(160):
        yield b" " * 65536


REQUESTS: dict[str, tuple[dict[str, Any], int]] = {
    # Malformed JSON
    "cut off": (posted(body()[:-1]), 400),
    "two documents": (posted(body() * 2), 400),
    "single quotes": (posted(body().replace(b'"', b"'")), 400),
    "a comment": (posted(b"/* */" + body()), 400),
    "a comma at the end": (posted(body()[:-1] + b",}"), 400),
    "NaN": (posted(body()[:-1] + b', "variables": {"x": NaN}}'), 400),
    "a query twice": (posted(body()[:-1] + b', "query": 5}'), 400),
    # Wrong content types
    "no type": ({"method": "POST", "url": "/graphql", "content": body()}, 415),
    "a form": ({"method": "POST", "url": "/graphql", "data": {"query": CREATE}}, 415),
    "an upload": ({"method": "POST", "url": "/graphql", "files": {"operations": body(), "map": b"{}"}}, 415),
    "a text": (posted(body(), **{"Content-Type": "text/plain"}), 415),
    "a GraphQL document": (posted(CREATE, **{"Content-Type": "application/graphql"}), 415),
    "another charset": (posted(body(), **{"Content-Type": "application/json; charset=utf-7"}), 415),
    "a compressed body": (posted(gzip.compress(body()), **{"Content-Encoding": "gzip"}), 415),
    "a body that only seems compressed": (posted(body(), **{"Content-Encoding": "gzip"}), 415),
    # Batches
    "a batch": (posted(b"[" + body() + b"," + body() + b"]"), 400),
    "an empty batch": (posted(b"[]"), 400),
    "a batch in a batch": (posted(b"[[" + body() + b"]]"), 400),
    # Sizes
    "10 MB of query": (operation(CREATE + " " * 10_000_000), 413),
    "10 MB of variables": (operation(CREATE, x="a" * 10_000_000), 413),
    "10 MB without a length": ({**posted(b""), "content": endless()}, 413),
    # Encodings
    "invalid UTF-8": (posted(body().replace(b"let in", b"\xff\xfe")), 400),
    "cut UTF-8": (posted(body().replace(b"let in", b"\xc3")), 400),
    "long form of UTF-8": (posted(body().replace(b"let in", b"\xc0\xaf")), 400),
    "Latin-1": (posted(body().replace(b"let in", b"\xfc")), 400),
    "invalid UTF-8 by GET": ({"method": "GET", "url": "/graphql?query=%ff%fe"}, 200),
    "a NUL in the body": (posted(body().replace(b"let in", b"\0")), 400),
    "variables by GET that are no JSON": ({"method": "GET", "url": "/graphql?query={__typename}&variables={"}, 400),
    "a mutation by GET": ({"method": "GET", "url": "/graphql", "params": {"query": CREATE}}, 405),
}  # fmt: skip
"""Requests that carry no operation, and the status of each."""

RUNS = "query($v: %s) { runs(%s) { nodes { id } } }"
CURSORS = ("", "?", "=" * 9, "\0", "ü", cursor(""), cursor("\0"), cursor("1"), cursor("run_1"), cursor(new_id(Prefix.WORKFLOW)),
           cursor("9999-12-31T23:59:59Z/run_1"), cursor(f"{new_id(Prefix.RUN)}' OR '1'='1"), "A" * 100_000)  # fmt: skip
LISTS = ("runs", "workflows", "projects", "triggers", "auditLog")
NUMBERS = ("1", 1.5, True, -1, 10**9, 2**31, 10**30, [], {}, [1, 2])
WRONG_TYPES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "ID": ("query($v: ID!) { run(id: $v) { id } }", (None, True, 1.5, [], {}, ["a", "b"], "")),
    "Int": (RUNS % ("Int", "first: $v"), NUMBERS),
    "String": ("query($v: String) { workflows(search: $v) { nodes { id } } }", (1, 1.5, True, [], {}, ["a"])),
    "Float": (RUNS % ("Float", "filter: {durationMsMin: $v}"), ("1", True, [], {}, "Infinity")),
    "Boolean": ("query($v: Boolean!) { viewer @include(if: $v) { subject } }", (None, "true", 1, 0, [], {})),
    "enum": (RUNS % ("[RunStatus!]", "filter: {status: $v}"), ("NO", "failed", 1, True, {}, [None], [["FAILED"]])),
    "input object": (RUNS % ("RunFilter", "filter: $v"), ("x", 1, True, [{}, {}], {"no": 1}, {"status": {}})),
    "DateTime": (
        RUNS % ("DateTime", "filter: {createdAfter: $v}"),
        ("", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", 5, True, [], {}, "\0"),
    ),
    "list": ("query($v: [ID!]!) { nodes(ids: $v) { id } }", (None, 1.5, {}, [None], [[]], [{}], [True])),
    "JSON": ("query($v: JSON!) { validateSpec(spec: $v) { ok } }", (None,)),
}
OPERATIONS: dict[str, tuple[str, Any]] = {
    "10,000 aliases": ("{" + "".join(f"a{n}: viewer {{ subject }} " for n in range(10_000)) + "}", None),
    "10,000 aliases of a mutation": (
        "mutation {" + "".join(f"a{n}: {CREATE[11:-2]} " for n in range(10_000)) + "}",
        None,
    ),
    "a circular fragment": ("{ ...A } fragment A on Query { ...A }", None),
    "circular fragments": ("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }", None),
    "a circular fragment that is not used": ("{ viewer { subject } } fragment A on Query { ...A }", None),
    "a NUL in the text": ('{ workflow(id: "\0") { id } }', None),
    "an escaped NUL": (CREATE.replace("let in", "\\u0000"), None),
    "half a character": (CREATE.replace("let in", "\\ud800"), None),
    "half a character as value": (RUNS % ("String", "filter: {search: $v}"), "\ud800"),
    **{
        f"10⁹ in `{word}` of {name}": (f"{{ {name}({word}: 1000000000) {{ nodes {{ id }} }} }}", None)
        for name in LISTS
        for word in ("first", "last")
    },
    **{f"{value!r} for {kind}": (query, value) for kind, (query, values) in WRONG_TYPES.items() for value in values},
}
"""Operations that are refused, and the value of their variable `v`."""


def check(name: str, response: httpx.Response, statuses: tuple[int, ...]) -> None:
    """Check that a request was refused as the documents say, without a term of Python."""
    assert response.status_code in statuses, (name, response.status_code, response.text[:200])
    result = response.json()
    assert not any((result.get("data") or {}).values()), (name, result)
    for error in result["errors"]:
        assert error["extensions"]["code"] in ("VALIDATION", "LIMIT"), (name, error)
        assert not [leak for leak in LEAKS if leak in error["message"]], (name, error)


async def nothing_was_created(client: httpx.AsyncClient) -> bool:
    response = await client.post("/graphql", json={"query": "{ workflows { nodes { id } } }"})
    return bool(response.json() == {"data": {"workflows": {"nodes": []}}})


async def test_a_request_without_a_readable_operation_is_refused(client: httpx.AsyncClient) -> None:
    for name, (request, status) in REQUESTS.items():
        check(name, await client.request(**request), (status,))
    assert await nothing_was_created(client)


async def test_an_operation_with_a_bad_value_is_refused(client: httpx.AsyncClient) -> None:
    for name, (query, value) in OPERATIONS.items():
        check(name, await client.request(**operation(query, v=value)), (200, 400))
    assert await nothing_was_created(client)


async def test_a_forged_cursor_is_refused_or_leads_to_nothing(client: httpx.AsyncClient) -> None:
    """A text with the form of a cursor of the list is one: the page after an id that nothing has."""
    for name, word in (("runs", "after"), ("workflows", "before")):
        query = f"query($v: String) {{ {name}({word}: $v) {{ nodes {{ id }} }} }}"
        for text in CURSORS:
            response = await client.request(**operation(query, v=text))
            if response.json() != {"data": {name: {"nodes": []}}}:
                check(f"{text[:30]!r} in `{word}` of {name}", response, (200, 400))


async def test_a_long_address_or_header_is_no_fault(client: httpx.AsyncClient) -> None:
    responses = [
        await client.get("/graphql", params={"query": VIEWER + " " * 60_000}),
        await client.get("/graphql", headers={"X-Long": "a" * 100_000}),
    ]
    assert [response.status_code for response in responses] == [200, 431]


async def test_a_body_in_another_encoding_is_refused_with_the_place(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", content=b'{"query": "\xff"}', headers={"content-type": "application/json"})
    assert response.json()["errors"][0]["message"] == "The request body is not valid JSON: its byte 11 is not UTF-8."
