"""Finds in the author's source what the sandbox's Python lacks, without running it.

docs/spec.md lists it for authors. The tests compare the lists here with the sandbox itself.
"""

import ast
import builtins
import re._parser as sre  # type: ignore[import-not-found]
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.nodes.code.source import never_makes_exception, parse_source
from engine.sdk.node import ConfigWarning

# fmt: off
MODULES = frozenset({
    "asyncio", "base64", "binascii", "bisect", "collections", "copy", "csv", "dataclasses", "datetime", "decimal",
    "functools", "hashlib", "itertools", "json", "math", "os", "os.path", "pathlib", "random", "re", "sys", "time",
    "typing", "unicodedata",
})
"""The modules that the sandbox has."""
MISSING_BUILTINS = frozenset({
    "aiter", "anext", "ascii", "breakpoint", "bytearray", "callable", "classmethod", "compile", "delattr", "dir",
    "exit", "globals", "help", "input", "issubclass", "memoryview", "quit", "staticmethod", "super", "vars",
    "__import__",
})
MISSING_METHODS = frozenset({
    "as_integer_ratio", "bit_count", "bit_length", "difference_update", "format_map", "from_bytes", "fromhex",
    "fromisocalendar", "fromordinal", "fromtimestamp", "intersection_update", "is_integer", "isocalendar", "maketrans",
    "symmetric_difference_update", "timetuple", "to_bytes", "toordinal", "translate", "utcfromtimestamp", "utcnow",
})
"""Methods of built-in types that the sandbox lacks, where no other type has a method of the name."""
MISSING_MEMBERS: dict[str, frozenset[str]] = {
    "collections": frozenset({"ChainMap", "OrderedDict", "UserDict", "UserList", "UserString"}),
    "dataclasses": frozenset({
        "InitVar", "KW_ONLY", "Field", "asdict", "astuple", "fields", "make_dataclass", "replace",
    }),
    "datetime": frozenset({"MAXYEAR", "MINYEAR", "UTC", "tzinfo"}),
    "functools": frozenset({
        "WRAPPER_ASSIGNMENTS", "WRAPPER_UPDATES", "cached_property", "cmp_to_key", "partialmethod", "singledispatch",
        "singledispatchmethod", "total_ordering", "update_wrapper", "wraps",
    }),
    "json": frozenset({"JSONDecoder", "JSONEncoder"}),
    "re": frozenset({
        "L", "LOCALE", "RegexFlag", "T", "TEMPLATE", "U", "UNICODE", "VERBOSE", "X", "purge", "subn", "template",
    }),
}
"""What these modules lack in the sandbox."""
# fmt: on
_SYNTAX: dict[type[ast.AST], str] = {
    ast.Yield: "`yield`: build a list and return it",
    ast.YieldFrom: "`yield from`: build a list and return it",
    ast.Delete: "`del`: use `d.pop(key)`, or assign a new value",
    ast.AsyncFor: "`async for`",
    ast.AsyncWith: "`async with`",
}
if (try_star := getattr(ast, "TryStar", None)) is not None:
    _SYNTAX[try_star] = "`except*`"
_BUILT_IN_TYPES = frozenset(["bytes", "dict", "float", "int", "list", "set", "str", "tuple"])
_METHODS = frozenset(name for kind in (str, list, dict, set) for name in dir(kind) if not name.startswith("_"))
_UNBOUND = frozenset(["fromkeys", "fromhex"])
_ENCODINGS = frozenset(["ascii", "u8", "us-ascii", "utf", "utf-8", "utf8"])
"""The encodings of texts without a byte order that the sandbox has, as Python writes them."""
_EMPTY_MATCHES = frozenset(["findall", "finditer", "split", "sub", "subn"])


@dataclass(frozen=True, slots=True)
class _Source:
    """What the checks of one node need to know of the whole source."""

    code: str
    functions: frozenset[str]
    """The functions that it defines."""
    defined: frozenset[str]
    """The names that it defines or assigns."""
    members: frozenset[str]
    """The names of the attributes and methods of its own objects."""
    modules: Mapping[str, str]
    """The modules that it imports, by the names that it gives them."""
    called: frozenset[ast.expr]
    """The expressions that it calls."""

    @classmethod
    def of(cls, code: str, module: ast.Module) -> "_Source":
        nodes = list(ast.walk(module))
        functions = frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef))
        stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        attributes = {
            node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        }
        imports = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        modules = {alias.asname or alias.name: alias.name for alias in imports}
        called = frozenset(node.func for node in nodes if isinstance(node, ast.Call))
        return cls(code, functions, functions | stored, functions | stored | attributes, modules, called)


def limitations(code: str) -> list[ConfigWarning]:
    """Return what in a source the sandbox lacks or does in another way than CPython, in its order."""
    module = parse_source(code)
    source = _Source.of(code, module)
    found = [
        (node.lineno, node.col_offset + 1, text)
        for node in ast.walk(module)
        if isinstance(node, ast.stmt | ast.expr)
        for text in (*_statement(node), *_name(node, source), *_value(node, source), *_call(node, source))
    ]
    return [
        ConfigWarning(("code",), f"{text} (line {line})", line, column) for line, column, text in sorted(set(found))
    ]


def _lacks(what: str) -> str:
    return f"the sandbox's Python lacks {what}"


