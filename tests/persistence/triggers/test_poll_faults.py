"""A poll that fails in any way is recorded, and one that takes long is not taken over."""

import asyncio
from datetime import datetime, timedelta
from typing import ClassVar

import pytest

from engine.sdk.trigger import PollContext, PolledItem, PollResult, TriggerConfig, TriggerKind
from engine.types import JSON
from persistence.triggers import polling
from tests.executor_worker import eventually
from tests.persistence.triggers.polled_source import PolledSource
from tests.persistence.triggers.stored_triggers import NOON, events_of

CLAIM = timedelta(seconds=polling.CLAIM_S)


class PackageConfig(TriggerConfig):
    fault: str = ""


class PackageKind(TriggerKind[PackageConfig]):
    """A kind of a package: it has a fault, or waits for the test."""

    name: ClassVar[str] = "package"
    title: ClassVar[str] = "Package"
    description: ClassVar[str] = "For tests."
    Config: ClassVar[type[TriggerConfig]] = PackageConfig
    is_polled: ClassVar[bool] = True

    def __init__(self) -> None:
        self.polls, self.asked, self.release = 0, asyncio.Event(), asyncio.Event()

    def next_time(self, config: PackageConfig, after: datetime) -> datetime | None:
        if config.fault == "next time":
            raise ValueError("the time zone is gone")
        return after + timedelta(seconds=60)

    async def poll(self, config: PackageConfig, state: JSON, context: PollContext) -> PollResult:
        self.polls += 1
        self.asked.set()
        match config.fault:
            case "":
                await self.release.wait()
            case "exception":
                raise KeyError("orders")
            case "time limit of its own":
                raise TimeoutError
            case "cancelled":
                raise asyncio.CancelledError
            case "no items":
                return PollResult(None, {})  # type: ignore[arg-type]
            case "no JSON":
                return PollResult((PolledItem("a", {"at": object()}),), {})  # type: ignore[dict-item]
            case "a state that is no JSON":
                return PollResult((), object())
        return PollResult((PolledItem("a", {}),), {})


FAULTS = (
    "exception",
    "time limit of its own",
    "cancelled",
    "no items",
    "no JSON",
    "a state that is no JSON",
    "next time",
)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_after_the_claim_is_recorded_and_disables_the_trigger(source: PolledSource, fault: str) -> None:
    await source.create("package", fault=fault)
    due = source.worker(1000, 2, PackageKind())
    for failures, enabled in ((1, True), (2, False)):
        await source.poll(due)
        row = await source.row()
        assert (row["failures"], row["enabled"], row["last_error"]) == (failures, enabled, polling.FAULT)
        assert (row["next_fire_at"] is not None) is enabled


async def test_a_claim_is_renewed_while_the_source_is_slow(
    source: PolledSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "RENEWAL_S", 0.01)
    await source.create("package")
    kind = PackageKind()
    first, second = (source.worker(1000, 3, kind) for _ in range(2))
    polling_first = asyncio.create_task(source.poll(first, at=NOON))
    await kind.asked.wait()

    async def is_renewed() -> bool:
        return bool((await source.row())["next_fire_at"] > NOON + CLAIM)

    await eventually(is_renewed)
    assert (await second.fire_batch(NOON + CLAIM)).found == 0
    kind.release.set()
    assert await polling_first == ["FIRED a"] and kind.polls == 1
    assert (await source.row())["next_fire_at"] == NOON + timedelta(seconds=60)


async def test_a_worker_that_has_lost_its_claim_writes_nothing(source: PolledSource) -> None:
    await source.create("package")
    kind = PackageKind()
    first, second = (source.worker(1000, 3, kind) for _ in range(2))
    slow = asyncio.create_task(source.poll(first, at=NOON))
    await kind.asked.wait()
    later = NOON + 2 * CLAIM  # The claim ended, because Postgres was not available, and another worker has one.
    await source.database.pool.execute("UPDATE triggers SET next_fire_at = $1", later)
    kind.release.set()
    assert await slow == [] and await events_of(source.database, source.id) == []
    assert await source.poll(second) == ["FIRED a"]


async def test_a_source_that_never_answers_is_a_failure(source: PolledSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "ASK_S", 0.05)
    await source.create("package")
    [failed] = await source.poll(source.worker(1000, 3, PackageKind()))
    assert failed.startswith("FAILED poll:")
    assert (await source.row())["last_error"] == "the source took longer than 0.05 s"
