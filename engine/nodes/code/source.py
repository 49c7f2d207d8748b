"""Reads the author's Python without running it: syntax, parameters of `process`, positions."""

import ast
import builtins
import re
import warnings
from collections.abc import Callable, Collection
from functools import lru_cache
from threading import Lock

from pydantic_core import PydanticCustomError

from engine.nodes.code.classes import uncalled_method

PROCESS = "process"
_SURROGATE = re.compile("[\ud800-\udfff]")
_parse_lock = Lock()
"""CPython up to 3.11.8 counts the depth of all threads together, so parallel parsing may fail.

See gh-106905.
"""
_NO_TEXTS = (ast.Constant, ast.Dict, ast.List, ast.Set, ast.Tuple, ast.Lambda, ast.ListComp, ast.DictComp, ast.SetComp)
"""Expressions whose value is no text. A constant text is not among the arguments that are refused."""


def source_error(message: str, line: int | None = None, column: int | None = None) -> PydanticCustomError:
    """Return an error of the field `code`, with a position from 1."""
    return PydanticCustomError("code", "{message}", {"message": message, "line": line, "column": column})


def _call_error(message: str, process: ast.FunctionDef) -> PydanticCustomError:
    """Return an error of the whole config; `at` is the field that has the line."""
    return PydanticCustomError(
        "code", "{message}", {"message": message, "line": process.lineno, "column": 1, "at": ["code"]}
    )


@lru_cache(maxsize=1024)
def process_of(code: str) -> ast.FunctionDef | None:
    """Return the top-level `def process`, or None if `process` is defined in another way.

    Raises:
        PydanticCustomError: The source cannot be parsed, or does not define `process`.
    """
    module = parse_source(code)
    if returned := _return_outside(module):
        raise source_error("`return` outside of a function", returned.lineno, returned.col_offset + 1)
    if (key := _ambiguous_key(module)) is not None:
        message = (
            "the object has two equal keys of different types: Python keeps the first one and the sandbox the last"
        )
        raise source_error(f"{message}, so remove one, or write the keys as texts", key.lineno, key.col_offset + 1)
    if (text := _half_character(module)) is not None:
        message = (
            "the text has half a character, which the sandbox would replace: write the whole one, as in '\\U0001f600'"
        )
        raise source_error(message, text.lineno, text.col_offset + 1)
    if (method := uncalled_method(module)) is not None:
        message = f"the sandbox never calls `{method.name}` of a class: give the method a name of its own, and call it"
        raise source_error(message, method.lineno, method.col_offset + 1)
    for statement in reversed(module.body):
        if isinstance(statement, ast.AsyncFunctionDef) and statement.name == PROCESS:
            raise source_error("`process` must not be an async function", statement.lineno, 1)
        if isinstance(statement, ast.FunctionDef) and statement.name == PROCESS:
            return statement
    if not any(getattr(node, "id", getattr(node, "name", None)) == PROCESS for node in ast.walk(module)):
        raise source_error("the code must define a function `process`")
    return None


def check_arguments(process: ast.FunctionDef, names: Collection[str]) -> None:
    """Check that the function can be called with these argument names.

    Raises:
        PydanticCustomError: A parameter is missing or unknown, or positional-only.
    """
    arguments = process.args
    parameters = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]
    if arguments.posonlyargs:
        raise _call_error("`process` is called with named arguments: remove the `/`", process)
    if arguments.kwarg is None and (unknown := sorted(set(names) - set(parameters))):
        raise _call_error(f"`process` has no parameter `{unknown[0]}`, which input_mapping sets", process)
    positional = [None] * (len(arguments.args) - len(arguments.defaults))
    defaults = [*positional, *arguments.defaults, *arguments.kw_defaults]
    required = [name for name, default in zip(parameters, defaults, strict=True) if default is None]
    if missing := [name for name in required if name not in names]:
        raise _call_error(f"`process` needs `{missing[0]}`, which input_mapping does not set", process)


def lines_where(code: str, matches: Callable[[ast.AST], bool]) -> list[int]:
    """Return the lines of the matching nodes of the syntax tree. The source must be valid."""
    return sorted(
        {
            node.lineno
            for node in ast.walk(parse_source(code))
            if isinstance(node, ast.expr | ast.stmt) and matches(node)
        }
    )


def parse_source(code: str) -> ast.Module:
    """Parse a source. Raises PydanticCustomError with the position."""
    try:
        with _parse_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except SyntaxError as error:
        raise source_error(error.msg, error.lineno, error.offset) from error
    except (RecursionError, MemoryError) as error:
        raise source_error("the code is nested too deeply") from error


def _return_outside(module: ast.Module) -> ast.Return | None:
    """Find a `return` outside of functions.

    The sandbox would end the module there and never call `process`.
    """
    stack: list[ast.AST] = [*module.body]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Return):
            return node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            stack.extend(ast.iter_child_nodes(node))
    return None


def _ambiguous_key(module: ast.Module) -> ast.Constant | None:
    """Find a key in an object, such as the `True` of `{1: …, True: …}`, that equals one of another type."""
    for node in ast.walk(module):
        types: dict[object, type] = {}
        for key in node.keys if isinstance(node, ast.Dict) else ():
            if isinstance(key, ast.Constant) and types.setdefault(key.value, type(key.value)) is not type(key.value):
                return key
    return None


def _half_character(module: ast.Module) -> ast.Constant | None:
    """Find a text with a surrogate, such as `'\\ud83d'`, of which the sandbox makes U+FFFD."""
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SURROGATE.search(node.value):
            return node
    return None


def never_makes_exception(node: ast.AST) -> bool:
    """Return whether `has_other_arguments` is certain: several arguments, or one that is no text."""
    if not has_other_arguments(node) or not isinstance(node, ast.Call):
        return False
    is_one = len(node.args) == 1 and not node.keywords
    return not is_one or isinstance(node.args[0], _NO_TEXTS)


def has_other_arguments(node: ast.AST) -> bool:
    """Return whether this call makes an exception with something else than one string."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return False
    kind = getattr(builtins, node.func.id, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        return False
    argument = node.args[0] if len(node.args) == 1 and not node.keywords else None
    is_text = isinstance(argument, ast.JoinedStr | ast.Call) or isinstance(getattr(argument, "value", None), str)
    return bool(node.args or node.keywords) and not is_text
