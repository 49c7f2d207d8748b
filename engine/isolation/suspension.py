"""Lets synchronous code wait for a future while the event loop of its thread goes on.

Templates are rendered by synchronous functions: node types call `ctx.render`, the scheduler decides
edges by conditions. A few templates run in a helper process. The coroutine around such a function
is driven inside a greenlet, so that `result_of`, deep inside, suspends the task, as `await` does.
SQLAlchemy drives its synchronous core by asyncio in the same way. Nothing is stored.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from types import coroutine
from typing import Any, ParamSpec, TypeVar

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

ResultT = TypeVar("ResultT")
P = ParamSpec("P")
MAX_IDLE = 64
"""Idle greenlets that a thread keeps."""


class _Runner(greenlet):  # type: ignore[misc]
    """The greenlet in which suspendable coroutines run, one after the other.

    Its parent is the greenlet of the task that drives the present one. To start a greenlet costs
    more than ten switches, so an idle one is used again.
    """

    def __init__(self) -> None:
        super().__init__(self._serve)

    def _serve(self, target: Coroutine[Any, Any, Any]) -> None:
        while True:
            target = self._pass(self._run(target))

    def _run(self, target: Coroutine[Any, Any, Any]) -> "_End":
        """Drive a coroutine: pass what it yields to the driver, and what the driver sends to it."""
        advance: Callable[[Any], Any] = target.send
        argument: Any = None
        while True:
            try:
                step = advance(argument)
            except StopIteration as end:
                return _End(end.value)
            except BaseException as error:
                return _End(None, error)
            try:
                argument, advance = self._pass(step), target.send
            except BaseException as error:
                argument, advance = error, target.throw

    def _pass(self, step: Any) -> Any:
        assert self.parent is not None
        return self.parent.switch(step)

    def resume(self, reply: Any) -> Any:
        """Continue with a reply. Returns the next step."""
        self.parent = getcurrent()
        return self.switch(reply)

    def fail(self, error: BaseException) -> Any:
        """Continue with an exception. Returns the next step."""
        self.parent = getcurrent()
        return self.throw(error)


class _End:
    """The end of a coroutine: its result, or its exception."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | None = None) -> None:
        self.value, self.error = value, error


class _Wait:
    """What a runner passes to its driver if a synchronous function waits for a future."""

    __slots__ = ("future",)

    def __init__(self, future: "asyncio.Future[Any]") -> None:
        self.future = future


class _IdleRunners(threading.local):
    """The runners of a thread that run nothing: a greenlet belongs to its thread."""

    def __init__(self) -> None:
        self.runners: list[_Runner] = []


_idle = _IdleRunners()


@coroutine
def suspendable(target: Coroutine[Any, Any, ResultT]) -> Generator[Any, Any, ResultT]:
    """Await a coroutine, in which synchronous functions may call `result_of`.

    Inside another suspendable coroutine of the same task this costs nothing.
    """
    if isinstance(getcurrent(), _Runner):
        return (yield from target.__await__())
    runner = _idle.runners.pop() if _idle.runners else _Runner()
    runner.gr_context = getcurrent().gr_context
    step = runner.resume(target)
    while type(step) is not _End:
        try:
            reply = (yield from step.future.__await__()) if type(step) is _Wait else (yield step)
        except BaseException as error:
            step = runner.fail(error)
        else:
            step = runner.resume(reply)
    runner.gr_context = None
    if len(_idle.runners) < MAX_IDLE:
        _idle.runners.append(runner)
    if step.error is not None:
        raise step.error
    return step.value  # type: ignore[no-any-return]


async def call(function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
    """Call a synchronous function, in which `result_of` suspends this task."""

    async def target() -> ResultT:
        return function(*args, **kwargs)

    return await suspendable(target())


class InterruptibleWaits:
    """The waits of one piece of work, such as a run, which end together when it is to stop."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[Any]] = set()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Add the waits inside the block, and inside the tasks that it creates."""
        token = _waits.set(self)
        try:
            yield
        finally:
            _waits.reset(token)

    def interrupt(self, error: Exception) -> None:
        """End the present waits with an exception. What they wait for is cancelled if it has not begun."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)

    def add(self, awaited: "asyncio.Future[ResultT]") -> "asyncio.Future[ResultT]":
        """Return a future that ends as `awaited` does, or by `interrupt`."""
        waiter: asyncio.Future[ResultT] = awaited.get_loop().create_future()
        self._waiters.add(waiter)

        def end(_: object) -> None:
            self._waiters.discard(waiter)
            if awaited.cancelled():
                waiter.cancel()
            elif (error := awaited.exception()) is None:
                if not waiter.done():
                    waiter.set_result(awaited.result())
            elif not waiter.done():
                waiter.set_exception(error)

        awaited.add_done_callback(end)
        waiter.add_done_callback(lambda _: awaited.cancel())
        return waiter


_waits: ContextVar[InterruptibleWaits | None] = ContextVar("interruptible_waits", default=None)


def is_suspendable() -> bool:
    """Tell whether `result_of` would suspend the task instead of the thread."""
    return isinstance(getcurrent(), _Runner)


def result_of(future: "Future[ResultT]") -> ResultT:
    """Return the result of a future of a thread.

    Inside a suspendable coroutine only the task waits. In a thread without an event loop the thread waits.

    Raises:
        asyncio.CancelledError: The task was cancelled. The future is cancelled too, if it waits.
        Exception: That of `InterruptibleWaits.interrupt`.
        RuntimeError: It would block an event loop, because the caller does not use `call`.
    """
    runner = getcurrent()
    if not isinstance(runner, _Runner):
        _check_no_loop(future)
        return future.result()
    assert runner.parent is not None
    awaited, waits = asyncio.wrap_future(future), _waits.get()
    return runner.parent.switch(_Wait(awaited if waits is None else waits.add(awaited)))  # type: ignore[no-any-return]


def _check_no_loop(future: "Future[Any]") -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    future.cancel()
    raise RuntimeError("synchronous code on an event loop would wait for a helper: run it by suspension.call")
