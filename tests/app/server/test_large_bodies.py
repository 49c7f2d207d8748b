"""Large bodies and messages: parsed in turn off the event loop, and limited per address."""

import asyncio
import json
from collections.abc import Callable
from time import perf_counter

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.server import body_limit
from app.server.body_limit import MOST, LargeBodies, TooManyLargeBodies, decoded_in_turn
from app.server.operations import decode_json
from persistence.problems import Limit
from tests.app_server import TRANSPORT
from tests.hostile.loop_lag import longest_block

MAX_CONTAINERS = MOST["lists and objects"][1]
QUERY = 'query ($c: JSON!) { evaluateExpression(expression: "x | length", context: $c) { value } }'
BRACES = "{" * 10 + '"' + "\\"


def operation(values: list[object]) -> dict[str, object]:
    return {"query": QUERY, "variables": {"c": {"x": values}}}


@pytest.mark.parametrize(
    ("text", "excess"),
    [
        ('{"a": [1, {"b": []}]}', None),
        (json.dumps([BRACES] * MAX_CONTAINERS), None),
        (json.dumps([BRACES, "\\", '\\"', []] * (MAX_CONTAINERS // 8)), None),
        ('["' + "\\" * 32_766 + '", {}, "' + "\\" * 33_000 + "[{" * MAX_CONTAINERS + '"]', None),
        ("[" + ",".join(["[]"] * MAX_CONTAINERS) + "]", "200,001 lists and objects"),
        (json.dumps({"a": ":" * 300_000, "b": "," * 1_100_000}), None),
        (json.dumps(dict.fromkeys(map(str, range(250_001)))), "250,001 members of objects"),
        ("[" + ",".join(["1"] * 1_000_002) + "]", "1,000,001 values"),
    ],
    ids=[
        "few",
        "in texts",
        "between escapes",
        "escapes at the ends of pieces",
        "lists",
        "other characters in texts",
        "members",
        "values",
    ],
)
@pytest.mark.parametrize("encode", [str, str.encode])
async def test_too_many_values_outside_of_texts_are_refused(
    text: str, excess: str | None, encode: Callable[[str], str | bytes]
) -> None:
    if excess is None:
        assert await decoded_in_turn(decode_json, encode(text), "somebody") == json.loads(text)
        return
    with pytest.raises(Limit, match=excess):
        await decoded_in_turn(decode_json, encode(text), "somebody")


async def test_a_text_with_too_many_lists_is_refused_and_any_other_is_parsed() -> None:
    with pytest.raises(Limit, match="200,001 lists and objects"):
        await decoded_in_turn(decode_json, "[" + ",".join(["[]"] * MAX_CONTAINERS) + "]", "somebody")
    assert await decoded_in_turn(decode_json, "[1.5]", "somebody") == [1.5]
    with pytest.raises(json.JSONDecodeError):
        await decoded_in_turn(decode_json, "[1.5", "somebody")


async def test_the_event_loop_goes_on_while_large_texts_are_parsed() -> None:
    text, started_at = "[" + ",".join(["1.5"] * 900_000) + "]", perf_counter()
    for _ in range(4):
        decode_json(text)
    together_s = perf_counter() - started_at
    parsed, blocked_s = await longest_block(
        asyncio.gather(*(decoded_in_turn(decode_json, text, str(number)) for number in range(4)))
    )
    assert [len(values) for values in parsed if isinstance(values, list)] == [900_000] * 4
    assert blocked_s < max(0.25, together_s)  # One of them takes less than 0.1 s on an idle machine.


def test_the_bytes_in_progress_are_limited_by_address_and_in_total() -> None:
    bodies, most = LargeBodies(), body_limit.PER_ADDRESS
    with bodies.hold("a", most), bodies.hold("b", most):
        with pytest.raises(TooManyLargeBodies, match="32 MiB of your address"), bodies.hold("a", 1):
            pass
        with bodies.hold("c", most), bodies.hold("d", most), pytest.raises(TooManyLargeBodies):
            bodies.hold("e", 1).__enter__()
    with bodies.hold("a", most):
        pass
    assert not bodies._bytes


async def test_a_large_operation_over_http_is_executed(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", json=operation([0.5] * 300_000))
    assert response.json() == {"data": {"evaluateExpression": {"value": 300_000}}}
    response = await client.post("/graphql", json=operation([[]] * MAX_CONTAINERS))
    assert response.status_code == 413
    assert response.json()["errors"][0]["extensions"]["code"] == "LIMIT"
    assert not body_limit.large_bodies._bytes


@pytest.fixture
def small_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "PER_ADDRESS", 1_000_000)


async def test_more_bytes_than_the_share_of_an_address_are_refused(
    client: httpx.AsyncClient, small_share: None
) -> None:
    response = await client.post("/graphql", json=operation(["x" * 1_100_000]))
    assert response.status_code == 429
    assert (await client.post("/graphql", json=operation(["x" * 900_000]))).status_code == 200


async def result_on_socket(address: str, values: list[object]) -> object:
    """Send an operation by a WebSocket, and return the payload of its answer or the close code."""
    async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) as socket:
        await socket.send('{"type": "connection_init"}')
        await socket.recv()
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": operation(values)}))
        try:
            return json.loads(await socket.recv())["payload"]
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code


async def test_a_large_operation_over_a_socket_is_executed(address: str) -> None:
    result = {"data": {"evaluateExpression": {"value": 300_000}}}
    assert await result_on_socket(address, [0.5] * 300_000) == result
    assert await result_on_socket(address, [[]] * MAX_CONTAINERS) == 1009
    assert not body_limit.large_bodies._bytes


async def test_the_share_of_an_address_holds_for_sockets(address: str, small_share: None) -> None:
    [error] = await result_on_socket(address, ["x" * 1_100_000])  # type: ignore[misc]
    assert error["extensions"]["code"] == "LIMIT"
