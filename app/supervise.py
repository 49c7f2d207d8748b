"""`treadle up`: one server and some workers as child processes; one that dies is started again.

The port is bound here and lent to the server, so clients that come while it is started again wait instead of failing.
If this process dies, the kernel tells the children to stop. On a signal, workers hand their runs back first.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import structlog

from app.child import ends_with_us
from app.settings import Settings

log = structlog.get_logger(__name__)

READY_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
HEALTHY_S = 10.0
"""A child that has lived this long has started well: its next death is answered at once."""
DEATHS_AT_START = 3
"""A child that ends so often by itself and has never lived long will not get better by another start."""
STOP_S = 10.0
"""Beyond the time that a worker may drain; then it is killed, and its runs are taken up at the next start."""


class CannotStartError(Exception):
    """The message says what is wrong, in one line."""


@dataclass(slots=True)
class Child:
    """One process that is to be there. `arguments` are those of the `treadle` command."""

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    descriptors: tuple[int, ...] = ()
    process: asyncio.subprocess.Process | None = None
    _is_stopping: bool = False

    async def keep(self) -> None:
        """Runs the process until it is told to stop. Raises CannotStartError if it never starts well."""
        failures, pause, has_lived = 0, FIRST_PAUSE_S, False
        while not self._is_stopping:
            began = time.monotonic()
            code = await self._run()
            if self._is_stopping:
                return
            is_healthy = time.monotonic() - began > HEALTHY_S
            has_lived |= is_healthy
            failures += code > 0  # Below 0 it was a signal: somebody or something from outside.
            if not has_lived and failures >= DEATHS_AT_START:
                raise CannotStartError(f"the {self.name} failed {failures} times (code {code}); its log above says why")
            pause = FIRST_PAUSE_S if is_healthy else min(pause * 2, LONGEST_PAUSE_S)
            log.warning("up.died", process=self.name, code=code, again_in_s=round(pause, 1))
            await asyncio.sleep(pause)

    async def _run(self) -> int:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.cli", *self.arguments),
            env=dict(self.environment),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=self.descriptors,
            preexec_fn=ends_with_us(signal.SIGTERM),
        )
        if self._is_stopping:  # We were told so while it was being made.
            self._send(signal.SIGTERM)
        return await self.process.wait()

    async def stop(self, hurry: asyncio.Event, limit_s: float) -> None:
        """Asks the process to stop, and kills it when the time is up or somebody is in a hurry."""
        self._is_stopping = True
        if self.process is None:
            return
        self._send(signal.SIGTERM)
        ended, hurried = asyncio.create_task(self.process.wait()), asyncio.create_task(hurry.wait())
        await asyncio.wait([ended, hurried], timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            log.warning("up.killed", process=self.name)
            self._send(signal.SIGKILL)
        await ended

    def _send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


def listen(settings: Settings) -> socket.socket:
    """Binds the server's port. Raises CannotStartError; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise CannotStartError(
            f"port {settings.port} of {settings.host} cannot be bound ({error.strerror}): is another Treadle running? "
            "Give this one another by --port"
        ) from error
    listener.listen(128)
    return listener


async def supervise(
    settings: Settings, urls: tuple[str, str], listener: socket.socket, ready: Callable[[], None]
) -> None:
    """Keeps the processes running until a signal says to stop; a second signal kills them.

    `ready` is called once /health answers 200. Raises CannotStartError.
    """
    stop, hurry = _signals()
    children = _children(settings, urls, listener)
    keeping = [asyncio.create_task(child.keep(), name=child.name) for child in children]
    try:
        await _first(stop, asyncio.create_task(_healthy(listener)), keeping)
        if not stop.is_set():
            ready()
            await _first(stop, asyncio.create_task(stop.wait()), keeping)
    finally:
        await asyncio.gather(*(child.stop(hurry, settings.drain_s + STOP_S) for child in children))
        await _ended(keeping)


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """(stop, hurry): set by the first signal, and by the second."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    return stop, hurry


def _children(settings: Settings, urls: tuple[str, str], listener: socket.socket) -> list[Child]:
    environment = {**os.environ, "TREADLE_DATABASE_URL": urls[0], "TREADLE_REDIS_URL": urls[1]}
    environment |= {"TREADLE_PORT": str(listener.getsockname()[1]), "TREADLE_HOST": settings.host}
    lent = listener.fileno()
    server = Child("server", ["server", "--listener", str(lent)], environment, (lent,))
    workers = [Child(f"worker {number}", ["worker"], environment) for number in range(1, settings.workers + 1)]
    return [server, *workers]


async def _first(stop: asyncio.Event, wanted: "asyncio.Task[Any]", keeping: Sequence["asyncio.Task[None]"]) -> None:
    """Until `wanted` or `stop`. Raises what `wanted` or the keeping of a child raised."""
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([wanted, stopped, *keeping], return_when=asyncio.FIRST_COMPLETED)
    try:
        for task in done:
            task.result()
    finally:
        await _ended([wanted, stopped])


async def _ended(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _healthy(listener: socket.socket) -> None:
    """Until the server answers 200. It need not listen yet: a connection waits on the bound port."""
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/health"
    try:
        async with asyncio.timeout(READY_S), httpx.AsyncClient(trust_env=False, timeout=READY_S) as client:
            while not await _answers_200(client, url):  # noqa: ASYNC110 (it is another process that we wait for)
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise CannotStartError(f"the server was not ready within {READY_S:g} s; its log above says why") from error


async def _answers_200(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx.TransportError:
        return False  # It died with our request; the next one takes it up.
