"""Long computations in this process, outside of the event loop: large specs, large values.

Python executes one thread at a time and changes the thread every 5 ms. So a few threads delay the
event loop by some milliseconds, however long they compute. Nothing is stored.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from engine.isolation import suspension
from engine.isolation.threads import FairThreads

ResultT = TypeVar("ResultT")
P = ParamSpec("P")
THREADS = 2
"""Computations at a time. One project has at most one."""
_threads = FairThreads("computation", THREADS, 1)


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