def _statement(node: ast.AST) -> Iterator[str]:
    if type(node) in _SYNTAX:
        yield _lacks(_SYNTAX[type(node)])
    elif isinstance(node, ast.ClassDef):
        if node.bases or node.keywords:
            yield _lacks("inheritance and metaclasses: raise a built-in exception, or write the class without a base")
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.decorator_list:
                yield _lacks("decorators of methods, such as `property` and `staticmethod`")
    elif isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]
        for name in names:
            if name not in MODULES:
                yield _lacks(f"the module `{name}`; it has {', '.join(sorted(MODULES))}")
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            yield _lacks(f"`from {node.module} import *`: name what you import")
        if isinstance(node, ast.ImportFrom):
            missing = MISSING_MEMBERS.get(node.module or "", frozenset())
            yield from (_lacks(f"`{node.module}.{alias.name}`") for alias in node.names if alias.name in missing)
        if isinstance(node, ast.ImportFrom) and node.module == "re" and _EMPTY_MATCHES & {a.name for a in node.names}:
            yield "write `import re` and `re.sub(…)`, so that Treadle can check the pattern: some results differ from Python"


def _name(node: ast.AST, source: _Source) -> Iterator[str]:
    if isinstance(node, ast.Name) and node.id in MISSING_BUILTINS and node.id not in source.defined:
        yield _lacks(f"`{node.id}`")
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id not in source.defined:
        kind, method = node.value.id, node.attr
        module = source.modules.get(kind, kind)
        if method in MISSING_MEMBERS.get(module, frozenset()):
            yield _lacks(f"`{module}.{method}`")
        if (
            kind in _BUILT_IN_TYPES
            and method not in _UNBOUND | MISSING_METHODS
            and hasattr(getattr(builtins, kind), method)
        ):
            yield _lacks(f"`{kind}.{method}` as a function: write `lambda value: value.{method}(…)`")


def _value(node: ast.AST, source: _Source) -> Iterator[str]:
    """Find attributes that are no data: methods that are not called, and special attributes."""
    if not isinstance(node, ast.Attribute) or node.attr in source.members:
        return
    if node.attr.startswith("__") and node.attr != "__name__":
        yield _lacks(f"`{node.attr}`")
    owner = node.value.id if isinstance(node.value, ast.Name) else ""
    is_method = node.attr in _METHODS and owner not in _BUILT_IN_TYPES | source.modules.keys() | MODULES
    if is_method and node not in source.called and isinstance(node.ctx, ast.Load):
        yield _lacks(f"methods as values: write `lambda value: ….{node.attr}(value)`")


def _call(node: ast.AST, source: _Source) -> Iterator[str]:
    if not isinstance(node, ast.Call):
        return
    if never_makes_exception(node):
        yield _lacks("exceptions with other arguments than one string: write `ValueError(str(…))`")
    if isinstance(node.func, ast.Name):
        if node.func.id == "next" and node.args and isinstance(node.args[0], ast.GeneratorExp):
            yield _lacks("generators: a generator expression is a list, so write `next(iter([… for …]), None)`")
        name = _constant(node.args[1]) if node.func.id in ("hasattr", "getattr") and len(node.args) > 1 else None
        if name in _METHODS - source.members:
            yield f"`{node.func.id}` finds no methods of built-in types, such as {name!r}: compare `type(…)`"
    elif isinstance(node.func, ast.Attribute):
        if node.func.attr == "dumps" and any(keyword.arg in ("default", "cls") for keyword in node.keywords):
            yield _lacks("`default` and `cls` of `json.dumps`: convert the values first")
        if node.func.attr in MISSING_METHODS:
            yield _lacks(f"the method `{node.func.attr}`")
        if node.func.attr in ("encode", "decode"):
            yield from _encoding(node)
        yield from _regex(node, node.func, source)


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _encoding(node: ast.Call) -> Iterator[str]:
    named = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "encoding")]
    for name in map(_constant, named):
        if isinstance(name, str) and name.lower().replace("_", "-") not in _ENCODINGS:
            yield _lacks(f"the encoding {name!r}: texts are encoded as UTF-8")


def _regex(node: ast.Call, function: ast.Attribute, source: _Source) -> Iterator[str]:
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    if source.modules.get(owner, owner) != "re":
        return
    if function.attr == "sub" and len(node.args) > 1:
        replacement = node.args[1]
        if isinstance(replacement, ast.Lambda) or (
            isinstance(replacement, ast.Name) and replacement.id in source.functions
        ):
            yield _lacks("functions as the replacement of `re.sub`: loop over `re.finditer`")
    pattern = _constant(node.args[0]) if node.args else None
    is_used_later = function.attr == "compile" and any(f".{name}(" in source.code for name in _EMPTY_MATCHES)
    if (
        isinstance(pattern, str)
        and (function.attr in _EMPTY_MATCHES or is_used_later)
        and _matches_empty_and_more(pattern)
    ):
        yield (
            f"the pattern {pattern!r} also matches the empty text, for which results differ from Python: "
            "let it match at least one character, such as `+` for `*`"
        )


def _matches_empty_and_more(pattern: str) -> bool:
    try:
        low, high = sre.parse(pattern).getwidth()
    except (sre.error, RecursionError, OverflowError):
        return False
    return bool(low == 0 and high > 0)
