"""Corrects functions of the sandbox's Python that differ from CPython without an error.

`round` gives another result for some amounts: it scales by a power of ten, and CPython rounds the
exact value (as formatting does, also in the sandbox). Functions of `re` skip an empty match after
another match. A store under an equal key replaces the key (dict_keys.py). The corrected functions
are defined before the author's code runs. Calls of `re` are redirected to functions with names of
the same length, so that positions in messages stay.
"""

import ast
import re
from functools import lru_cache
from typing import NamedTuple

from engine.nodes.code.dict_keys import Insertions, insertions
from engine.nodes.code.source import parse_source

_ROUND = """
__treadle_round__ = round
def round(number, ndigits=None):
    if type(number) is not float or type(ndigits) is not int or ndigits > 323 or ndigits < -308:
        return __treadle_round__(number, ndigits)
    if number != number or number - number != 0:
        return number
    if ndigits >= 0:
        return number if abs(number) >= 2.0 ** 53 else float(f'{number:.{ndigits}f}')
    whole, unit = abs(int(number)), 10 ** -ndigits
    rest = whole % unit
    is_up = rest * 2 > unit or (rest * 2 == unit and (abs(number) != whole or whole // unit % 2 == 1))
    rounded = float(whole - rest + (unit if is_up else 0))
    return -rounded if str(number)[0] == '-' else rounded
"""
_RE = """
import re as __treadle_re__
def __treadle_check__(name, pattern, string, flags):
    if __treadle_re__.search(pattern, '', flags) is None:
        return
    for found in __treadle_re__.finditer(pattern, string, flags):
        if found.end() > found.start():
            shown = pattern if type(pattern) is str else pattern.pattern
            raise ValueError(
                're.' + name + ' gives another result here than in Python for the pattern ' + repr(shown)
                + ', because it also matches the empty text: let it match at least one character, such as `+` for `*`'
            )
def _refindall(pattern, string, flags=0):
    __treadle_check__('findall', pattern, string, flags)
    return __treadle_re__.findall(pattern, string, flags)
def _refinditer(pattern, string, flags=0):
    __treadle_check__('finditer', pattern, string, flags)
    return __treadle_re__.finditer(pattern, string, flags)
def _resplit(pattern, string, maxsplit=0, flags=0):
    __treadle_check__('split', pattern, string, flags)
    return __treadle_re__.split(pattern, string, maxsplit, flags)
def _resub(pattern, repl, string, count=0, flags=0):
    if repl != '':
        __treadle_check__('sub', pattern, string, flags)
    return __treadle_re__.sub(pattern, repl, string, count, flags)
"""
_REDIRECTED = frozenset(["findall", "finditer", "split", "sub"])
_ROUND_CALL = re.compile(r"\bround\b")
_STORES = re.compile(r"\]|\bdict\b|\{|Counter|\|")
"""What code contains that stores keys."""


class Correction(NamedTuple):
    """The code to run, and the code to run before it: None if there is nothing to correct."""

    source: str
    prelude: str | None
    insertions: Insertions

    def column(self, code: str, line: int, column: int) -> int:
        """Return the column in the author's code, from 1, for a column of a line of `source`."""
        found = len(self.source.split("\n")[line - 1][: column - 1].encode())
        inserted = 0
        for start, text in self.insertions.get(line, ()):
            if found <= start + inserted:
                break
            inserted += min(len(text.encode()), found - start - inserted)
        return len(code.split("\n")[line - 1].encode()[: found - inserted].decode()) + 1


@lru_cache(maxsize=256)
def corrected(code: str) -> Correction:
    """Return the code to run, with all lines unchanged, and the code to run before it.

    Code that cannot be parsed is unchanged.
    """
    prelude = _ROUND if _ROUND_CALL.search(code) else ""
    redirected = _redirect(code) if "re." in code else code
    if redirected != code:
        prelude += _RE
    added, functions = insertions(parse_source(code)) if _STORES.search(code) else ({}, "")
    return Correction(_inserted(redirected, added), (prelude + functions) or None, added)


def _inserted(code: str, added: Insertions) -> str:
    lines = code.encode().split(b"\n")
    for number, texts in added.items():
        line = lines[number - 1]
        for column, text in reversed(texts):
            line = line[:column] + text.encode() + line[column:]
        lines[number - 1] = line
    return b"\n".join(lines).decode()


def _redirect(code: str) -> str:
    """Replace `re.sub` by `_resub` and so on, where `re` is the module."""
    module = parse_source(code)
    if not _imports_re(module):
        return code
    lines = code.encode().split(b"\n")
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "re":
            name, line = f"re.{node.attr}".encode(), lines[node.lineno - 1]
            start, end = node.col_offset, node.col_offset + len(name)
            if node.attr in _REDIRECTED and line[start:end] == name:
                lines[node.lineno - 1] = line[:start] + b"_re" + node.attr.encode() + line[end:]
    return b"\n".join(lines).decode()


def _imports_re(module: ast.Module) -> bool:
    """Tell whether `import re` binds the name, and nothing else does."""
    names = (alias for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names)
    bindings = (node.id for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    arguments = (node.arg for node in ast.walk(module) if isinstance(node, ast.arg))
    is_bound = any(name == "re" for name in (*bindings, *arguments))
    return not is_bound and any(alias.name == "re" and alias.asname is None for alias in names)
