"""The server and the workers under attack: real `treadle` processes, killed by their own pid and started again.

Every one logs JSON to a file of its own. They get the settings that the suite gives and no others; the kernel kills them if
the suite dies, stopped ones as well.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from app.child_process import Program, start
from app.http_client import plain_client

READY_S = 60.0
READY_WITHIN = 64 * 1024
"""Bytes of log in which a worker says that it is ready."""


@dataclass(slots=True)
class ProcessSlot:
    """One process that is to be there; its pid changes with each start."""

    name: str
    module: list[str]
    """What `python -m` is given."""
    environment: dict[str, str]
    log: Path
    descriptors: tuple[int, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None
    pids: list[int] = field(default_factory=list)
    ended_at: dict[int, float] = field(default_factory=dict)
    """When a pid was told to end, or found to have ended."""
    is_frozen: bool = False
    unasked: list[int] = field(default_factory=list)
    """Exit codes of deaths that nobody asked for."""
    _is_asked: bool = False
    _log_from: int = 0

    def start(self) -> None:
        options = {"env": self.environment, "pass_fds": self.descriptors, "cwd": self.log.parent}
        command = [sys.executable, "-m", *self.module]
        with self.log.open("ab") as output:
            self._log_from = output.tell()
            self.process = start(Program(self.name, command, signal.SIGKILL, options=options), output)
        self.pids.append(self.process.pid)
        self.is_frozen = self._is_asked = False

    @property
    def pid(self) -> int:
        return self.pids[-1] if self.pids else 0

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether this start of it has come so far as to take part: it says so in its log."""
        if not self.is_up or self.is_frozen:
            return False
        if self._log_from >= 0:
            with self.log.open("rb") as log:
                log.seek(self._log_from)
                if b"worker.ready" in log.read(READY_WITHIN):
                    self._log_from = -1
        return self._log_from < 0

    async def ready(self, within_s: float = READY_S) -> None:
        deadline = time.monotonic() + within_s
        while self.is_up and not self.is_ready and time.monotonic() < deadline:  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.1)

    def send(self, number: signal.Signals) -> None:
        """SIGKILL and SIGTERM are asked for: the death that follows is no surprise."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._is_asked = True
            self.ended_at.setdefault(self.pid, time.time())
        self.is_frozen = number is signal.SIGSTOP or (self.is_frozen and number is not signal.SIGCONT)
        if self.is_up:
            assert self.process is not None
            self.process.send_signal(number)

    @property
    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])

    async def ended(self, within_s: float | None = None) -> None:
        """Raises TimeoutExpired."""
        if self.process is not None:
            await asyncio.to_thread(self.process.wait, within_s)

    def restart_if_dead(self) -> None:
        """What `treadle up` does. Whoever has killed the process on purpose starts it again themselves."""
        if self.process is not None and not self.is_up and not self._is_asked:
            self.unasked.append(self.process.returncode)
            self.ended_at.setdefault(self.pid, time.time())
            self.start()

    async def stop(self, within_s: float) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            await self.ended(within_s)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            await self.ended()


class Processes:
    """One server on a port that the suite holds and lends, and `count` workers."""

    def __init__(self, folder: Path, settings: dict[str, str], paths: Sequence[Path], count: int) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(256)
        self.port: int = self._listener.getsockname()[1]
        environment = environment_of({**settings, "TREADLE_PORT": str(self.port)}, paths)
        lent = self._listener.fileno()
        self.server = ProcessSlot(
            "server", ["app.cli", "server", "--listener", str(lent)], environment, folder / "server.log", (lent,)
        )
        self.workers = [
            ProcessSlot(f"worker {number}", ["app.cli", "worker"], environment, folder / f"worker-{number}.log")
            for number in range(1, count + 1)
        ]

    @property
    def slots(self) -> list[ProcessSlot]:
        return [self.server, *self.workers]

    async def start(self) -> None:
        for slot in self.slots:
            slot.start()
        await self.answering()

    async def answering(self) -> None:
        """Until the server says that it is well. Raises TimeoutError, with what it said last."""
        url, deadline = f"http://127.0.0.1:{self.port}/health", time.monotonic() + READY_S
        async with plain_client(timeout_s=5) as client:
            while not await _is_well(client, url):
                if time.monotonic() > deadline or not self.server.is_up:
                    raise TimeoutError(f"the server does not answer; the end of {self.server.log}:\n{self.server.tail}")
                await asyncio.sleep(0.1)

    async def keep(self) -> None:
        """Starts again what dies by itself, until cancelled."""
        while True:
            await asyncio.sleep(0.25)
            for slot in self.slots:
                slot.restart_if_dead()

    async def stop(self, within_s: float) -> None:
        await asyncio.gather(*(slot.stop(within_s) for slot in self.slots))
        self._listener.close()


async def _is_well(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx.TransportError:
        return False


def environment_of(settings: dict[str, str], paths: Sequence[Path]) -> dict[str, str]:
    """Ours, with `paths` to import from, and without whatever Treadle settings the user has."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("TREADLE_")}
    path = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path, **settings}
