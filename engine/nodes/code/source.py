"""The author's Python, looked at and not run: whether it can be read, what its `process` takes, where something stands."""

import ast
import warnings
from collections.abc import Callable, Collection
from functools import lru_cache
from threading import Lock

from pydantic_core import PydanticCustomError

PROCESS = "process"
_one_at_a_time = Lock()
"""CPython up to 3.11.8 counts depth for all threads together: two that parse at once may fail (gh-106905)."""


def wrong_code(message: str, line: int | None = None, column: int | None = None) -> PydanticCustomError:
    return PydanticCustomError("code", "{message}", {"message": message, "line": line, "column": column})


def _wrong_call(message: str, process: ast.FunctionDef) -> PydanticCustomError:
    """Said of the config as a whole; `at` is where the line is."""
    return PydanticCustomError(
        "code", "{message}", {"message": message, "line": process.lineno, "column": 1, "at": ["code"]}
    )


@lru_cache(maxsize=1024)
def process_of(code: str) -> ast.FunctionDef | None:
    """The top-level `def process`; None if it comes into being in another way. Raises PydanticCustomError."""
    module = _tree(code)
    if returned := _return_outside(module):
        raise wrong_code("`return` stands outside of a function", returned.lineno, returned.col_offset + 1)
    for statement in reversed(module.body):
        if isinstance(statement, ast.AsyncFunctionDef) and statement.name == PROCESS:
            raise wrong_code("`process` must be a plain function, not an async one", statement.lineno, 1)
        if isinstance(statement, ast.FunctionDef) and statement.name == PROCESS:
            return statement
    if not any(getattr(node, "id", getattr(node, "name", None)) == PROCESS for node in ast.walk(module)):
        raise wrong_code("the code must define a function `process`")
    return None


def check_arguments(process: ast.FunctionDef, given: Collection[str]) -> None:
    """Whether it can be called with these names. Raises PydanticCustomError."""
    arguments = process.args
    named = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]
    if arguments.posonlyargs:
        raise _wrong_call("`process` is called with named arguments; take away the `/`", process)
    if arguments.kwarg is None and (unknown := sorted(set(given) - set(named))):
        raise _wrong_call(f"`process` has no parameter `{unknown[0]}`, which input_mapping gives", process)
    positional = [None] * (len(arguments.args) - len(arguments.defaults))
    defaults = [*positional, *arguments.defaults, *arguments.kw_defaults]
    needed = [name for name, default in zip(named, defaults, strict=True) if default is None]
    if missing := [name for name in needed if name not in given]:
        raise _wrong_call(f"`process` needs `{missing[0]}`, which input_mapping does not give", process)


def lines_where(code: str, holds: Callable[[ast.AST], bool]) -> list[int]:
    """The lines on which something stands, of code that can be read."""
    return sorted(
        {node.lineno for node in ast.walk(_tree(code)) if isinstance(node, ast.expr | ast.stmt) and holds(node)}
    )


def _tree(code: str) -> ast.Module:
    try:
        with _one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except SyntaxError as wrong:
        raise wrong_code(wrong.msg, wrong.lineno, wrong.offset) from wrong
    except (RecursionError, MemoryError) as wrong:
        raise wrong_code("the code is nested too deeply") from wrong


def _return_outside(module: ast.Module) -> ast.Return | None:
    """The sandbox would take it for the end of the module, and `process` would never be called."""
    work: list[ast.AST] = [*module.body]
    while work:
        node = work.pop()
        if isinstance(node, ast.Return):
            return node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            work.extend(ast.iter_child_nodes(node))
    return None
