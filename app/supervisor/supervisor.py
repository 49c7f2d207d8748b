"""`treadle up`: one server and some workers as child processes beside our own stores, from ready to stopped.

The port is bound here and lent to the server, so clients that come while it is started again wait instead of failing.
If this process dies, the kernel tells the children to stop. On a signal, workers hand their runs back first.
"""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from app.child_process import ORPHANED
from app.embedded.process import StoreProcess
from app.errors import CannotStartError, EmbeddedError
from app.settings import Settings
from app.supervisor.restarts import Child, keep_store
from app.supervisor.start_gate import gate

STOP_S = 10.0
"""Beyond the time that a worker may drain; then it is killed, and its runs are taken up at the next start."""
UNPRIVILEGED = 1024


def listen(settings: Settings) -> socket.socket:
    """Binds the server's port. Raises CannotStartError; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise CannotStartError(unbound(settings, error)) from error
    listener.listen(128)
    return listener


def unbound(settings: Settings, error: OSError) -> str:
    """Why the port cannot be had, and which option chooses another."""
    what = f"port {settings.port} of {settings.host} cannot be bound ({error.strerror})"
    if error.errno == errno.EADDRINUSE:
        return f"{what}: is another Treadle running? Choose another one by --port or TREADLE_PORT"
    if error.errno == errno.EACCES and settings.port < UNPRIVILEGED:
        return f"{what}: ports below {UNPRIVILEGED} are the superuser's. Choose another one by --port or TREADLE_PORT"
    return f"{what}: check TREADLE_HOST and TREADLE_PORT (--port)"


async def supervise(
    settings: Settings,
    urls: tuple[str, str],
    stores: Sequence[StoreProcess],
    listener: socket.socket,
    prepare: Callable[[], Awaitable[None]],
    ready: Callable[[], None],
    stopping: Callable[[], None],
) -> None:
    """Keeps the processes and our own stores running until a signal says to stop; a second signal kills the processes.

    The processes touch no store before `prepare` is over. `ready` is called once /health says that all is well,
    `stopping` when a signal came. Raises what `prepare` raises, CannotStartError, or EmbeddedError for a lost store.
    """
    stop, hurry = _signals()
    with gate() as closed:
        children = _children(settings, urls, stores, listener, closed.descriptor)
        keeping = [asyncio.create_task(child.keep(), name=child.name) for child in children]
        try:
            await _first(stop, asyncio.ensure_future(prepare()), keeping)
            if not stop.is_set():
                keeping += _keeping_stores(stores)
                closed.open()
                for child in children:
                    child.let_in()
                await _first(stop, asyncio.create_task(_until_healthy(listener)), keeping)
            if not stop.is_set():
                ready()
                await _first(stop, asyncio.create_task(stop.wait()), keeping)
            stopping()
        except EmbeddedError:
            hurry.set()  # Without it nobody can hand anything back.
            raise
        finally:
            # Workers hand their runs back: the stores stay until they have.
            await asyncio.gather(*(child.stop(hurry, settings.drain_s + STOP_S) for child in children))
            await _ended(keeping)


def _keeping_stores(stores: Sequence[StoreProcess]) -> list["asyncio.Task[None]"]:
    return [asyncio.create_task(keep_store(store, died), name=store.name) for store, died in _deaths(stores)]


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """(stop, hurry): set by the first signal, and by the second."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            asyncio.get_running_loop().add_signal_handler(number, signalled)
    return stop, hurry


def _deaths(stores: Sequence[StoreProcess]) -> list[tuple[StoreProcess, asyncio.Event]]:
    """Each store with an event that is set whenever any child of ours has ended."""
    events = [(store, asyncio.Event()) for store in stores]

    def ended() -> None:
        for _, event in events:
            event.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, ended)
    return events


def _children(
    settings: Settings, urls: tuple[str, str], stores: Sequence[StoreProcess], listener: socket.socket, gate: int
) -> list[Child]:
    environment = {**os.environ, "TREADLE_DATABASE_URL": urls[0], "TREADLE_REDIS_URL": urls[1]}
    environment |= {"TREADLE_PORT": str(listener.getsockname()[1]), "TREADLE_HOST": settings.host}
    environment |= {"TREADLE_DATA_DIR": str(settings.data_dir.absolute())}
    # Our own stores die with us: then a worker has nobody to hand its runs back to.
    orphaned = ORPHANED if any(store.url == urls[0] for store in stores) else signal.SIGTERM
    lent = listener.fileno()
    waits = ["--gate", str(gate)]
    server = Child("server", ["server", *waits, "--listener", str(lent)], environment, orphaned, (gate, lent))
    names = [f"worker {number}" for number in range(1, settings.workers + 1)]
    return [server, *(Child(name, ["worker", *waits], environment, orphaned, (gate,)) for name in names)]


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


async def _until_healthy(listener: socket.socket) -> None:
    from app.supervisor.health import (
        healthy,  # Not sooner: the processes that take the longest to start are on their way by now.
    )

    await healthy(listener)
