"""Runs one server and the workers as child processes, next to the embedded stores, until a signal.

This process binds the port and the server inherits it, so clients wait instead of failing while the
server restarts. If this process dies, the kernel signals the children to stop (Linux). On a signal,
workers release their runs before the stores stop.
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
from app.supervisor.restarts import Child, restart_store
from app.supervisor.start_gate import start_gate

STOP_S = 10.0
"""Seconds after the drain time until a process is killed.

Other workers claim its runs after the next start.
"""
UNPRIVILEGED = 1024
"""The lowest port that a process may bind without superuser rights."""


def listen(settings: Settings) -> socket.socket:
    """Bind the port of the server and listen on it; port 0 selects a free port.

    Raises CannotStartError.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise CannotStartError(bind_error_text(settings, error)) from error
    listener.listen(128)
    return listener


def bind_error_text(settings: Settings, error: OSError) -> str:
    """Say why the port cannot be bound, and what to do."""
    text = f"port {settings.port} of {settings.host} cannot be bound ({error.strerror})"
    if error.errno == errno.EADDRINUSE:
        return f"{text}: is another Treadle running? Choose another port with --port or TREADLE_PORT"
    if error.errno == errno.EACCES and settings.port < UNPRIVILEGED:
        return (
            f"{text}: ports below {UNPRIVILEGED} are reserved for the superuser. "
            "Choose another port with --port or TREADLE_PORT"
        )
    return f"{text}: check TREADLE_HOST and TREADLE_PORT (--port)"


async def supervise(
    settings: Settings,
    urls: tuple[str, str],
    stores: Sequence[StoreProcess],
    listener: socket.socket,
    prepare: Callable[[], Awaitable[None]],
    ready: Callable[[], None],
    stopping: Callable[[], None],
) -> None:
    """Run processes and embedded stores until a signal; a second signal kills the processes.

    Args:
        urls: (database URL, Redis URL)
        stores: The embedded stores, already started.
        listener: The bound socket of the server.
        prepare: Makes the stores ready. The processes use no store before it has returned.
        ready: Called when /health reports that the server is healthy.
        stopping: Called when a signal has arrived.

    Raises:
        CannotStartError: A process does not start, or `prepare` has failed.
        EmbeddedError: A store died and does not become ready again.
    """
    stop, force = _signals()
    with start_gate() as gate:
        children = _children(settings, urls, stores, listener, gate.descriptor)
        tasks = [asyncio.create_task(child.run_until_stopped(), name=child.name) for child in children]
        try:
            await _first(stop, asyncio.ensure_future(prepare()), tasks)
            if not stop.is_set():
                tasks += _restart_stores(stores)
                gate.open()
                for child in children:
                    child.gate_opened()
                await _first(stop, asyncio.create_task(_wait_until_healthy(listener)), tasks)
            if not stop.is_set():
                ready()
                await _first(stop, asyncio.create_task(stop.wait()), tasks)
            stopping()
        except EmbeddedError:
            force.set()  # Without the store, workers cannot release their runs.
            raise
        finally:
            # The embedded stores run until the workers have released their runs.
            await asyncio.gather(*(child.stop(force, settings.drain_s + STOP_S) for child in children))
            await _cancel(tasks)


def _restart_stores(stores: Sequence[StoreProcess]) -> list["asyncio.Task[None]"]:
    return [asyncio.create_task(restart_store(store, event), name=store.name) for store, event in _child_events(stores)]


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Return (stop, force): the first signal sets `stop`, and the second one sets `force`."""
    stop, force = asyncio.Event(), asyncio.Event()

    def handle_signal() -> None:
        (force if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            asyncio.get_running_loop().add_signal_handler(number, handle_signal)
    return stop, force


def _child_events(stores: Sequence[StoreProcess]) -> list[tuple[StoreProcess, asyncio.Event]]:
    """Pair each store with an event that is set whenever any child process has ended."""
    events = [(store, asyncio.Event()) for store in stores]

    def handle_child_ended() -> None:
        for _, event in events:
            event.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, handle_child_ended)
    return events


def _children(
    settings: Settings, urls: tuple[str, str], stores: Sequence[StoreProcess], listener: socket.socket, gate: int
) -> list[Child]:
    environment = {**os.environ, "TREADLE_DATABASE_URL": urls[0], "TREADLE_REDIS_URL": urls[1]}
    environment |= {"TREADLE_PORT": str(listener.getsockname()[1]), "TREADLE_HOST": settings.host}
    environment |= {"TREADLE_DATA_DIR": str(settings.data_dir.absolute())}
    # Embedded stores die with this process. A worker cannot release its runs then, so it ends at
    # once.
    orphaned = ORPHANED if any(store.url == urls[0] for store in stores) else signal.SIGTERM
    socket_fd = listener.fileno()
    gate_option = ["--gate", str(gate)]
    server_arguments = ["server", *gate_option, "--listener", str(socket_fd)]
    server = Child("server", server_arguments, environment, orphaned, (gate, socket_fd))
    return [
        server,
        *(
            Child(
                f"worker {number + 1}",
                ["worker", *gate_option],
                environment | _metrics_port(settings, number),
                orphaned,
                (gate,),
            )
            for number in range(settings.workers)
        ),
    ]


def _metrics_port(settings: Settings, number: int) -> dict[str, str]:
    """Return the variable with the metrics port of a worker, counted from 0; each has its own."""
    return {} if settings.metrics_port is None else {"TREADLE_METRICS_PORT": str(settings.metrics_port + number)}


async def _first(stop: asyncio.Event, task: "asyncio.Task[Any]", others: Sequence["asyncio.Task[None]"]) -> None:
    """Wait until `task` has ended or `stop` is set.

    Raises the exception of any task that has failed.
    """
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([task, stopped, *others], return_when=asyncio.FIRST_COMPLETED)
    try:
        for one in done:
            one.result()
    finally:
        await _cancel([task, stopped])


async def _cancel(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_until_healthy(listener: socket.socket) -> None:
    # Imported only now, so that the import does not delay the start of the slowest processes.
    from app.supervisor.health import wait_until_healthy

    await wait_until_healthy(listener)
