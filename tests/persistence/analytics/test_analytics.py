"""Analytics events reach the stream and the sinks at least once, also after a crash or a failure."""

import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import orjson
import pytest
from redis.asyncio import Redis

from engine.sdk.analytics import AnalyticsEvent, AnalyticsEventType, AnalyticsSink
from persistence.analytics import outbox, publisher, sinks
from persistence.analytics.publisher import PAUSES_S, AnalyticsPublisher, StreamSink, stream_of
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.statistics.folding import fold
from tests.journal_worker import accept_run
from tests.persistence.triggers.stored_triggers import published_workflow

END = "UPDATE runs SET status = 'FAILED', finished_at = now(), error = '{\"code\": \"TIMEOUT\"}' WHERE id = $1"
DUE = "UPDATE analytics_events SET next_attempt_at = now()"
INSERT = """
INSERT INTO analytics_events (project_id, type, data, at)
SELECT $1, 'workflow_created', '{}', now() - make_interval(secs => $2) FROM generate_series(1, $3)
"""
KIND = AnalyticsEventType


class Warehouse(AnalyticsSink):
    """A sink that refuses as many batches as `failures`."""

    name: ClassVar[str] = "warehouse"

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.received = failures, list[AnalyticsEvent]()

    async def send(self, events: Sequence[AnalyticsEvent]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the warehouse is closed")
        self.received += events


async def entries(redis: Redis, project: str) -> list[dict[str, Any]]:
    found = await redis.xrange(stream_of(project))
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]


async def end_run(database: Database, caller: Caller, project: str) -> str:
    run = (await accept_run(database, caller, project)).run
    await database.pool.execute(END, run.id)
    return run.id


async def waiting(database: Database) -> list[tuple[str, tuple[str, ...]]]:
    rows = await database.pool.fetch("SELECT type, delivered FROM analytics_events ORDER BY id")
    return [(row["type"], tuple(row["delivered"])) for row in rows]


