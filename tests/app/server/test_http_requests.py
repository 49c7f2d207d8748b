"""GraphQL over HTTP: methods, bodies, headers, and the codings of responses."""

import gzip
from typing import Any

import httpx
import pytest

QUERY = {"query": "{ viewer { subject } }"}
CATALOG = "{ nodeTypes { name description configSchema } }"
JSON = {"Content-Type": "application/json"}


def codes(response: httpx.Response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json()["errors"]]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
async def test_other_methods_are_405_with_allow(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/graphql", json=QUERY)
    assert (response.status_code, codes(response)) == (405, ["VALIDATION"])
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_options_and_head_are_answered(client: httpx.AsyncClient) -> None:
    options = await client.options("/graphql")
    head = await client.head("/graphql", params=QUERY)
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert (head.status_code, head.content) == (200, b"")


OTHER_TYPES = (
    *(None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
    *("application/jsonx", "application/json; charset=latin-1", "application/graphql"),
)


async def test_a_body_of_another_type_is_415(client: httpx.AsyncClient) -> None:
    for content_type in OTHER_TYPES:
        headers = {} if content_type is None else {"Content-Type": content_type}
        response = await client.post("/graphql", content=b'{"query": "{ viewer { subject } }"}', headers=headers)
        assert (response.status_code, codes(response)) == (415, ["VALIDATION"])
        assert "application/json" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    "content_type", ["application/json", 'Application/JSON; charset="UTF-8"', "application/json;x=y"]
)
async def test_a_body_of_json_is_read(client: httpx.AsyncClient, content_type: str) -> None:
    content = b'{"query": "{ viewer { subject } }"}'
    response = await client.post("/graphql", content=content, headers={"Content-Type": content_type})
    assert response.status_code == 200


WRONG_MEMBERS: list[dict[str, Any]] = [
    {name: value}
    for name, values in {
        "query": (5, [], {}, True, None, ""),
        "operationName": (5, [], {}, True),
        "variables": (5, [], "x", True),
        "extensions": (5, [], "x", False),
    }.items()
    for value in values
]


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
async def test_a_member_of_the_wrong_type_is_400(client: httpx.AsyncClient, accept: str) -> None:
    for members in WRONG_MEMBERS:
        response = await client.post("/graphql", json={**QUERY, **members}, headers={"Accept": accept})
        assert (response.status_code, codes(response)) == (400, ["VALIDATION"]), members
        assert response.headers["content-type"].startswith(accept)


@pytest.mark.parametrize("path", ["/nothing", "/graphql/x", "/assets/nothing.js", "/%00", "/health/x"])
async def test_an_unknown_path_is_404_in_the_shape_of_graphql(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, codes(response)) == (404, ["NOT_FOUND"])
    assert "/graphql" in response.json()["errors"][0]["message"]


async def test_a_wrong_method_of_another_path_is_405_in_the_shape_of_graphql(client: httpx.AsyncClient) -> None:
    response = await client.post("/health")
    assert (response.status_code, codes(response), response.headers["allow"]) == (405, ["VALIDATION"], "GET, HEAD")


async def test_large_json_is_compressed_if_the_client_accepts_it(client: httpx.AsyncClient) -> None:
    plain = await client.post("/graphql", json={"query": CATALOG}, headers={"Accept-Encoding": "identity"})
    packed = await client.post("/graphql", json={"query": CATALOG}, headers={"Accept-Encoding": "gzip"})
    small = await client.post("/graphql", json=QUERY, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 3
    assert packed.json() == plain.json()
    assert "content-encoding" not in plain.headers and "content-encoding" not in small.headers
    assert packed.headers["vary"].startswith("Accept, Accept-Encoding")


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_catalog_by_get_is_sent_again_only_after_a_change(client: httpx.AsyncClient, encoding: str) -> None:
    first = await client.get("/graphql", params={"query": CATALOG}, headers={"Accept-Encoding": encoding})
    etag = first.headers["etag"]
    again = await client.get("/graphql", params={"query": CATALOG}, headers={"If-None-Match": etag})
    other = await client.get("/graphql", params=QUERY, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (other.status_code, other.headers["etag"] == etag) == (200, False)
    assert first.headers["cache-control"] == "private, no-cache"


async def test_errors_and_posts_have_no_etag(client: httpx.AsyncClient) -> None:
    responses = [
        await client.post("/graphql", json=QUERY),
        await client.get("/graphql", params={"query": "{ nothing }"}),
        await client.get(
            "/graphql", params={"query": 'mutation { cancelRun(input: {runId: "x"}) { errors { code } } }'}
        ),
    ]
    assert [response.headers.get("etag") for response in responses] == [None] * 3
    assert [response.headers["cache-control"] for response in responses] == ["no-store"] * 3


async def test_a_compressed_body_is_the_plain_body(client: httpx.AsyncClient) -> None:
    async with client.stream(
        "POST", "/graphql", json={"query": CATALOG}, headers={"Accept-Encoding": "gzip"}
    ) as stream:
        raw = b"".join([chunk async for chunk in stream.aiter_raw()])
    assert gzip.decompress(raw).startswith(b'{"data":{"nodeTypes":[')
