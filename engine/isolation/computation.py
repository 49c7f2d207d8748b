"""Long computations in this process, outside of the event loop: large specs, large values.

Python executes one thread at a time. The event loop leaves the interpreter at every system call, and
waits for it again while a thread computes: one switch interval, in each of its passes. `switch_often`
makes that interval short, so threads delay it little, however long they compute. Nothing is stored.
"""

import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from engine.isolation import suspension
from engine.isolation.threads import FairThreads

ResultT = TypeVar("ResultT")
P = ParamSpec("P")
THREADS = 2
"""Computations at a time. One project has at most one."""
SWITCH_S = 0.0005
"""Seconds after which Python changes the thread, instead of 5 ms. A request needs 10 to 30 passes of the
event loop, and waits so long in each of them."""
_threads = FairThreads("computation", THREADS, 1)


def switch_often() -> None:
    """Let the threads of this process take turns more often. Call it in a process with an event loop."""
    sys.setswitchinterval(SWITCH_S)


async def compute(function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
    """Compute in a thread, when it is the turn of the current owner.

    Raises:
        QueueFull: The limit of the owner is reached.
    """
    return await _threads.run(function, *args, **kwargs)


def computed(function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
    """Compute in a thread for a synchronous function; see suspension.result_of.

    Outside of a suspendable coroutine it computes at once.
    """
    if not suspension.is_suspendable():
        return function(*args, **kwargs)
    return suspension.result_of(_threads.submit(function, *args, **kwargs))
