"""What `treadle up` starts early is let in when all is prepared, and at no other moment."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.errors import CannotStartError
from app.settings import Settings
from app.supervisor import supervisor as supervising
from app.supervisor.restarts import Child
from app.supervisor.start_gate import StartGate, gate
from app.supervisor.supervisor import listen, supervise


async def test_a_ctrl_c_while_the_stores_are_prepared_lets_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    @contextmanager
    def watched() -> Iterator[StartGate]:
        with gate() as closed:
            yield closed
            # It opens at the end as well, when nobody is left to go through.
            opened.append("gate" if closed.is_open else "nothing")

    async def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr(supervising, "gate", watched)
    settings = Settings(port=0, workers=1, data_dir=tmp_path)
    with listen(settings) as listener:
        await supervise(
            settings,
            ("postgresql://127.0.0.1:9/nowhere", "redis://127.0.0.1:9/0"),
            [],
            listener,
            interrupted,
            lambda: opened.append("ready"),
            lambda: opened.append("stopping"),
        )
    assert opened == ["stopping", "nothing"]


async def test_a_process_that_fails_while_it_waits_has_not_started_well_however_long_it_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.supervisor.restarts.HEALTHY_S", 0.01)
    with pytest.raises(CannotStartError, match="the worker failed 3 times"):
        await Child("worker", ["no-such-command"], os.environ).keep()


async def test_a_process_that_has_lived_for_a_while_since_it_was_let_in_is_started_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.supervisor.restarts.HEALTHY_S", 0.01)
    monkeypatch.setattr("app.supervisor.restarts.FIRST_PAUSE_S", 0.0)
    child = Child("worker", ["no-such-command"], os.environ)
    child.let_in()
    keeping = asyncio.create_task(child.keep())
    pids: set[int] = set()
    async with asyncio.timeout(60):
        while len(pids) < 5:
            await asyncio.sleep(0)
            pids |= {child.process.pid} if child.process else set()
    await child.stop(asyncio.Event(), 10)
    await keeping
