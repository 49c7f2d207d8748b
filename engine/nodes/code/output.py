"""Checks inside the sandbox that the value which `process` returns is JSON.

Outside it is too late: a function, a range or a list that contains itself leaves the sandbox as a
plain string. So the sandbox serialises the value first; if that fails, it searches for the path of
the bad value. The output is checked again outside, like that of every node.
"""

from pydantic_monty import AsyncMontySession, MontyRuntimeError

from engine.errors import NodeFailure

ARGUMENTS, OUTPUT = "__treadle_arguments__", "__treadle_output__"
_CALL = f"""

{OUTPUT} = process(**{ARGUMENTS})
import json as __treadle_json__; __treadle_json__.dumps({OUTPUT})
{OUTPUT}
"""
_CHECK_LINE = 3
"""Lines from the end of the author's code to the line that serialises the value."""
_FIND = f"""
def __treadle_find__(value, path, above):
    kind = type(value)
    here = 'the value at ' + path if path else 'the value'
    if kind is int and not -(2**63) <= value < 2**63:
        return here + ' is a whole number beyond 64 bits'
    if value is None or kind is bool or kind is int or kind is float or kind is str:
        return None
    if kind is not dict and kind is not list:
        return here + ' is a ' + kind.__name__ + ', which JSON does not have'
    for one in above:
        if one is value:
            return here + ' contains itself'
    for key in value if kind is dict else range(len(value)):
        if kind is dict and type(key) is not str:
            return here + ' has a key that is a ' + type(key).__name__ + ' and not a string'
        step = '.' + key if kind is dict else '[' + str(key) + ']'
        found = __treadle_find__(value[key], path + step, above + [value])
        if found:
            return found

__treadle_find__({OUTPUT}, '', [])
"""


def with_call(code: str) -> str:
    """Append the call of `process`. The author's code comes first, so its line numbers stay."""
    return code + _CALL


async def json_failure(session: AsyncMontySession, error: MontyRuntimeError, code: str) -> NodeFailure | None:
    """Return the failure if the returned value is no JSON; None if `error` has another cause."""
    frames = error.traceback()
    if not frames or frames[-1].line != code.count("\n") + 1 + _CHECK_LINE:
        return None
    if isinstance(error.exception(), MemoryError | TimeoutError):
        return None
    try:
        message = await session.feed_run(_FIND)
    except MontyRuntimeError:
        message = None  # the code has redefined `type` or `len`
    return NodeFailure("OUTPUT", (message or f"the value that `process` returned is no JSON: {error}")[:2000])
