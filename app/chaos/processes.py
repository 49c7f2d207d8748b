"""The server and the workers under test: real `treadle` processes that are killed and restarted.

Each process logs JSON to its own file, and gets only the settings of the suite. If the suite dies,
the kernel kills all of them, also stopped ones.
"""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from app.chaos.wrong_clock import OFFSET_S
from app.child_process import Program, start
from app.http_client import plain_client
from engine.interpreter import module_command, module_environment

READY_S = 60.0
"""Seconds that a process has to become ready."""
READY_LOG_BYTES = 64 * 1024
"""The number of bytes at the beginning of a worker's log that contain its line `worker.ready`."""


@dataclass(slots=True)
class ProcessSlot:
    """One server or worker that is restarted when it dies; its pid changes with each start.

    Attributes:
        module: The arguments of `python -m`.
        ended_at: The time when a pid was sent a signal to end, or was noticed to have ended.
        unexpected_exits: Exit codes of processes that ended without a signal from the suite.
    """

    name: str
    module: list[str]
    environment: dict[str, str]
    log: Path
    descriptors: tuple[int, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None
    pids: list[int] = field(default_factory=list)
    ended_at: dict[int, float] = field(default_factory=dict)
    is_frozen: bool = False
    unexpected_exits: list[int] = field(default_factory=list)
    _is_exit_expected: bool = False
    _log_offset: int = 0

    def start(self) -> None:
        """Start the process, without waiting until it is ready."""
        options = {"env": module_environment(self.environment), "pass_fds": self.descriptors, "cwd": self.log.parent}
        command = module_command(*self.module)
        with self.log.open("ab") as output:
            self._log_offset = output.tell()
            self.process = start(Program(self.name, command, signal.SIGKILL, options=options), output)
        self.pids.append(self.process.pid)
        self.is_frozen = self._is_exit_expected = False

    @property
    def pid(self) -> int:
        return self.pids[-1] if self.pids else 0

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether the process has logged that it is ready since its last start."""
        if not self.is_up or self.is_frozen:
            return False
        if self._log_offset >= 0:
            with self.log.open("rb") as log:
                log.seek(self._log_offset)
                if b"worker.ready" in log.read(READY_LOG_BYTES):
                    self._log_offset = -1
        return self._log_offset < 0

    async def ready(self, within_s: float = READY_S) -> bool:
        """Wait until the process is ready or has ended, at most `within_s` seconds. Return whether it is ready."""
        deadline = time.monotonic() + within_s
        while self.is_up and not self.is_ready and time.monotonic() < deadline:  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.1)
        return self.is_ready

    def send(self, number: signal.Signals) -> None:
        """Send a signal. An exit after SIGKILL or SIGTERM is expected."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._is_exit_expected = True
            self.ended_at.setdefault(self.pid, time.time())
        self.is_frozen = number is signal.SIGSTOP or (self.is_frozen and number is not signal.SIGCONT)
        if self.is_up:
            assert self.process is not None
            self.process.send_signal(number)

    @property
    def tail(self) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])

    async def ended(self, within_s: float | None = None) -> None:
        """Wait until the process has ended.

        Raises subprocess.TimeoutExpired after `within_s` seconds.
        """
        if self.process is not None:
            await asyncio.to_thread(self.process.wait, within_s)

    def restart_if_dead(self) -> None:
        """Restart the process, as `treadle up` does.

        A fault that kills a process restarts it itself.
        """
        if self.process is not None and not self.is_up and not self._is_exit_expected:
            self.unexpected_exits.append(self.process.returncode)
            self.ended_at.setdefault(self.pid, time.time())
            self.start()

    async def stop(self, within_s: float) -> None:
        """Stop the process with SIGTERM, and kill it after `within_s` seconds."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            await self.ended(within_s)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            await self.ended()


class Processes:
    """One server and `count` workers.

    The suite binds the port, and the server inherits the socket.
    """

    def __init__(
        self, folder: Path, settings: dict[str, str], paths: Sequence[Path], count: int, clock_offset_s: float = 0
    ) -> None:
        """`clock_offset_s` is by how much the clock of the last worker is ahead, in seconds."""
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(256)
        self.port: int = self._listener.getsockname()[1]
        environment = environment_of({**settings, "TREADLE_PORT": str(self.port)}, paths)
        socket_fd = self._listener.fileno()
        server = ["app.cli", "server", "--listener", str(socket_fd)]
        self.server = ProcessSlot("server", server, environment, folder / "server.log", (socket_fd,))
        self.workers = [
            ProcessSlot(f"worker {number}", ["app.cli", "worker"], environment, folder / f"worker-{number}.log")
            for number in range(1, count + 1)
        ]
        for last in self.workers[-1:]:
            last.environment = {**environment, OFFSET_S: str(clock_offset_s)}

    @property
    def slots(self) -> list[ProcessSlot]:
        return [self.server, *self.workers]

    async def start(self) -> None:
        """Start all processes, and wait until the server is healthy and all workers are ready. Raises TimeoutError."""
        for slot in self.slots:
            slot.start()
        await self.wait_until_healthy()
        for slot in self.workers:
            if not await slot.ready():
                raise TimeoutError(f"{slot.name} is not ready. The end of {slot.log}:\n{slot.tail}")

    async def wait_until_healthy(self) -> None:
        """Wait until the server is healthy. Raises TimeoutError with the end of its log."""
        url, deadline = f"http://127.0.0.1:{self.port}/health", time.monotonic() + READY_S
        async with plain_client(timeout_s=5) as client:
            while not await _is_healthy(client, url):
                if time.monotonic() > deadline or not self.server.is_up:
                    raise TimeoutError(
                        f"the server does not respond. The end of {self.server.log}:\n{self.server.tail}"
                    )
                await asyncio.sleep(0.1)

    async def restart_dead(self) -> None:
        """Restart processes that end unexpectedly, until cancelled."""
        child_ended, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, child_ended.set)
        try:
            while True:
                child_ended.clear()
                for slot in self.slots:
                    slot.restart_if_dead()
                await child_ended.wait()
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)

    async def stop(self, within_s: float) -> None:
        """Stop all processes, and close the port."""
        await asyncio.gather(*(slot.stop(within_s) for slot in self.slots))
        self._listener.close()


async def _is_healthy(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx.TransportError:
        return False


def environment_of(settings: dict[str, str], paths: Sequence[Path]) -> dict[str, str]:
    """Create the environment of a process: this one's without Treadle settings, and `settings`.

    Args:
        paths: Folders to add to PYTHONPATH.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("TREADLE_")}
    path = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**inherited, "PYTHONPATH": path, **settings}
