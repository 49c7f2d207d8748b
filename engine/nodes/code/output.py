"""What `process` returns, as long as it is inside the sandbox: there it can be told what is no JSON, and where.

On its way out a function, a range or a list that contains itself becomes a text like any other. So the sandbox is asked to write
JSON first; where it cannot, it is asked for the place. What comes out is checked again, as every node's output is.
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
"""Lines from the end of the author's code to the check."""
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
            return here + ' has a key that is a ' + type(key).__name__ + ' and no text'
        step = '.' + key if kind is dict else '[' + str(key) + ']'
        found = __treadle_find__(value[key], path + step, above + [value])
        if found:
            return found

__treadle_find__({OUTPUT}, '', [])
"""


def with_call(code: str) -> str:
    """The author's lines come first, so that line numbers are theirs."""
    return code + _CALL


async def not_json(session: AsyncMontySession, error: MontyRuntimeError, code: str) -> NodeFailure | None:
    """None if `error` is one of the code itself."""
    frames = error.traceback()
    if not frames or frames[-1].line != code.count("\n") + 1 + _CHECK_LINE:
        return None
    if isinstance(error.exception(), MemoryError | TimeoutError):
        return None
    try:
        found = await session.feed_run(_FIND)
    except MontyRuntimeError:
        found = None  # the code has made something else of `type` or `len`
    return NodeFailure("OUTPUT", (found or f"what `process` returned is no JSON: {error}")[:2000])
