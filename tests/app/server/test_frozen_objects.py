"""Full collections of a server stay short, and cycles of frozen objects are freed."""

import asyncio
import gc
import json
import weakref
from collections import Counter
from collections.abc import Iterator
from functools import partial

import httpx
import pytest
from websockets.asyncio.client import connect

from app.server.http_server import TimedHttpProtocol, WebSocketProtocol
from app.server.websockets import Handler
from resolvers.context import Context
from schema.execution.executor import BudgetedExecutor
from tests.app_server import TRANSPORT
from tests.executor_worker import eventually
from worker import gc_tuning
from worker.gc_tuning import FrozenObjects, frozen_objects


class Link:
    """An object of a cycle."""

    other: "Link"


@pytest.fixture
def frozen() -> Iterator[FrozenObjects]:
    with frozen_objects() as frozen:
        yield frozen


def cycle() -> "weakref.ref[Link]":
    """Make a cycle that survives a full collection, and leave it. Returns a reference to it."""
    link, other = Link(), Link()
    link.other, other.other = other, link
    gc.collect()
    return weakref.ref(link)


def test_a_full_collection_visits_no_survivors_of_an_earlier_one(frozen: FrozenObjects) -> None:
    before = gc.get_freeze_count()
    links = [Link() for _ in range(1000)]
    gc.collect()
    assert gc.get_freeze_count() >= before + 1000
    assert sum(type(one) is Link for one in gc.get_objects(generation=2)) == 0
    assert links


def test_full_collections_follow_each_other_after_few_objects(frozen: FrozenObjects) -> None:
    before, links = gc.get_freeze_count(), [Link() for _ in range(60_000)]
    assert gc.get_freeze_count() - before >= 10_000, "a full collection would visit all of them at once"
    assert len(links) == 60_000


@pytest.mark.parametrize(("is_idle", "growth", "most", "is_freed"), [
    (True, -(10**9), 10**9, True),
    (False, -(10**9), 10**9, False),
    (False, -(10**9), -(10**9), True),
    (True, 10**9, 10**9, False),
])  # fmt: skip
def test_many_frozen_objects_are_released_when_nobody_is_connected_or_before_they_fill_the_memory(
    frozen: FrozenObjects,
    monkeypatch: pytest.MonkeyPatch,
    is_idle: bool,
    growth: int,
    most: int,
    is_freed: bool,
) -> None:
    link = cycle()
    gc.collect()
    assert link() is not None  # It is garbage, and frozen.
    monkeypatch.setattr(gc_tuning, "MAX_GROWTH", growth)
    monkeypatch.setattr(gc_tuning, "MOST_GROWTH", most)
    assert frozen.release(is_idle) is is_freed
    assert (link() is None) is is_freed


async def test_a_second_collection_lets_the_next_full_one_come_early(frozen: FrozenObjects) -> None:
    gc.disable()
    before = gc.get_stats()[2]["collections"]
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)
    assert gc.get_stats()[2]["collections"] == before + 2
    gc.enable()


async def test_servers_of_one_process_do_not_make_each_other_collect_again(frozen: FrozenObjects) -> None:
    gc.disable()
    before = gc.get_stats()[2]["collections"]
    with frozen_objects():
        started = gc.get_stats()[2]["collections"]
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)
    # Each of the two adds one. The start of the second server has two, each of which the first one follows.
    assert gc.get_stats()[2]["collections"] - before <= (started - before) + 5
    gc.enable()


def test_after_the_end_nothing_is_frozen() -> None:
    with frozen_objects():
        link = cycle()
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert link() is None
    assert gc.get_freeze_count() == 0


TYPES = (BudgetedExecutor, Context, TimedHttpProtocol, WebSocketProtocol, Handler)
"""What a connection or an operation uses, and refers to everything else that it uses."""


def alive() -> Counter[str]:
    """Count the objects of TYPES that exist."""
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in TYPES)


async def nothing_more_than(before: Counter[str]) -> bool:
    return not alive() - before


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def test_a_closed_socket_is_freed_without_a_collection(address: str, no_collection: None) -> None:
    before = alive()
    for _ in range(3):
        async with connect(f"ws://{address}/graphql", subprotocols=[TRANSPORT]) as socket:
            await socket.send('{"type": "connection_init"}')
            await socket.recv()
            for id, query in (("1", "subscription { runs { id } }"), ("2", "{ viewer { subject } }")):
                await socket.send(json.dumps({"id": id, "type": "subscribe", "payload": {"query": query}}))
            assert json.loads(await socket.recv())["id"] == "2"
            assert alive() - before
    await eventually(partial(nothing_more_than, before))


async def test_a_request_is_freed_without_a_collection(client: httpx.AsyncClient, no_collection: None) -> None:
    await client.post("/graphql", json={"query": "{ viewer { subject } }"})
    before = alive()
    for number in range(5):
        query = f"query Q{number} {{ viewer {{ subject }} runs {{ nodes {{ id }} }} workflows {{ nodes {{ id }} }} }}"
        assert "errors" not in (await client.post("/graphql", json={"query": query})).json()
    await eventually(partial(nothing_more_than, before))
