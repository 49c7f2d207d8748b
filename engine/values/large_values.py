"""Work on large values outside of the event loop: checks and redaction.

The largest value has 8 MiB. To check it takes half a second, and to redact many secrets in it takes
longer. In a suspendable coroutine (engine/isolation/suspension.py) a thread does it; small values
are handled at once. The module has no state.
"""

from collections.abc import Callable
from typing import TypeVar

from engine.isolation import suspension
from engine.isolation.computation import computed
from engine.types import JSON

ResultT = TypeVar("ResultT")
LARGE = 64 * 1024
"""The size from which a value is large, in the unit of storable.MAX_SIZE. Its check takes 4 ms."""


def off_loop(function: Callable[[JSON], ResultT], value: JSON, weight: int = 1) -> ResultT:
    """Call a function with a value, in a thread if the value is large. Nothing may change the value.

    Args:
        function: The function.
        value: Its argument.
        weight: How much more work the function does than a check, for the same value.
    """
    is_off_loop = suspension.is_suspendable() and is_large(value, LARGE // weight)
    return computed(function, value) if is_off_loop else function(value)


def is_large(value: JSON, limit: int = LARGE) -> bool:
    """Tell whether a value is larger than `limit`. It reads only as much of it as is needed."""
    size, stack = 0, [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is str:
            size += len(item)
        elif kind is list or kind is dict:
            size += 4 * len(item)
            if size <= limit:
                stack.extend(item if kind is list else [*item, *item.values()])
        if size > limit:
            return True
    return False
