"""Content negotiation by RFC 9110, and what the server sends for each `Accept`."""

from typing import Any

import httpx
import pytest

from app.server.negotiation import (
    EVENT_STREAM,
    MULTIPART,
    PLAIN_JSON,
    RESPONSE_JSON,
    acceptable,
    accepts_encoding,
)

QUERY = {"query": "{ viewer { subject } }"}
SUBSCRIPTION = {"query": 'subscription { runEvents(runId: "run_x") { seq } }'}
URQL = (
    "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"
)
APOLLO = (
    'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/graphql-response+json,application/json;q=0.9'
)

CHOICES: list[tuple[str | None, str | None, str | None]] = [
    (None, PLAIN_JSON, None),
    ("", PLAIN_JSON, None),
    ("*/*", PLAIN_JSON, None),
    ("application/*", PLAIN_JSON, None),
    ("text/plain, */*;q=0.1", PLAIN_JSON, None),
    (PLAIN_JSON, PLAIN_JSON, None),
    (RESPONSE_JSON, RESPONSE_JSON, None),
    (f"{PLAIN_JSON}, {RESPONSE_JSON}", RESPONSE_JSON, None),
    (f"{RESPONSE_JSON}, */*", RESPONSE_JSON, None),
    (f"{PLAIN_JSON}, */*", PLAIN_JSON, None),
    (f"{RESPONSE_JSON};q=0.5, {PLAIN_JSON};q=0.9", PLAIN_JSON, None),
    (f"{RESPONSE_JSON};charset=utf-8, {PLAIN_JSON};charset=utf-8", RESPONSE_JSON, None),
    (f"{RESPONSE_JSON};q=0, */*", PLAIN_JSON, None),
    (f"{PLAIN_JSON};q=0, */*", RESPONSE_JSON, None),
    ("APPLICATION/JSON ; Q=0.3", PLAIN_JSON, None),
    (URQL, RESPONSE_JSON, EVENT_STREAM),
    (APOLLO, RESPONSE_JSON, MULTIPART),
    (EVENT_STREAM, None, EVENT_STREAM),
    (f"{EVENT_STREAM}, {PLAIN_JSON};q=0", None, EVENT_STREAM),
    (f"{EVENT_STREAM};q=0, {PLAIN_JSON}", PLAIN_JSON, None),
    (f"{PLAIN_JSON};q=0.1, {EVENT_STREAM}", PLAIN_JSON, EVENT_STREAM),
    (f"{EVENT_STREAM};q=0.5, multipart/mixed;subscriptionSpec=1.0", None, MULTIPART),
    ("multipart/mixed;deferSpec=20220824", None, None),
    ("text/html", None, None),
    ("*/*;q=0", None, None),
    ("application/json;q=two", None, None),
    ("application/json;q=-1", None, None),
    ("application/json;q=nan", None, None),
    (",;, ;q", None, None),
    ("," * 60_000, None, None),
]


@pytest.mark.parametrize(("accept", "json", "stream"), CHOICES, ids=lambda value: str(value)[:60])
def test_the_best_acceptable_types_are_selected(accept: str | None, json: str | None, stream: str | None) -> None:
    found = acceptable(accept)
    assert (found.json, found.stream) == (json, stream)


@pytest.mark.parametrize(
    ("header", "accepted"),
    [(None, False), ("", False), ("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("*", False)],
)
def test_a_coding_is_accepted_if_it_is_named(header: str | None, accepted: bool) -> None:
    assert accepts_encoding(header, "gzip") is accepted


SENT: list[tuple[str, dict[str, Any], str]] = [
    (URQL, QUERY, RESPONSE_JSON),
    (APOLLO, QUERY, RESPONSE_JSON),
    (f"{PLAIN_JSON};q=0.1, {EVENT_STREAM}", QUERY, PLAIN_JSON),
    (EVENT_STREAM, QUERY, EVENT_STREAM),
    (URQL, SUBSCRIPTION, EVENT_STREAM),
    (APOLLO, SUBSCRIPTION, MULTIPART),
]


@pytest.mark.parametrize(("accept", "operation", "media_type"), SENT)
async def test_the_response_has_the_selected_type(
    client: httpx.AsyncClient, accept: str, operation: dict[str, Any], media_type: str
) -> None:
    response = await client.post("/graphql", json=operation, headers={"Accept": accept})
    assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, media_type)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "Accept" in response.headers["vary"]


async def test_events_end_in_line_feeds_and_queries_have_one_result(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", json=QUERY, headers={"Accept": EVENT_STREAM})
    assert response.text == (
        ': connected\n\nevent: next\ndata: {"data":{"viewer":{"subject":"local"}}}\n\nevent: complete\ndata: \n\n'
    )
    assert "content-encoding" not in response.headers


async def test_a_multipart_subscription_is_in_the_protocol_of_apollo(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", json=SUBSCRIPTION, headers={"Accept": APOLLO})
    begin, *parts, end = response.text.split("--graphql")
    assert (begin, end) == ("\r\n", "--\r\n")
    assert all(part.startswith("\r\nContent-Type: application/json\r\n\r\n{") for part in parts)
    assert '{"payload":{"errors":[' in parts[-1]


async def test_a_response_type_that_does_not_exist_is_406(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", json=QUERY, headers={"Accept": "application/xml"})
    [error] = response.json()["errors"]
    assert (response.status_code, error["extensions"]["code"]) == (406, "VALIDATION")
    assert RESPONSE_JSON in error["message"]


@pytest.mark.parametrize("json_type", [PLAIN_JSON, RESPONSE_JSON])
@pytest.mark.parametrize(
    "operation",
    [
        {"query": "{"},
        {"query": "{ nothing }"},
        {"query": "query A { viewer { subject } } query B { viewer { subject } }"},
        {"query": "query($id: ID!) { run(id: $id) { id } }"},
        {"query": "query($id: ID!) { run(id: $id) { id } }", "variables": {"id": [1]}},
        {"query": "{ " + "a " * 20_000 + "}"},
    ],
    ids=lambda operation: str(operation)[:40],
)
async def test_an_operation_that_is_not_executed_has_no_data(
    client: httpx.AsyncClient, operation: dict[str, Any], json_type: str
) -> None:
    response = await client.post("/graphql", json=operation, headers={"Accept": json_type})
    assert response.status_code == (400 if json_type == RESPONSE_JSON else 200)
    assert list(response.json()) == ["errors"]


async def test_an_operation_that_fails_while_it_is_executed_has_data_and_200(client: httpx.AsyncClient) -> None:
    query = {"query": '{ templates { name } run(id: "run_nothing") { id } nodes(ids: ["x"]) { id } }'}
    response = await client.post("/graphql", json=query, headers={"Accept": RESPONSE_JSON})
    assert (response.status_code, "data" in response.json()) == (200, True)
