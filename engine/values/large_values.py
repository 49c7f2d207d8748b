"""Work on large values outside of the event loop: checks and redaction.

The largest value has 8 MiB. To check it takes half a second, and to redact many secrets in it takes
longer. In a suspendable coroutine (engine/isolation/suspension.py) a thread does it; small values
are handled at once. The module has no state.
"""

from collections.abc import Callable
from typing import TypeVar

from engine.isolation.computation import computed
from engine.types import JSON

ResultT = TypeVar("ResultT")
LARGE = 64 * 1024
"""The size from which a value is large, in the unit of storable.MAX_SIZE. Its check takes 4 ms."""


def off_loop(function: Callable[[JSON], ResultT], value: JSON) -> ResultT:
    """Call a function with a value, in a thread if the value is large. Nothing may change the value."""
    return computed(function, value) if is_large(value) else function(value)


def is_large(value: JSON) -> bool:
    """Tell whether a value is large. It reads only as much of it as is needed to know this."""
    size, stack = 0, [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is str:
            size += len(item)
        elif kind is list or kind is dict:
            size += 4 * len(item)
            if size <= LARGE:
                stack.extend(item if kind is list else [*item, *item.values()])
        if size > LARGE:
            return True
    return False
