"""Corrects functions of the sandbox's Python that differ from CPython without an error.

`round` gives another result for some amounts: it scales by a power of ten, and CPython rounds the
exact value (as formatting does, also in the sandbox). Functions of `re` skip
matches (regular_expressions.py). A store under an equal key replaces the key (dict_keys.py). The
corrected functions are defined before the author's code runs. Calls of members of modules are
redirected to functions with names of the same length, so that positions in messages stay.
"""

import ast
import re
from functools import lru_cache
from typing import NamedTuple

from engine.nodes.code.dict_keys import Insertions, insertions
from engine.nodes.code.regular_expressions import FUNCTIONS, NAMES
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
    redirected, functions = _redirect(code) if "re" in code else (code, "")
    prelude += functions
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


def _redirect(code: str) -> tuple[str, str]:
    """Replace `re.sub` by `_resub` and so on, where `re` is the module, also under another name.

    Returns:
        The code, and the source of what it uses now.
    """
    module = parse_source(code)
    modules = _names_of_re(module)
    lines, names = code.encode().split(b"\n"), set[str]()
    for node in ast.walk(module) if modules else ():
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules):
            continue
        alias, line, start = node.value.id, lines[node.lineno - 1], node.col_offset
        written = f"{alias}.{node.attr}".encode()
        end = start + len(written)
        if node.attr in NAMES and line[start:end] == written:
            lines[node.lineno - 1] = line[:start] + b"_" + written.replace(b".", b"") + line[end:]
            names.add(f"_{alias}{node.attr} = _re{node.attr}\n")
    return b"\n".join(lines).decode(), FUNCTIONS + "".join(sorted(names)) if names else ""


def _names_of_re(module: ast.Module) -> frozenset[str]:
    """Return the names that `import` binds to the module `re`, and that nothing else binds."""
    nodes = list(ast.walk(module))
    aliases = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    others = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    others |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    others |= {alias.asname or alias.name for alias in aliases if alias.name != "re"}
    return frozenset(alias.asname or "re" for alias in aliases if alias.name == "re") - others