async def test_each_change_is_one_event_of_the_stream(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    workflow_id = await published_workflow(database, caller, project)
    run_id = await end_run(database, caller, project)
    await fold(database.pool, for_analytics=True)
    publishing = AnalyticsPublisher(database.pool, [StreamSink(redis, 100)])
    for _ in range(2):
        await publishing.publish_all_due()
    found = await entries(redis, project)
    assert [one["type"] for one in found] == list(KIND)
    created, published, executed = (orjson.loads(one["data"]) for one in found)
    assert created == {"workflowId": workflow_id}
    assert (published["workflowId"], published["version"]) == (workflow_id, 1)
    assert executed == {
        "workflowId": None,
        "runId": run_id,
        "mode": "ASYNC",
        "source": "MANUAL",
        "status": "FAILED",
        "code": "TIMEOUT",
        "durationMs": None,
    }
    assert await waiting(database) == []


async def test_events_that_a_lost_worker_has_claimed_are_sent_again(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    await published_workflow(database, caller, project)
    [first, second] = await outbox.claim(database.pool, 10)
    await StreamSink(redis, 100).send([first.event, second.event])
    # The worker dies here. Its claim ends later.
    publishing = AnalyticsPublisher(database.pool, [StreamSink(redis, 100)])
    assert not await publishing.publish_due()
    await database.pool.execute(DUE)
    await publishing.publish_all_due()
    ids = [str(first.event.id), str(second.event.id)]
    assert [one["id"] for one in await entries(redis, project)] == ids * 2


async def test_a_sink_that_fails_gets_its_events_later_and_delays_no_other_receiver(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    await published_workflow(database, caller, project)
    sink = Warehouse(failures=1)
    now = 0.0
    publishing = AnalyticsPublisher(database.pool, [StreamSink(redis, 100), sink], lambda: now)
    await publishing.publish_all_due()
    assert await waiting(database) == [
        (KIND.WORKFLOW_CREATED, ("stream",)),
        (KIND.WORKFLOW_VERSION_PUBLISHED, ("stream",)),
    ]
    assert sink.received == []
    await database.pool.execute(DUE)
    now = PAUSES_S[0]
    await publishing.publish_all_due()
    assert [one.type for one in sink.received] == [KIND.WORKFLOW_CREATED, KIND.WORKFLOW_VERSION_PUBLISHED]
    assert len(await entries(redis, project)) == 2
    assert await waiting(database) == []


class Hanging(AnalyticsSink):
    """A sink that never answers."""

    name: ClassVar[str] = "hanging"
    calls = 0

    async def send(self, events: Sequence[AnalyticsEvent]) -> None:
        self.calls += 1
        await asyncio.Event().wait()

    async def close(self) -> None:
        await asyncio.Event().wait()


async def test_a_sink_that_hangs_or_fails_does_not_keep_a_worker_from_ending(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "CLOSE_S", 0.01)
    closed = asyncio.Event()

    class Failing(Warehouse):
        async def close(self) -> None:
            closed.set()
            raise ConnectionError("the warehouse is closed")

    await asyncio.wait_for(AnalyticsPublisher(database.pool, [Hanging(), Failing()]).close(), 10)
    assert closed.is_set()


async def test_a_sink_that_hangs_is_called_again_only_after_pauses(
    database: Database, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "TIMEOUT_S", 0.01)
    monkeypatch.setattr(publisher, "BATCH", 5)
    now, hanging, other, calls = 0.0, Hanging(), Warehouse(), []
    publishing = AnalyticsPublisher(database.pool, [other, hanging], lambda: now)
    for pause in (5, 10, 20, 40, 60, 60):
        for at in (now, now + pause - 1):
            now = at
            await database.pool.execute(INSERT, project, 0, 10)
            await publishing.publish_all_due()
            calls.append(hanging.calls)
        now += 1
    assert calls == [number for number in range(1, 7) for _ in range(2)]
    assert len(other.received) == 12 * 10
    assert set(await waiting(database)) == {(KIND.WORKFLOW_CREATED, ("warehouse",))}


async def test_events_wait_while_redis_is_away(database: Database, caller: Caller, project: str) -> None:
    await published_workflow(database, caller, project)
    sink, away = Warehouse(), Redis.from_url("redis://127.0.0.1:1")
    await AnalyticsPublisher(database.pool, [StreamSink(away, 100), sink]).publish_all_due()
    await away.aclose()
    assert len(sink.received) == 2
    assert await waiting(database) == [(one.type, ("warehouse",)) for one in sink.received]


async def test_the_stream_and_the_outbox_are_bounded(
    database: Database, redis: Redis, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.pool.execute(INSERT, project, 0, 1200)
    await AnalyticsPublisher(database.pool, [StreamSink(redis, 100)]).publish_all_due()
    assert 100 <= await redis.xlen(stream_of(project)) <= 300
    await database.pool.execute(INSERT, project, outbox.MAX_AGE_S + 5, 3)
    await database.pool.execute(INSERT, project, 0, 5)
    assert await outbox.prune(database.pool) == 3
    monkeypatch.setattr(outbox, "MAX_WAITING", 4)
    assert await outbox.prune(database.pool) == 1
    assert len(await waiting(database)) == 4


async def test_without_receivers_no_event_of_a_run_is_stored(database: Database, caller: Caller, project: str) -> None:
    await end_run(database, caller, project)
    assert await fold(database.pool) == 1
    assert await waiting(database) == []


def test_a_package_adds_a_sink_and_a_broken_one_affects_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = {
        "Stream": type("Stream", (Warehouse,), {"name": sinks.STREAM}),
        "Unable": type("Unable", (AnalyticsSink,), {"name": "unable"}),  # cannot send
    }
    vars(sys.modules[__name__]).update(classes)
    values = {"a": f"{__name__}:Warehouse", "b": f"{__name__}:Stream", "c": "no_such_module:Sink", "d": "os:path"}
    values["e"] = f"{__name__}:Unable"
    entries = [EntryPoint(name, value, sinks.GROUP) for name, value in values.items()]
    monkeypatch.setattr(sinks, "entry_points", lambda group: entries)
    assert list(sinks.load_sinks()) == ["warehouse"]
