"""Restarts: the pause depends on the uptime; a store that does not return is reported."""

import asyncio
import shutil
from pathlib import Path

import pytest

from app.embedded.servers import redis
from app.errors import EmbeddedError
from app.supervisor.restarts import HEALTHY_S, MAX_PAUSE_S, MIN_PAUSE_S, Backoff, restart_store


def test_the_pause_doubles_until_a_process_was_healthy() -> None:
    backoff = Backoff()
    pauses = [backoff.pause_after(0) for _ in range(10)]
    assert pauses[:3] == [MIN_PAUSE_S * 2, MIN_PAUSE_S * 4, MIN_PAUSE_S * 8]
    assert pauses[-1] == MAX_PAUSE_S
    assert backoff.pause_after(HEALTHY_S + 1) == MIN_PAUSE_S


async def test_a_store_that_does_not_return_is_reported_with_the_end_of_its_log(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.embedded.process.START_S", 1.0)
    with redis(open_folder) as store:
        store.stop()
        path = open_folder / "redis.sockets" / "redis.sock"
        path.unlink(missing_ok=True)
        path.mkdir()
        with pytest.raises(EmbeddedError) as error:
            await restart_store(store, asyncio.Event())
    assert str(error.value).startswith("Redis died and did not become ready again within 1 s. The end of ")
    assert "Failed opening Unix socket" in str(error.value)


async def test_a_store_whose_folder_is_missing_is_reported(open_folder: Path) -> None:
    with redis(open_folder) as store:
        store.stop()
        shutil.rmtree((open_folder / "redis.sockets").resolve())
        with pytest.raises(EmbeddedError, match=r"Redis died and cannot be started again: .*No such file"):
            await restart_store(store, asyncio.Event())
