"""A special method of a class has the effect that it has in CPython, or the source is refused."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_core import PydanticCustomError
from pydantic_monty import AsyncMonty

from engine.nodes.code.classes import UNCALLED_METHODS
from engine.nodes.code.source import process_of
from tests.engine.nodes.code.test_python import run_code

# fmt: off
BINARY = {
    "add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
}
# fmt: on
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
USES: dict[str, tuple[str, str]] = {
    **{f"__{name}__": ("other", f"a {sign} 1") for name, sign in (BINARY | COMPARISONS).items()},
    **{f"__r{name}__": ("other", f"1 {sign} a") for name, sign in BINARY.items()},
    **{f"__i{name}__": ("other", "changed(a)") for name in BINARY},
    **{f"__{name}__": ("", f"{name}(a)") for name in ("abs", "bool", "float", "int", "len", "repr", "reversed", "str")},
    "__neg__": ("", "-a"),
    "__pos__": ("", "+a"),
    "__invert__": ("", "~a"),
    "__index__": ("", "[5, 6, 7][a]"),
    "__hash__": ("", "hash(a)"),
    "__call__": ("", "a()"),
    "__bytes__": ("", "bytes(a)"),
    "__format__": ("spec", "f'{a:x}'"),
    "__contains__": ("item", "5 in a"),
    "__getitem__": ("key", "a[4]"),
    "__getattr__": ("name", "a.unknown"),
    "__getattribute__": ("name", "a.unknown"),
    "__iter__": ("", "list(a)"),
    "__round__": ("digits=0", "round(a)"),
    "__divmod__": ("other", "divmod(a, 1)"),
    "__setattr__": ("name, value", "[setattr(a, 'x', 3), a.x]"),
    "__new__": ("", "A()"),
}
"""The parameters of each method, and an expression that calls it. The results are in RESULTS, or 1."""
RESULTS = {
    **dict.fromkeys(("__repr__", "__str__", "__format__"), "'text'"),
    **dict.fromkeys(("__bool__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__contains__"), "True"),
    "__ne__": "False",
    "__float__": "1.5",
    "__bytes__": "b'x'",
    "__iter__": "iter([1, 2])",
    "__reversed__": "iter([2, 1])",
}


def source(name: str) -> str:
    parameters, use = USES[name]
    shown = f"list({use})" if name == "__reversed__" else use
    change = f"    a {BINARY[name[3:-2]]}= 1\n" if use.startswith("changed") else ""
    return (
        f"class A:\n    x = 2\n    def {name}(self{', ' if parameters else ''}{parameters}):\n"
        f"        return {RESULTS.get(name, '1')}\ndef changed(a):\n{change}    return a\n"
        f"def process():\n    a = A()\n    return str([{shown}])"
    )


def of_cpython(code: str) -> Any:
    names: dict[str, Any] = {}
    exec(code, names)
    return names["process"]()


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[AsyncMonty]:
    async with AsyncMonty(min_processes=1, max_processes=1) as pool:
        yield pool


@pytest.mark.parametrize("name", USES)
async def test_a_special_method_does_what_it_does_in_python_or_is_refused(sandbox: AsyncMonty, name: str) -> None:
    code = source(name)
    if name in UNCALLED_METHODS:
        with pytest.raises(PydanticCustomError, match=f"never calls `{name}`"):
            process_of(code)
    else:
        assert await run_code(sandbox, code) == of_cpython(code)
