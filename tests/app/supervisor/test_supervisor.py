"""Supervisor: processes may use the stores only after the preparation, and restarts have limits."""

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
from app.supervisor.start_gate import StartGate, start_gate
from app.supervisor.supervisor import listen, supervise


async def test_ctrl_c_during_the_preparation_leaves_the_gate_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    @contextmanager
    def watched_gate() -> Iterator[StartGate]:
        with start_gate() as gate:
            yield gate
            # The gate also opens at the end of its block, when no process waits any more.
            calls.append("gate is open" if gate.is_open else "gate is closed")

    async def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr(supervising, "start_gate", watched_gate)
    settings = Settings(port=0, workers=1, data_dir=tmp_path)
    with listen(settings) as listener:
        await supervise(
            settings,
            ("postgresql://127.0.0.1:9/nowhere", "redis://127.0.0.1:9/0"),
            [],
            listener,
            interrupted,
            lambda: calls.append("ready"),
            lambda: calls.append("stopping"),
        )
    assert calls == ["stopping", "gate is closed"]


async def test_time_at_the_start_gate_does_not_count_as_uptime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.supervisor.restarts.HEALTHY_S", 0.01)
    with pytest.raises(CannotStartError, match="the worker failed 3 times"):
        await Child("worker", ["no-such-command"], os.environ).run_until_stopped()


async def test_a_process_that_was_healthy_is_restarted_without_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.supervisor.restarts.HEALTHY_S", 0.01)
    monkeypatch.setattr("app.supervisor.restarts.MIN_PAUSE_S", 0.0)
    child = Child("worker", ["no-such-command"], os.environ)
    child.gate_opened()
    running = asyncio.create_task(child.run_until_stopped())
    pids: set[int] = set()
    async with asyncio.timeout(60):
        while len(pids) < 5:
            await asyncio.sleep(0)
            pids |= {child.process.pid} if child.process else set()
    await child.stop(asyncio.Event(), 10)
    await running
