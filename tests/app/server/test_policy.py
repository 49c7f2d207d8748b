"""Rates, times and numbers of operations, and the switches for introspection and GraphiQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from graphql import get_introspection_query
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from app.server.rate_limits import RateLimits, TooManyRequests
from app.settings import Settings
from persistence.caller import Caller
from tests.app_server import TRANSPORT, serving

VIEWER = {"query": "{ viewer { subject } }"}
INTROSPECTIONS = (
    get_introspection_query(),
    '{ __type(name: "Run") { name } }',
    "{ ...F } fragment F on Query { __schema { __typename } }",
)
PAGE = {"query": "{ runs(first: 100) { nodes { id } } }"}


@asynccontextmanager
async def client_of(database_url: str, redis_url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    one = Settings(database_url=database_url, redis_url=redis_url, **settings)
    async with (
        serving(one) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as client,
    ):
        yield client


@pytest.mark.parametrize("setting", ["rate_per_caller", "rate_per_address"])
async def test_an_operation_above_the_rate_is_429_and_says_when_to_try_again(
    database_url: str, redis_url: str, setting: str
) -> None:
    async with client_of(database_url, redis_url, **{setting: 60}) as client:
        assert (await client.post("/graphql", json=PAGE)).status_code == 200
        for headers in ({}, {"Accept": "application/graphql-response+json"}):
            refused = await client.post("/graphql", json=VIEWER, headers=headers)
            assert refused.status_code == 429
            # 101 points: 60 were there, so 41 and one more have to come back, at one a second.
            assert 35 <= int(refused.headers["Retry-After"]) <= 43
            [error] = refused.json()["errors"]
            assert error["extensions"]["code"] == "LIMIT" and "data" not in refused.json()
            assert error["extensions"]["retryAfterS"] == int(refused.headers["Retry-After"])
        # A proxy on this host names another client: the rate of the address does not count for it.
        other = await client.post("/graphql", json=VIEWER, headers={"x-forwarded-for": "192.0.2.9"})
        assert other.status_code == (429 if setting == "rate_per_caller" else 200)


async def test_a_bucket_fills_by_itself_and_is_never_deeper_than_a_minute(redis: Redis) -> None:
    limits = RateLimits(redis, "test", 6_000, None)
    caller = Caller("someone", {})
    await limits.take(caller, 1_000_000)
    with pytest.raises(TooManyRequests) as refused:
        await limits.take(caller, 1)
    assert 55 <= refused.value.retry_after_s <= 61
    await limits.take(Caller("another", {}), 1)
    await limits.take(Caller("third", {}), 6_000)
    async with asyncio.timeout(10):
        while True:  # One point comes back in 10 ms, without a signal.
            try:
                await limits.take(Caller("third", {}), 1)
                break
            except TooManyRequests as wait:
                assert wait.retry_after_s == 1
                await asyncio.sleep(0.005)


async def test_without_redis_nothing_is_refused_and_the_log_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    redis = Redis(host="127.0.0.1", port=1)
    limits = RateLimits(redis, "test", 60, 60)
    for _ in range(3):
        await limits.take(Caller("someone", {}), 100)
    await redis.aclose()
    output = capsys.readouterr()
    assert (output.out + output.err).count("rate_limits.redis.away") == 1


async def test_a_caller_has_a_limited_number_of_subscriptions(database_url: str, redis_url: str) -> None:
    async with (
        client_of(database_url, redis_url, subscriptions_per_caller=2) as client,
        connect(f"ws://{client.base_url.netloc.decode()}/graphql", subprotocols=[TRANSPORT]) as socket,
    ):
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.recv()
        for number in range(3):
            payload = {"query": "subscription { runs { id } }"}
            await socket.send(json.dumps({"type": "subscribe", "id": str(number), "payload": payload}))
        refused = json.loads(await socket.recv())
        assert (refused["id"], refused["type"]) == ("2", "error")
        assert "TREADLE_SUBSCRIPTIONS_PER_CALLER" in refused["payload"][0]["message"]
        await socket.send(json.dumps({"type": "complete", "id": "0"}))
        async with asyncio.timeout(20):
            while True:  # The server sends no signal when the first one has ended.
                await socket.send(json.dumps({"type": "subscribe", "id": "3", "payload": payload}))
                await socket.send(json.dumps({"type": "ping"}))
                if json.loads(await socket.recv())["type"] == "pong":
                    break
                await socket.recv()


async def test_a_query_ends_after_its_time(database_url: str, redis_url: str) -> None:
    async with client_of(database_url, redis_url, operation_s=0.000_1) as client:
        answer = await client.post("/graphql", json=PAGE, headers={"Accept": "application/graphql-response+json"})
        body = answer.json()
        assert (answer.status_code, body["data"]) == (200, None)
        assert (
            body["errors"][0]["extensions"]["code"] == "LIMIT" and "TREADLE_OPERATION_S" in body["errors"][0]["message"]
        )
        assert (await client.post("/graphql", json={"query": "{ __typename }"})).json() == {
            "data": {"__typename": "Query"}
        }


async def test_introspection_and_the_pages_can_be_switched_off(database_url: str, redis_url: str) -> None:
    async with client_of(database_url, redis_url, introspection=False, graphiql=False, studio=False) as client:
        for query in INTROSPECTIONS:
            [error] = (await client.post("/graphql", json={"query": query})).json()["errors"]
            assert error["extensions"]["code"] == "FORBIDDEN" and "TREADLE_INTROSPECTION" in error["message"]
        typename = {"query": '{ __typename viewer { __typename } workflows(search: "__schema") { nodes { id } } }'}
        assert "errors" not in (await client.post("/graphql", json=typename)).json()
        page = await client.get("/graphql", headers={"Accept": "text/html"})
        assert page.status_code == 406 and "errors" in page.json()
        assert (await client.get("/")).status_code == 404


async def test_the_cost_is_returned_on_request(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/graphql", json={**PAGE, "extensions": {"cost": True}})).json()
    cost = answer["extensions"]["cost"]
    assert cost == {
        "points": 101,
        "maxPoints": 20_000,
        "objects": 1,
        "maxObjects": 10_000,
        "bytes": 0,
        "maxBytes": 16 * 1024 * 1024,
    }
    assert "extensions" not in (await client.post("/graphql", json=PAGE)).json()
