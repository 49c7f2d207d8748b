"""Threads that serve the work of several projects in turn; see turns.py.

Used for what would block the event loop: requests to helper processes, and long computations. The
threads start when they are needed. They are daemons, so they never delay the end of the process.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

from engine.isolation.turns import FairQueue, current_owner

ResultT = TypeVar("ResultT")
P = ParamSpec("P")
Work = tuple["Future[Any]", Callable[[], Any]]


class FairThreads:
    """A fixed number of threads.

    Args:
        name: The name of the threads.
        count: How many run at once.
        share: How many of them one project may use at once.
    """

    def __init__(self, name: str, count: int, share: int) -> None:
        self._name, self._count, self._share = name, count, share
        self._reset()
        os.register_at_fork(after_in_child=self._reset)  # The child process has no threads.

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._queue = FairQueue[Work](self._share)
        self._started = self._idle = self._waiting = 0

    def submit(self, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> "Future[ResultT]":
        """Queue a call for the current owner, with the context variables of the caller.

        Raises:
            QueueFull: The limit of the owner is reached.
        """
        future: Future[ResultT] = Future()
        work = partial(copy_context().run, partial(function, *args, **kwargs))
        with self._changed:
            self._queue.put(current_owner.get(), (future, work))
            self._waiting += 1
            if self._waiting > self._idle and self._started < self._count:
                self._started += 1
                threading.Thread(target=self._serve, name=f"{self._name} {self._started}", daemon=True).start()
            else:
                self._changed.notify()
        return future

    async def run(self, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        """Queue a call and await its result. Raises QueueFull as `submit` does."""
        return await asyncio.wrap_future(self.submit(function, *args, **kwargs))

    def _serve(self) -> None:
        while True:
            with self._changed:
                while (taken := self._queue.take()) is None:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                self._waiting -= 1
            project, (future, work) = taken
            _finish(future, work)
            del future, work, taken
            with self._changed:
                self._queue.give_back(project)
                self._changed.notify()


def _finish(future: "Future[Any]", work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
