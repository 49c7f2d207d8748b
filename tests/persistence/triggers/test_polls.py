"""Triggers that poll: each item fires once, whatever the source, the workers and the limits do."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from engine.triggers.feed import feed_entries
from engine.types import JSON
from tests.persistence.triggers.polled_source import PolledSource
from tests.persistence.triggers.stored_triggers import NOON, events_of

RSS = b"""<?xml version="1.0" encoding="iso-8859-1"?><rss version="2.0"><channel><title>T</title>
<item><title>Caf\xe9 &amp; two</title><link>https://e.com/2</link><guid>g2</guid>
<pubDate>Tue, 01 Jan 2030 11:00:00 +0100</pubDate><category>a</category><category>b</category></item>
<item><title>one</title><link>https://e.com/1</link><guid>g1</guid></item></channel></rss>"""
ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>a1</id><title>One</title>
<link rel="self" href="https://e.com/self"/><link href="https://e.com/a1"/><updated>2030-01-01T10:00:00Z</updated>
<author><name>Ann</name></author><category term="x"/></entry></feed>"""
BOMB = (
    b'<!DOCTYPE z [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]><rss><item><title>&j;</title></item></rss>"
)


def numbered(*numbers: int) -> bytes:
    return orjson.dumps([{"id": n, "text": f"item {n}"} for n in numbers])


async def test_each_new_item_fires_once_oldest_first(source: PolledSource) -> None:
    await source.create(bearer="token")
    assert await source.poll(document=numbered(1, 2)) == ["FIRED item:1", "FIRED item:2"]
    assert await source.poll() == []
    assert await source.poll(document=numbered(2, 3, 1, 3)) == ["FIRED item:3"]
    for _ in range(3):  # It repeats one page for ever.
        assert await source.poll() == []
    assert (await source.payloads())[2]["item"] == {"id": 3, "text": "item 3"}
    requests = source.peer.seen
    assert [request.headers.get("if-none-match") is None for request in requests] == [True] + [False] * 5
    assert {request.headers["authorization"] for request in requests} == {"Bearer the token of the source"}
    assert (await source.row())["next_fire_at"] == source.now + timedelta(seconds=60)


async def test_the_first_poll_may_be_silent_and_a_batch_is_one_run(source: PolledSource) -> None:
    await source.create(firstPoll="silent", runPer="batch")
    assert await source.poll(document=numbered(1, 2)) == []
    [fired] = await source.poll(document=numbered(1, 2, 3, 4))
    assert fired.startswith("FIRED batch:")
    [payload] = await source.payloads()
    assert (payload["keys"], payload["polledAt"]) == (["3", "4"], "2030-01-01T12:01:00Z")


async def test_more_items_than_the_limit_fire_by_later_polls(source: PolledSource) -> None:
    await source.create(maxItems=2, items="body.data", key="{{ item.n }}", cursor="{{ items[-1].n }}")
    url = source.peer.url + "/list?since={{ cursor or 0 }}"
    await source.database.pool.execute(
        "UPDATE triggers SET config = (config::jsonb || jsonb_build_object('url', $1::text))::json", url
    )
    document = orjson.dumps({"data": [{"n": n} for n in range(1, 6)]})
    assert [await source.poll(document=document) for _ in range(4)] == [
        ["FIRED item:1", "FIRED item:2"],
        ["FIRED item:3", "FIRED item:4"],
        ["FIRED item:5"],
        [],
    ]
    assert [request.one("since") for request in source.peer.seen] == ["0", "0", "0", "5"]


@pytest.mark.parametrize(
    ("media", "document", "first"),
    [
        ("application/rss+xml", RSS, {"id": "g1", "title": "one", "link": "https://e.com/1"}),
        ("text/plain", ATOM, {"id": "a1", "author": "Ann", "link": "https://e.com/a1", "categories": ["x"]}),
    ],
)
async def test_feeds(source: PolledSource, media: str, document: bytes, first: dict[str, JSON]) -> None:
    source.peer.media = media
    await source.create()
    await source.poll(document=document)
    items = [payload["item"] for payload in await source.payloads()]
    assert first.items() <= items[0].items()
    if document is RSS:
        assert items[1]["title"] == "Café & two" and items[1]["published"] == "2030-01-01T10:00:00Z"
        assert items[1]["categories"] == ["a", "b"]


def test_a_hostile_document_is_no_feed() -> None:
    for document in (
        BOMB,
        b"",
        b"<html></html>",
        b"<rss>",
        b"\xff\xfe",
        b'<?xml version="1.0" encoding="none"?><rss/>',
    ):
        assert isinstance(feed_entries(document.decode("latin-1")), str)


CHANGED: dict[bytes, str] = {
    b'{"error": "gone"}': "the source has changed: the response gives an object instead of a list",
    b"<p>login</p>": "the source returned no feed: the document is neither RSS nor Atom",
    b"nothing": "the source has changed: its response is no JSON",
    b"[1, null]": "",
    numbered(*range(1001)): "the source returned 1,001 items, over the limit of 1,000",
    b'["' + b"a" * 2000 + b'"]': "",
}
"""Documents of a source that has changed its shape, and the error; empty if they are a list still."""


async def test_a_source_that_changes_its_shape_fails_and_continues_where_it_was(source: PolledSource) -> None:
    source.peer.media = "text/plain"
    await source.create()
    await source.poll(document=numbered(1))
    due = source.worker(max_failures=100)
    for document, error in CHANGED.items():
        found = await source.poll(due, document)
        row = await source.row()
        assert (error in (row["last_error"] or "")) if error else row["last_error"] is None, document[:20]
        assert [one.split(" ")[0] for one in found] == (
            ["FAILED"] if error else ["FIRED"] * len(orjson.loads(document))
        )
    assert await source.poll(due, numbered(1, 2)) == ["FIRED item:2"]


async def test_failures_back_off_and_disable_the_trigger(source: PolledSource) -> None:
    await source.create(url=source.peer.url + "/status?code=503")
    for failures, pause in ((1, 1), (2, 2)):
        assert len(await source.poll()) == 1
        row = await source.row()
        assert (row["failures"], row["last_error"]) == (failures, "the source answered 503 instead of a list")
        assert row["next_fire_at"] == source.now + timedelta(seconds=pause)
    await source.poll()
    row = await source.row()
    assert (row["enabled"], row["failures"], row["next_fire_at"]) == (False, 3, None)
    assert [status for _, status, _ in await events_of(source.database, source.id)] == ["FAILED"] * 3


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://10.0.0.1/", "10.0.0.1 is not on the public internet"),
        ("PEER/to?url=http://10.0.0.1/", "10.0.0.1 is not on the public internet"),
        ("PEER/closed", "the connection was lost"),
        ("PEER/gib-announced", "the limit in `maxBytes`"),
        ("{{ cursor.a.b }}", "`url` of the trigger cannot be rendered"),
    ],
)
async def test_sources_that_cannot_be_read(source: PolledSource, url: str, error: str) -> None:
    await source.create(url=url.replace("PEER", source.peer.url))
    await source.poll()
    assert error in (await source.row())["last_error"]


async def test_items_wait_for_a_published_version_and_for_room_in_the_queue(source: PolledSource) -> None:
    await source.create(publish=False)
    [failed] = await source.poll(document=numbered(1, 2))
    assert failed.startswith("FAILED poll:") and (await source.row())["state"] is None
    await source.create()
    await source.database.pool.execute("DELETE FROM triggers WHERE id <> $1", source.id)
    source.now = NOON
    assert await source.poll(source.worker(queue_limit=0)) == []
    row = await source.row()
    assert row["last_error"].startswith("2 of 2 items wait for the next poll") and row["failures"] == 0
    assert await source.poll() == ["FIRED item:1", "FIRED item:2"]


async def test_two_workers_and_a_lost_one_ask_and_fire_once(source: PolledSource) -> None:
    await source.create()
    source.peer.document = numbered(1)
    first, second = source.worker(), source.worker()
    results = await asyncio.gather(source.poll(first, at=NOON), source.poll(second, at=NOON))
    assert sorted(map(len, results)) == [0, 1] and len(source.peer.seen) == 1

    lost = source.worker()
    give_up: Callable[[datetime | None], Any] = lost.fire_batch
    source.peer.document = numbered(1, 2)
    lost._fire = _die  # type: ignore[method-assign, assignment]
    due_at = (await source.row())["next_fire_at"]
    with pytest.raises(ProcessLost):
        await give_up(due_at)
        while True:
            await asyncio.sleep(0)
            await lost.fire_ready(due_at)
    assert await source.poll() == ["FIRED item:2"]


class ProcessLost(BaseException):
    """The process has died between the answer of the source and the transaction."""


async def _die(candidates: Any) -> Any:
    if candidates:
        raise ProcessLost
    return []
