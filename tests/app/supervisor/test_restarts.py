"""What `treadle up` keeps running is started again, the sooner the longer it has lived, and given up in words."""

import asyncio
import shutil
from pathlib import Path

import pytest

from app.embedded.servers import redis
from app.errors import EmbeddedError
from app.supervisor.restarts import FIRST_PAUSE_S, HEALTHY_S, LONGEST_PAUSE_S, Pause, keep_store


def test_the_pause_doubles_until_something_has_lived_for_a_while() -> None:
    pause = Pause()
    pauses = [pause.after(0) for _ in range(10)]
    assert pauses[:3] == [FIRST_PAUSE_S * 2, FIRST_PAUSE_S * 4, FIRST_PAUSE_S * 8]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert pause.after(HEALTHY_S + 1) == FIRST_PAUSE_S


async def test_a_store_that_does_not_come_back_is_told_with_the_end_of_its_log(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.embedded.process.START_S", 1.0)
    with redis(open_folder) as store:
        store.stop()
        place = open_folder / "redis.sockets" / "redis.sock"
        place.unlink(missing_ok=True)
        place.mkdir()
        with pytest.raises(EmbeddedError) as given_up:
            await keep_store(store, asyncio.Event())
    assert str(given_up.value).startswith("Redis died and did not come back within 1 s; the end of ")
    assert "Failed opening Unix socket" in str(given_up.value)


async def test_a_store_whose_folder_is_gone_is_told(open_folder: Path) -> None:
    with redis(open_folder) as store:
        store.stop()
        shutil.rmtree((open_folder / "redis.sockets").resolve())
        with pytest.raises(EmbeddedError, match=r"Redis died and cannot be started again: .*No such file"):
            await keep_store(store, asyncio.Event())
